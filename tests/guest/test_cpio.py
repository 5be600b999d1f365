"""Archives are read back by cpio itself, and by the kernel in test_boot_initramfs.py."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.guest import cpio
from dmaproof.guest.cpio import Entry, packed

words = st.text("abc.-_é ", min_size=1, max_size=6).filter(lambda word: word not in (".", ".."))
names = st.lists(words, min_size=1, max_size=4).map("/".join)
CPIO = next(([*one, "cpio"] for one in ([], ["busybox"]) if shutil.which([*one, "cpio"][0])), None)


def unpacked(archive: bytes, folder: Path) -> Path:
    if CPIO is None:
        pytest.skip("neither cpio nor busybox on PATH to read archives with")
    folder.mkdir()
    subprocess.run([*CPIO, "-i", "-d"], cwd=folder, input=archive, check=True, timeout=30, capture_output=True)
    return folder


def read(archive: bytes) -> dict[str, Entry]:
    """Straight from the format's description, so that tests do not need cpio."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        words = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + words[11] - 1].decode()
        begin = -(-(at + 110 + words[11]) // 4) * 4
        at = -(-(begin + words[6]) // 4) * 4
        if name == "TRAILER!!!":
            assert archive[at:] == b""
            return found
        assert name not in found
        found[name] = Entry(name, words[1], archive[begin : begin + words[6]], (words[9], words[10]))


def test_cpio_unpacks_what_was_packed(tmp_path: Path) -> None:
    entries = [
        cpio.file("init", b"#!/bin/sh\n", executable=True),
        cpio.file("usr/lib/odd name", b"12345"),
        cpio.folder("proc"),
        cpio.link("lib", "usr/lib"),
    ]
    root = unpacked(packed(entries), tmp_path / "root")
    assert (root / "lib/odd name").read_bytes() == b"12345"
    assert (root / "lib").readlink() == Path("usr/lib")
    assert stat.S_IMODE((root / "init").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "usr/lib/odd name").stat().st_mode) == 0o644
    assert list((root / "proc").iterdir()) == []


@given(st.dictionaries(names, st.binary(max_size=9), max_size=8))
@settings(max_examples=60)
def test_every_byte_and_every_folder_above_is_there_in_any_order(contents: dict[str, bytes]) -> None:
    files = {name: data for name, data in contents.items() if not any(one.startswith(f"{name}/") for one in contents)}
    entries = [cpio.file(name, data) for name, data in files.items()]
    archive = packed(entries)
    assert archive == packed(reversed(entries))
    assert len(archive) % 4 == 0  # the kernel takes another one right behind it
    found = read(archive)
    assert {name: entry.content for name, entry in found.items() if stat.S_ISREG(entry.mode)} == files
    order = list(found)
    for name in files:
        for above in list(Path(name).parents)[:-1]:
            assert order.index(str(above)) < order.index(name)
            assert stat.S_ISDIR(found[str(above)].mode)


def test_devices_keep_their_numbers() -> None:
    found = read(packed([cpio.character_device("dev/console", 5, 1)]))
    assert stat.S_ISCHR(found["dev/console"].mode)
    assert found["dev/console"].device == (5, 1)


@pytest.mark.parametrize("name", ["/init", "../init", "a/../b", "", ".", "a//b", "a/", "a\0b", "TRAILER!!!"])
def test_names_that_lead_astray_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="archive"):
        packed([cpio.file(name, b"")])


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="init is in the archive twice"):
        packed([cpio.file("init", b"1"), cpio.file("init", b"2")])
