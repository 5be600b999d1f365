"""What a file that is said to be a kernel says of itself."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import UsageError

_SETUP = 0x200  # Documentation/arch/x86/boot.rst: offsets of the setup header
_X86_MAGIC, _X86_VERSION = slice(0x202, 0x206), 0x20E
_ARM64_MAGIC = slice(56, 60)  # Documentation/arch/arm64/booting.rst
_BANNER = re.compile(rb"Linux version (\S+) ")  # linux_banner, init/version.c
_GZIP, _ZBOOT = b"\x1f\x8b", b"zimg"  # drivers/firmware/efi/libstub/zboot-header.S


@dataclass(frozen=True, slots=True)
class Image:
    """``arch`` as uname -m has it; ``release`` as uname -r has it, or None where the file does not tell."""

    arch: str
    release: str | None


def read(path: Path) -> Image:
    """What ``path`` is: an x86 bzImage or an arm64 Image (also gzip'ed). Raises UsageError for anything else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the kernel {path}: {error.strerror}") from None
    if content[_X86_MAGIC] == b"HdrS" and len(content) >= 2 * _SETUP:
        return Image("x86_64", _x86_release(content))
    if (plain := _unpacked(content))[_ARM64_MAGIC] == b"ARM\x64":
        banner = _BANNER.search(plain)
        return Image("aarch64", banner[1].decode(errors="replace") if banner else None)
    raise UsageError(f"{path} is no kernel that QEMU starts: neither an x86 bzImage nor an arm64 Image")


def _x86_release(content: bytes) -> str | None:
    (pointer,) = struct.unpack_from("<H", content, _X86_VERSION)
    words = content[_SETUP + pointer :].split(b"\0", 1)[0].split() if pointer else []
    return words[0].decode(errors="replace") if words else None


def _unpacked(content: bytes) -> bytes:
    if content[4:8] == _ZBOOT and content[24:28] == b"gzip":
        offset, size = struct.unpack_from("<II", content, 8)
        content = content[offset : offset + size]
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""
