"""PCI configuration space: headers, capabilities, and those that decide where DMA goes. Only ever read.

Without CAP_SYS_ADMIN Linux hands out 64 bytes (pci_read_config, drivers/pci/pci-sysfs.c): what lies behind them is then
*unknown*, never "off". The GPUDirect clique is that of hw/vfio/pci-quirks.c of QEMU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmaproof.pci import capability, containment, extensions
from dmaproof.pci.capability import Acs, Ats, Capability, Express, Missing, Pasid, Pri
from dmaproof.pci.containment import Aer, Dpc
from dmaproof.pci.extensions import Cxl, ResizableBar
from dmaproof.pci.sysfs import DEVICES

HEADER_NBYTES, STANDARD_NBYTES, EXTENDED_NBYTES = 0x40, 0x100, 0x1000
_STATUS, _HEADER_TYPE, _POINTER, _STATUS_CAPABILITIES = 0x06, 0x0E, 0x34, 0x10
_CLIQUE_SIGNATURE = b"P2P"

State = Literal["present", "lost", "absent", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSpace:
    """A function's configuration space as far as it was read (``nbytes``).

    ``lost``: everything reads as ones, so the device does not answer. ``capabilities`` and ``extended`` are None where
    the list could not be read. ``clique`` is the GPUDirect clique id that a hypervisor gave the GPU.
    """

    nbytes: int
    lost: bool
    vendor: int | None
    device: int | None
    header_type: int | None
    capabilities: tuple[Capability, ...] | None
    extended: tuple[Capability, ...] | None
    acs: Acs | Missing
    ats: Ats | Missing
    pri: Pri | Missing
    pasid: Pasid | Missing
    express: Express | Missing
    rebar: tuple[ResizableBar, ...] | Missing
    aer: Aer | Missing
    dpc: Dpc | Missing
    cxl: Cxl | Missing
    clique: int | Missing

    @property
    def complete(self) -> bool:
        """Both capability lists are known: what is not in them is not there."""
        return self.capabilities is not None and self.extended is not None


def read(root: Path, bdf: str) -> bytes | None:
    """The configuration space of ``bdf``, as much as this process may have; None where it cannot be read at all."""
    try:
        with (root / DEVICES / bdf / "config").open("rb", buffering=0) as file:
            return b"".join(iter(lambda: file.read(EXTENDED_NBYTES), b""))[:EXTENDED_NBYTES]
    except OSError:
        return None


def state(root: Path, bdf: str) -> State:
    """Whether ``bdf`` answers: ``lost`` reads all ones, ``absent`` is not on the bus (any more)."""
    if not (root / DEVICES / bdf).exists():
        return "absent"
    data = read(root, bdf)
    if not data:
        return "unreadable"
    return "lost" if parse(data).lost else "present"


def parse(data: bytes) -> ConfigSpace:
    """``data``, the first bytes of a configuration space, of any length and content."""
    # A virtual function's vendor and device read as ones (SR-IOV 3.4.1.1): a lost device's whole header does.
    lost = len(data) >= 4 and all(byte == 0xFF for byte in data[:HEADER_NBYTES])
    standard = None if lost else _standard(data)
    express = find(standard, capability.EXPRESS)
    extended = None if lost else _extended(data, standard)
    header = capability.read(data, _HEADER_TYPE, 1)
    return ConfigSpace(
        nbytes=len(data),
        lost=lost,
        vendor=capability.read(data, 0, 2),
        device=capability.read(data, 2, 2),
        header_type=None if header is None else header & 0x7F,
        capabilities=standard,
        extended=extended,
        acs=capability.acs(data, find(extended, capability.ACS)),
        ats=capability.ats(data, find(extended, capability.ATS)),
        pri=capability.pri(data, find(extended, capability.PRI)),
        pasid=capability.pasid(data, find(extended, capability.PASID)),
        express=capability.express(data, express),
        rebar=extensions.resizable(data, find(extended, extensions.REBAR)),
        aer=containment.aer(data, find(extended, containment.AER)),
        dpc=containment.dpc(data, find(extended, containment.DPC)),
        cxl=extensions.cxl(data, extended),
        clique=_clique(data, standard),
    )


def find(capabilities: tuple[Capability, ...] | None, wanted: int) -> Capability | Missing:
    """The first capability with id ``wanted``; ``unknown`` where the list is."""
    if capabilities is None:
        return "unknown"
    return next((one for one in capabilities if one.id == wanted), "absent")


def _standard(data: bytes) -> tuple[Capability, ...] | None:
    status, pointer = capability.read(data, _STATUS, 2), capability.read(data, _POINTER, 1)
    if status is None or pointer is None:
        return None
    found: dict[int, Capability] = {}
    offset = pointer & 0xFC if status & _STATUS_CAPABILITIES else 0
    while offset >= HEADER_NBYTES and offset not in found:  # a damaged list may run in a circle
        entry = capability.read(data, offset, 2)
        if entry is None:
            return None
        if entry & 0xFF == 0xFF:
            break
        found[offset] = Capability(entry & 0xFF, offset)
        offset = entry >> 8 & 0xFC
    return tuple(found.values())


def _extended(data: bytes, standard: tuple[Capability, ...] | None) -> tuple[Capability, ...] | None:
    """Conventional PCI has no extended space; that of a PCIe function of which 256 bytes are read is out of reach."""
    if standard is None:
        return None
    if len(data) <= STANDARD_NBYTES:
        return () if find(standard, capability.EXPRESS) == "absent" else None
    found: dict[int, Capability] = {}
    offset = STANDARD_NBYTES
    while offset >= STANDARD_NBYTES and offset not in found:
        entry = capability.read(data, offset, 4)
        if entry is None:
            return None
        if entry in (0, 0xFFFFFFFF):
            break
        found[offset] = Capability(entry & 0xFFFF, offset, entry >> 16 & 0xF)
        offset = entry >> 20 & 0xFFC
    return tuple(found.values())


def _clique(data: bytes, standard: tuple[Capability, ...] | None) -> int | Missing:
    """Byte 6 of QEMU's vendor-specific capability holds the clique id in bits 6:3, behind the signature ``P2P``."""
    if standard is None:
        return "unknown"
    for one in standard:
        if one.id == capability.VENDOR_SPECIFIC:
            value = capability.read(data, one.offset + 6, 1)
            if value is None:
                return "unknown"
            if data[one.offset + 3 : one.offset + 6] == _CLIQUE_SIGNATURE:
                return value >> 3 & 0xF
    return "absent"
