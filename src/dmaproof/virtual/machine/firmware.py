"""The ACPI tables by which firmware offers an IOMMU: valid headers, and no more than the units themselves."""

from __future__ import annotations

import struct

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.topology import functions
from dmaproof.virtual.machine.tree import Tree

_UNIT_BASE, _UNIT_STRIDE = 0xFEB00000, 0x1000


def firmware(node: Node) -> Tree:
    """Firmware offers the tables whatever the kernel then makes of them: also where the IOMMU is off."""
    segments = sorted({one.root_bus for one in functions(node)})
    table = {
        "vtd": ("DMAR", 1, _dmar(segments)),
        "amdvi": ("IVRS", 2, bytes(12)),
        "smmuv3": ("IORT", 0, struct.pack("<III", 0, 48, 0)),
        "smmuv2": ("IORT", 0, struct.pack("<III", 0, 48, 0)),
        "virtio-iommu": ("VIOT", 0, struct.pack("<HH8x", 0, 48)),
    }.get(node.iommu.family)
    if table is None:
        return {}
    name, revision, body = table
    return {f"sys/firmware/acpi/tables/{name}": _table(name, revision, body)}


def _dmar(segments: list[str]) -> bytes:
    """Host address width 46 bits, interrupt remapping; one remapping unit (DRHD) a root bus."""
    units = b""
    for number, bus in enumerate(segments):
        segment, start_bus = (int(part, 16) for part in bus.split(":"))
        scope = struct.pack("<BBHBB", 2, 8, 0, 0, start_bus) + bytes([0, 0])  # PCI sub-hierarchy
        units += struct.pack("<HHBBHQ", 0, 16 + len(scope), 0, 0, segment, _UNIT_BASE + number * _UNIT_STRIDE) + scope
    return struct.pack("<BB10x", 45, 1) + units


def _table(signature: str, revision: int, body: bytes) -> bytes:
    """Header as ACPI 6.5 table 5.4; the bytes of a table sum to 0."""
    head = signature.encode() + struct.pack("<IBB", 36 + len(body), revision, 0)
    head += b"DMAPRF" + b"VIRTUAL " + struct.pack("<I4sI", 1, b"DMAP", 1)
    table = bytearray(head + body)
    table[9] = -sum(table) & 0xFF
    return bytes(table)
