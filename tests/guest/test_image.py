"""Kernel files: what they say they are."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.guest import image
from dmaproof.guest.image import Image


def bzimage(release: str = "7.2.13") -> bytes:
    """The parts of a setup header that tell what it is (Documentation/arch/x86/boot.rst)."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x300 - 0x200)
    banner = f"{release} (who@where) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(banner)] = banner
    return bytes(head)


def arm64_image(release: str = "7.2.13-arm64") -> bytes:
    head = bytearray(64)
    head[56:60] = b"ARM\x64"
    return bytes(head) + b"\0" * 100 + f"Linux version {release} (who@where) #1".encode()


def zboot(payload: bytes) -> bytes:
    head = bytearray(64)
    head[0:2], head[4:8], head[24:29] = b"MZ", b"zimg", b"gzip\0"
    struct.pack_into("<II", head, 8, 64, len(payload))
    return bytes(head) + payload + b"trailer"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bzimage("6.1.0-40-amd64"), Image("x86_64", "6.1.0-40-amd64")),
        (arm64_image("6.12"), Image("aarch64", "6.12")),
        (gzip.compress(arm64_image("6.12"), mtime=0), Image("aarch64", "6.12")),
        (zboot(gzip.compress(arm64_image("6.12"), mtime=0)), Image("aarch64", "6.12")),
        (arm64_image("").replace(b"Linux version", b"Other"), Image("aarch64", None)),
    ],
)
def test_what_a_kernel_is(content: bytes, expected: Image, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(content)
    assert image.read(tmp_path / "vmlinuz") == expected


def refusal_or_image(path: Path) -> str | Image:
    try:
        return image.read(path)
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize("whole", [bzimage(), zboot(gzip.compress(arm64_image(), mtime=0))])
def test_a_kernel_cut_short_anywhere_is_refused_by_name_or_still_one(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for nbytes in range(len(whole)):
        path.write_bytes(whole[:nbytes])
        found = refusal_or_image(path)
        assert isinstance(found, Image) or found.startswith(f"{path} is no kernel")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000) | st.builds(lambda rest: b"MZ\0\0zimg" + rest, st.binary(max_size=64)))
def test_anything_else_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some file"
    path.write_bytes(content)
    assert str(refusal_or_image(path)).startswith(f"{path} is no kernel")


def test_a_kernel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the kernel .*/none: No such file"):
        image.read(tmp_path / "none")
