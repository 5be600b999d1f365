"""PCI functions as Linux shows them under ``/sys/bus/pci/devices`` (Documentation/ABI/testing/sysfs-bus-pci).

Every function takes a node's root: ``/``, or a folder with ``sys/``, ``proc/`` and ``dev/`` below it. What cannot be
read is None; a read never changes anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DEVICES = Path("sys/bus/pci/devices")
_BDF = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_BARS = 6  # the lines after them are the ROM and a bridge's windows
_GENERATIONS = {"2.5": 1, "5": 2, "8": 3, "16": 4, "32": 5, "64": 6, "128": 7}  # GT/s
_WIDEST = 32
_BRIDGE = 0x06


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register that has an address. ``address`` is the CPU's physical address of it, which is the bus
    address too unless the host bridge translates; ``flags`` are IORESOURCE_* (include/linux/ioport.h)."""

    index: int
    address: int
    nbytes: int
    flags: int


@dataclass(frozen=True, slots=True)
class Link:
    """A PCIe link; generation 5 is 32 GT/s. None: unknown, which a lost device's link is too."""

    current_generation: int | None
    current_width: int | None
    max_generation: int | None
    max_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PciFunction:
    """One PCI function. ``class_code`` has 24 bits (0x030200 is a 3D controller). ``parent`` is the bridge above it,
    None on a root bus. ``numa_node`` is None where the kernel says -1. ``link`` is None without PCI Express."""

    bdf: str
    vendor: int
    device: int
    class_code: int
    driver: str | None = None
    numa_node: int | None = None
    link: Link | None = None
    bars: tuple[Bar, ...] | None = None
    iommu_group: int | None = None
    parent: str | None = None
    power_state: str | None = None

    @property
    def is_bridge(self) -> bool:
        return self.class_code >> 16 == _BRIDGE


def functions(root: Path) -> tuple[PciFunction, ...]:
    """All PCI functions under ``root``, by address; empty where there is no PCI.

    Vendor, device and class come from the kernel's memory and are readable by all: a function without them has gone
    while it was looked at, and is left out.
    """
    found = (_function(root / DEVICES / name) for name in names(root / DEVICES) if _BDF.fullmatch(name))
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.bdf))


def function(root: Path, bdf: str) -> PciFunction | None:
    """The one function ``bdf``; None where it is not there."""
    return _function(root / DEVICES / bdf)


def _function(folder: Path) -> PciFunction | None:
    vendor, device, class_code = (number(folder / name) for name in ("vendor", "device", "class"))
    if vendor is None or device is None or class_code is None:
        return None
    numa_node, group = number(folder / "numa_node"), target(folder / "iommu_group")
    return PciFunction(
        bdf=folder.name,
        vendor=vendor,
        device=device,
        class_code=class_code,
        driver=target(folder / "driver"),
        numa_node=None if numa_node is None or numa_node < 0 else numa_node,
        link=_link(folder),
        bars=_bars(folder / "resource"),
        iommu_group=int(group) if group is not None and group.isdecimal() else None,
        parent=_parent(folder),
        power_state=text(folder / "power_state"),
    )


def _link(folder: Path) -> Link | None:
    values = [text(folder / f"{when}_link_{what}") for when in ("current", "max") for what in ("speed", "width")]
    if values == [None] * 4:
        return None
    return Link(_generation(values[0]), _width(values[1]), _generation(values[2]), _width(values[3]))


def _generation(speed: str | None) -> int | None:
    """From ``32.0 GT/s PCIe`` (before 5.8 ``8 GT/s``) or ``Unknown``."""
    return _GENERATIONS.get(speed.split(" ")[0].removesuffix(".0")) if speed else None


def _width(lanes: str | None) -> int | None:
    """Of a device that is gone the register reads all ones: 63 lanes."""
    return int(lanes) if lanes is not None and lanes.isdecimal() and int(lanes) <= _WIDEST else None


def _bars(path: Path) -> tuple[Bar, ...] | None:
    content = text(path)
    if content is None:
        return None
    bars = []
    for index, line in enumerate(content.splitlines()[:_BARS]):
        numbers = [_number(word) for word in line.split()]
        if len(numbers) == 3 and None not in numbers:
            start, end, flags = (value or 0 for value in numbers)
            if flags and end > start:
                bars.append(Bar(index, start, end - start + 1, flags))
    return tuple(bars)


def _parent(folder: Path) -> str | None:
    """The bridge above: the folder above in the device tree, whose place the link in ``devices/`` tells."""
    try:
        above = folder.resolve().parent.name
    except (OSError, RuntimeError):  # RuntimeError: links in a loop, before Python 3.13
        return None
    return above if _BDF.fullmatch(above) else None


def names(folder: Path) -> list[str]:
    """The entries of ``folder``, sorted; empty where it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def text(path: Path) -> str | None:
    """The content of a small file without surrounding blanks, or None where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return None


def target(link: Path) -> str | None:
    """The last part of what the symbolic ``link`` points to, or None."""
    try:
        return link.readlink().name
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The number in a file (decimal, or hexadecimal with ``0x``), or None."""
    content = text(path)
    return None if content is None else _number(content)


def _number(word: str) -> int | None:
    try:
        return int(word, 0)
    except ValueError:
        return None
