"""What there is to know of a PCI function before it is taken from its driver: read from sysfs and procfs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import UsageError

_BDF = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_BRIDGE = 0x06
_UNSET = "(null)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """``group`` is its IOMMU group's number, None without an IOMMU. ``boot_display``: the firmware's messages were on
    it. ``holds`` are the mount points (and ``swap``) whose disk it is, or is the way to."""

    bdf: str
    driver: str | None = None
    override: str | None = None
    group: int | None = None
    bridge: bool = False
    boot_display: bool = False
    holds: tuple[str, ...] = ()


def look(bdfs: Iterable[str], root: Path = Path("/")) -> dict[str, Function]:
    """The functions ``bdfs`` and all that share an IOMMU group with one of them. UsageError for one not there."""
    disks = _disks_in_use(root)
    found: dict[str, Function] = {}
    for bdf in bdfs:
        if not _folder(root, bdf).is_dir():
            raise UsageError(f"there is no PCI function {bdf}: see lspci -D")
        for name in {bdf, *_members(root, bdf)}:
            found[name] = found.get(name) or _function(root, name, disks)
    return found


def _folder(root: Path, bdf: str) -> Path:
    return root / "sys/bus/pci/devices" / bdf


def _members(root: Path, bdf: str) -> list[str]:
    folder = _folder(root, bdf) / "iommu_group/devices"
    return [one.name for one in folder.iterdir() if _BDF.fullmatch(one.name)] if folder.is_dir() else []


def _function(root: Path, bdf: str, disks: dict[str, tuple[str, ...]]) -> Function:
    folder = _folder(root, bdf)
    group = _link(folder / "iommu_group")
    override = _text(folder / "driver_override")
    return Function(
        bdf=bdf,
        driver=_link(folder / "driver"),
        override=None if override in (None, "", _UNSET) else override,
        group=int(group) if group else None,
        bridge=int(_text(folder / "class") or "0", 16) >> 16 == _BRIDGE,
        boot_display="1" in (_text(folder / "boot_vga"), _text(folder / "boot_display")),
        holds=disks.get(bdf, ()),
    )


def _link(path: Path) -> str | None:
    try:
        return path.readlink().name
    except OSError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _disks_in_use(root: Path) -> dict[str, tuple[str, ...]]:
    """PCI function -> what is mounted from disks behind it."""
    used: dict[str, tuple[str, ...]] = {}
    for number, place in _mounts(root):
        for folder in _block_devices(root / "sys/dev/block" / number):
            for bdf in filter(_BDF.fullmatch, folder.parts):
                used[bdf] = tuple(dict.fromkeys((*used.get(bdf, ()), place)))
    return used


def _mounts(root: Path) -> Iterator[tuple[str, str]]:
    """(``major:minor``, mount point) of all mounts, and of swap (proc_pid_mountinfo(5), proc_swaps(5)).

    A file system over several disks has a number of its own; what it was mounted from is a disk all the same.
    """
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        words = line.split(" ")
        yield words[2], words[4]
        yield from _numbered(root, words[words.index("-") + 2] if "-" in words else "", words[4])
    for line in (_text(root / "proc/swaps") or "").splitlines()[1:]:
        yield from _numbered(root, line.split()[0], "swap")


def _numbered(root: Path, source: str, place: str) -> Iterator[tuple[str, str]]:
    if not source.startswith("/dev/"):
        return
    try:
        number = (root / source.lstrip("/")).stat().st_rdev
    except OSError:
        return
    yield f"{os.major(number)}:{os.minor(number)}", place


def _block_devices(folder: Path) -> Iterator[Path]:
    """The place of a block device in the device tree, and of those that it is made of (partition, LVM, RAID, crypt)."""
    if not folder.exists():
        return
    place = folder.resolve()
    yield place
    for slaves in (place / "slaves", place.parent / "slaves"):
        for slave in slaves.iterdir() if slaves.is_dir() else ():
            yield from _block_devices(slave)
