"""The 4096 bytes of configuration space of a PCI function (PCI Express Base Specification 7.5, 7.7, 10.5)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dmaproof.rig.hardware import Bar, Gpu, PcieLink
from dmaproof.virtual.machine import acs
from dmaproof.virtual.machine.products import Identity
from dmaproof.virtual.machine.topology import Function

NBYTES = 4096
GONE = b"\xff" * NBYTES
"""What a read of a function that does not answer gives."""
EXPRESS, DPC = 0x78, 0x160
_PORT_TYPES = {"gpu": 0x0, "root-port": 0x4, "upstream-port": 0x5, "downstream-port": 0x6}
_SLOTS = ("root-port", "downstream-port")
_DPC_CONTROL = 0x9  # fatal errors trigger it, and it interrupts: dpc_enable in drivers/pci/pcie/dpc.c
_ATS_ENABLE, _PASID_ENABLE = 0x8000, 0x1
_MEM64_PREFETCH = 0xC
_DLL_ACTIVE = 0x2000
_FALLBACK_LINK = PcieLink(generation=1, width=1)


@dataclass(frozen=True, slots=True)
class Capability:
    """``body`` is all that follows the id and next pointer (two bytes; four in extended space)."""

    identity: int
    offset: int
    body: bytes
    version: int = 1


def config_space(function: Function, *, link: PcieLink | None = None, ats: bool = False) -> bytes:
    """``link`` is what the function's link trained to, None for all that it offers. ``ats``: GPUs have it on."""
    if function.kind == "root-device":
        return _space(_header(function.identity, command=0x0006), (), ())
    offered = function.link or _FALLBACK_LINK
    express = _pcie(_PORT_TYPES[function.kind], offered, link or offered, slot=function.kind in _SLOTS)
    if function.gpu is None:
        return _port(function, express)
    return _gpu(function.identity, function.gpu, express, ats)


def _gpu(identity: Identity, gpu: Gpu, express: Capability, ats: bool) -> bytes:
    header = bytearray(_header(identity, command=0x0546))
    for bar in gpu.bars:
        _put_bar(header, bar)
    struct.pack_into("<HH", header, 0x2C, identity.vendor, identity.device)
    capabilities = [_power(), _msi(), express]
    if gpu.clique is not None:  # QEMU x-nv-gpudirect-clique: hw/vfio/pci-quirks.c
        capabilities.append(Capability(0x09, 0xC8, bytes([8, *b"P2P", gpu.clique << 3, 0])))
    extended = [_aer()]
    if ats:
        extended.append(Capability(0x0F, 0x148, struct.pack("<HH", 0x20, _ATS_ENABLE)))
        extended.append(Capability(0x1B, 0x150, struct.pack("<HH", 0x1400, _PASID_ENABLE)))
    return _space(bytes(header), capabilities, extended)


def _port(function: Function, express: Capability) -> bytes:
    header = bytearray(_header(function.identity, command=0x0547))
    header[0x0E] = 0x01
    header[0x18:0x1B] = bytes([int(function.bdf.split(":")[1], 16), *function.buses])
    low, high = windows(function.below)
    struct.pack_into("<HH", header, 0x20, *_window32(low))
    prefetch_base, prefetch_limit = (high.start, high.stop - 1) if high else (0xFFF00000, 0)
    struct.pack_into("<HH", header, 0x24, prefetch_base >> 16 & 0xFFF0 | 1, prefetch_limit >> 16 & 0xFFF0 | 1)
    struct.pack_into("<II", header, 0x28, prefetch_base >> 32, prefetch_limit >> 32)
    extended = [_aer()]
    if function.acs is not None:
        extended.append(Capability(0x0D, 0x148, struct.pack("<HH", acs.CAPABILITY, function.acs)))
    if function.has_dpc:
        extended.append(Capability(0x1D, DPC, struct.pack("<HHHH", 0, _DPC_CONTROL, 0, 0)))
    return _space(bytes(header), [_power(), _msi(), express], extended)


def windows(gpus: Sequence[Gpu]) -> tuple[range, range]:
    """The non-prefetchable (below 4 GiB) and the prefetchable window of a port over ``gpus``, in MiB steps."""
    bars = [bar for gpu in gpus for bar in gpu.bars]
    return _span([bar for bar in bars if not is_64_bit(bar)]), _span([bar for bar in bars if is_64_bit(bar)])


def is_64_bit(bar: Bar) -> bool:
    """BAR0 of a GPU is 32-bit where it lies below 4 GiB; all others are 64-bit and prefetchable."""
    return bar.index > 0 or bar.address >= 1 << 32


def _span(bars: Sequence[Bar]) -> range:
    if not bars:
        return range(0)
    first, last = min(bar.address for bar in bars), max(bar.address + bar.nbytes for bar in bars)
    return range(first & -(1 << 20), -(-last >> 20) << 20)


def _window32(window: range) -> tuple[int, int]:
    """Memory base and limit; base above limit is a closed window."""
    return (window.start >> 16 & 0xFFF0, window.stop - 1 >> 16 & 0xFFF0) if window else (0xFFF0, 0)


def _header(identity: Identity, command: int) -> bytes:
    header = bytearray(64)
    struct.pack_into("<HHHH", header, 0, identity.vendor, identity.device, command, 0x0010)
    header[8] = identity.revision
    header[9:12] = identity.class_code.to_bytes(3, "little")
    return bytes(header)


def _put_bar(header: bytearray, bar: Bar) -> None:
    offset = 0x10 + 4 * bar.index
    if is_64_bit(bar):
        struct.pack_into("<Q", header, offset, bar.address | _MEM64_PREFETCH)
    else:
        struct.pack_into("<I", header, offset, bar.address)


def _power() -> Capability:
    return Capability(0x01, 0x60, struct.pack("<HHH", 0x0003, 0x0008, 0))  # version 3, D0


def _msi() -> Capability:
    return Capability(0x05, 0x68, struct.pack("<HIIH", 0x0081, 0xFEE00000, 0, 0))  # enabled, 64-bit


def _pcie(port_type: int, offered: PcieLink, now: PcieLink, *, slot: bool) -> Capability:
    """PCI Express, version 2, 0x3c bytes long; ``slot``: the port reports whether its data link layer is active."""
    body = bytearray(0x3A)
    training = 0x1000 | (_DLL_ACTIVE if slot else 0)  # slot clock
    struct.pack_into("<H", body, 0x00, 0x2 | port_type << 4 | (0x100 if slot else 0))
    struct.pack_into("<IHH", body, 0x02, 0x8FE1, 0x2937, 0)  # device: 256-byte payload
    can, does = (link.generation | link.width << 4 for link in (offered, now))
    struct.pack_into("<IHH", body, 0x0A, can | (0x100000 if slot else 0), 0, does | training)
    struct.pack_into("<IHH", body, 0x2A, (1 << offered.generation) - 1 << 1, offered.generation, 0)
    return Capability(0x10, EXPRESS, bytes(body))


def _aer() -> Capability:
    return Capability(0x01, 0x100, bytes(0x44), version=2)


def _space(header: bytes, capabilities: Sequence[Capability], extended: Sequence[Capability]) -> bytes:
    space = bytearray(header.ljust(NBYTES, b"\0"))
    if capabilities:
        space[0x34] = capabilities[0].offset
    else:
        struct.pack_into("<H", space, 6, 0)  # status: no capability list
    for one, after in zip(capabilities, [*capabilities[1:], None], strict=False):
        body = bytes([one.identity, after.offset if after else 0]) + one.body
        space[one.offset : one.offset + len(body)] = body
    for one, after in zip(extended, [*extended[1:], None], strict=False):
        word = one.identity | one.version << 16 | (after.offset if after else 0) << 20
        body = struct.pack("<I", word) + one.body
        space[one.offset : one.offset + len(body)] = body
    return bytes(space)


LINK_STATUS = EXPRESS + 0x12


def link_down(port: bytes) -> bytes:
    """A port's ``config`` after the link below went down: its data link layer is not active."""
    space = bytearray(port)
    (status,) = struct.unpack_from("<H", space, LINK_STATUS)
    struct.pack_into("<H", space, LINK_STATUS, status & ~_DLL_ACTIVE)
    return bytes(space)
