"""The capabilities that decide where DMA goes, decoded from configuration space bytes.

Layouts: include/uapi/linux/pci_regs.h. A register that was not read makes its capability ``unknown``, never "off".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EXPRESS, VENDOR_SPECIFIC = 0x10, 0x09
ACS, ATS, PRI, PASID = 0x0D, 0x0F, 0x13, 0x1B
_ACS_BITS = {0x01: "SV", 0x02: "TB", 0x04: "RR", 0x08: "CR", 0x10: "UF", 0x20: "EC", 0x40: "DT"}
_REDIRECTS = {"RR", "CR", "EC"}  # pci_bridge_has_acs_redir, drivers/pci/p2pdma.c
_PORTS = {
    0x0: "endpoint", 0x1: "legacy-endpoint", 0x4: "root-port", 0x5: "upstream-port", 0x6: "downstream-port",
    0x7: "pcie-to-pci-bridge", 0x8: "pci-to-pcie-bridge", 0x9: "integrated-endpoint", 0xA: "event-collector",
}  # fmt: skip

Missing = Literal["absent", "unknown"]
"""A capability that the function does not have, or that could not be looked for."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One entry of a capability list; ``version`` is 0 in the standard list, which has none."""

    id: int
    offset: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Acs:
    """Access Control Services: what the port can do and what is on, as the bits' names (SV TB RR CR UF EC DT)."""

    capability: tuple[str, ...]
    control: tuple[str, ...]

    @property
    def redirects(self) -> bool:
        """Sends peer requests up to the root complex instead of straight to the peer."""
        return bool(_REDIRECTS & set(self.control))


@dataclass(frozen=True, slots=True)
class Ats:
    """Address Translation Services; ``smallest_nbytes`` is the smallest translation unit."""

    enabled: bool
    smallest_nbytes: int


@dataclass(frozen=True, slots=True)
class Pri:
    """Page Request Interface; ``status`` is the raw register."""

    enabled: bool
    status: int


@dataclass(frozen=True, slots=True)
class Pasid:
    """Process Address Space IDs; ``width`` is the number of bits."""

    enabled: bool
    width: int


@dataclass(frozen=True, slots=True)
class Express:
    """The PCI Express capability: ``port`` names the device or port type; generation 5 is 32 GT/s."""

    port: str
    max_generation: int
    max_width: int
    current_generation: int
    current_width: int


def read(data: bytes, offset: int, nbytes: int) -> int | None:
    """The little-endian number at ``offset``, or None where ``data`` ends before it does."""
    piece = data[offset : offset + nbytes]
    return int.from_bytes(piece, "little") if len(piece) == nbytes else None


def registers(data: bytes, capability: Capability | Missing, *wanted: tuple[int, int]) -> tuple[int, ...] | Missing:
    """The registers at ``(offset in the capability, bytes)``; ``unknown`` where the read ended before them."""
    if not isinstance(capability, Capability):
        return capability
    values = [read(data, capability.offset + offset, nbytes) for offset, nbytes in wanted]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else "unknown"


def acs(data: bytes, capability: Capability | Missing) -> Acs | Missing:
    """ACS as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (4, 2), (6, 2))
    if isinstance(values, str):
        return values
    can, does = (tuple(name for bit, name in _ACS_BITS.items() if value & bit) for value in values)
    return Acs(can, does)


def ats(data: bytes, capability: Capability | Missing) -> Ats | Missing:
    """ATS as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (6, 2))
    return values if isinstance(values, str) else Ats(bool(values[0] & 0x8000), 4096 << (values[0] & 0x1F))


def pri(data: bytes, capability: Capability | Missing) -> Pri | Missing:
    """PRI as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (4, 2), (6, 2))
    return values if isinstance(values, str) else Pri(bool(values[0] & 1), values[1])


def pasid(data: bytes, capability: Capability | Missing) -> Pasid | Missing:
    """PASID as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (4, 2), (6, 2))
    return values if isinstance(values, str) else Pasid(bool(values[1] & 1), values[0] >> 8 & 0x1F)


def express(data: bytes, capability: Capability | Missing) -> Express | Missing:
    """PCI Express as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (0x02, 2), (0x0C, 4), (0x12, 2))
    if isinstance(values, str):
        return values
    flags, able, now = values
    port = _PORTS.get(flags >> 4 & 0xF, "reserved")
    return Express(port, able & 0xF, able >> 4 & 0x3F, now & 0xF, now >> 4 & 0x3F)
