"""What a function says of the size of its BARs (Resizable BAR) and of CXL (its vendor-specific capabilities).

Layouts: include/uapi/linux/pci_regs.h. CXL 3.1, 8.1.3 (device) and 8.1.8 (Flex Bus port).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dmaproof.pci.capability import Capability, Missing, read, registers

REBAR, DVSEC = 0x15, 0x23
CXL_VENDOR, CXL_DEVICE, CXL_FLEX_BUS_PORT = 0x1E98, 0, 7
_CACHE, _MEM = 0x1, 0x4
_MOST_BARS = 6
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ResizableBar:
    """BAR ``index`` as it is, and every size it could have; bytes, ascending."""

    index: int
    nbytes: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CxlDevice:
    """What a CXL device can do (``cache``, ``mem``) and what of it is enabled. Both is a type 2 device."""

    cache: bool
    mem: bool
    cache_enabled: bool
    mem_enabled: bool

    @property
    def type(self) -> Literal[1, 2, 3] | None:
        if self.cache:
            return 2 if self.mem else 1
        return 3 if self.mem else None


@dataclass(frozen=True, slots=True)
class CxlPort:
    """The protocols that the link trained to, beside CXL.io."""

    cache: bool
    mem: bool


@dataclass(frozen=True, slots=True)
class Cxl:
    """The two CXL capabilities that tell whether a link really is CXL."""

    device: CxlDevice | Missing
    port: CxlPort | Missing


def resizable(data: bytes, capability: Capability | Missing) -> tuple[ResizableBar, ...] | Missing:
    """The resizable BARs; their number stands in the first one's control register."""
    first = registers(data, capability, (0x08, 4))
    if isinstance(first, str) or not isinstance(capability, Capability):
        return first if isinstance(first, str) else "absent"
    found = []
    for number in range(min(first[0] >> 5 & 7, _MOST_BARS)):
        values = registers(data, capability, (0x04 + 8 * number, 4), (0x08 + 8 * number, 4))
        if isinstance(values, str):
            return "unknown"
        found.append(_bar(*values))
    return tuple(found)


def _bar(can: int, control: int) -> ResizableBar:
    """Bit 4 of the capability is 1 MiB; sizes beyond 128 TiB go on in the upper half of the control register."""
    bits = can >> 4 | control >> 16 << 28
    return ResizableBar(
        control & 7, _MIB << (control >> 8 & 0x3F), tuple(_MIB << bit for bit in range(44) if bits >> bit & 1)
    )


def cxl(data: bytes, extended: Iterable[Capability] | None) -> Cxl | Missing:
    """The CXL capabilities; ``absent`` where there is none, ``unknown`` where one may be hidden."""
    if extended is None:
        return "unknown"
    dvsecs = [one for one in extended if one.id == DVSEC]
    names = {one: (read(data, one.offset + 4, 2), read(data, one.offset + 8, 2)) for one in dvsecs}
    device = _one(names, CXL_DEVICE)
    port = _one(names, CXL_FLEX_BUS_PORT)
    if not isinstance(device, Capability) and not isinstance(port, Capability):
        return "unknown" if "unknown" in (device, port) else "absent"
    return Cxl(_device(data, device), _port(data, port))


def _one(names: dict[Capability, tuple[int | None, int | None]], wanted: int) -> Capability | Missing:
    found = next((one for one, name in names.items() if name == (CXL_VENDOR, wanted)), None)
    if found is not None:
        return found
    return "unknown" if any(None in name for name in names.values()) else "absent"


def _device(data: bytes, capability: Capability | Missing) -> CxlDevice | Missing:
    values = registers(data, capability, (0x0A, 2), (0x0C, 2))
    if isinstance(values, str):
        return values
    can, does = values
    return CxlDevice(bool(can & _CACHE), bool(can & _MEM), bool(does & _CACHE), bool(does & _MEM))


def _port(data: bytes, capability: Capability | Missing) -> CxlPort | Missing:
    values = registers(data, capability, (0x0E, 2))
    return values if isinstance(values, str) else CxlPort(bool(values[0] & _CACHE), bool(values[0] & _MEM))
