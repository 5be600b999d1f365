"""Builds the files that Linux shows of a PCI bus: real files and links under a folder that serves as a node's root."""

from __future__ import annotations

import struct
from pathlib import Path

ACS, ATS, PRI, PASID = 0x0D, 0x0F, 0x13, 0x1B
ALL_ONES = b"\xff" * 4096


def header(*, vendor: int = 0x10DE, device: int = 0x2330, first_capability: int = 0x40) -> bytearray:
    data = bytearray(4096)
    struct.pack_into("<HHHH", data, 0, vendor, device, 0, 0x10)
    data[0x34] = first_capability
    return data


def express(data: bytearray, *, port: int = 0, following: int = 0, link: int = 0x1105) -> bytearray:
    """A PCI Express capability at 0x40; ``link`` is the link status: 0x1105 is generation 5, width 16."""
    struct.pack_into("<BBHIHHIHH", data, 0x40, 0x10, following, port << 4 | 2, 0, 0, 0, link & 0x3FF, 0, link)
    return data


def extended(data: bytearray, *entries: tuple[int, bytes]) -> bytearray:
    """Extended capabilities from 0x100 on, each with the bytes that follow its header."""
    offset = 0x100
    for place, (wanted, body) in enumerate(entries):
        following = offset + 0x40 if place + 1 < len(entries) else 0
        struct.pack_into("<I", data, offset, wanted | 1 << 16 | following << 20)
        data[offset + 4 : offset + 4 + len(body)] = body
        offset += 0x40
    return data


def acs(control: int, can: int = 0x7F) -> tuple[int, bytes]:
    return ACS, struct.pack("<HH", can, control)


def ats(control: int) -> tuple[int, bytes]:
    return ATS, struct.pack("<HH", 0x20, control)


def gpu_config(*, ats_control: int = 0) -> bytes:
    return bytes(extended(express(header()), ats(ats_control)))


def port_config(*, acs_control: int = 0) -> bytes:
    return bytes(extended(express(header(vendor=0x8086, device=0x352A), port=4), acs(acs_control)))


class MachineTree:
    """A root with ``sys/`` and ``proc/``; functions hang under each other as in ``/sys/devices``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/bus/pci/devices").mkdir(parents=True)
        (root / "sys/class/iommu").mkdir(parents=True)
        (root / "sys/kernel/iommu_groups").mkdir(parents=True)
        (root / "sys/firmware/acpi/tables").mkdir(parents=True)
        (root / "proc").mkdir()
        self.command_line("")

    def command_line(self, text: str) -> None:
        (self.root / "proc/cmdline").write_text(f"{text}\n")

    def function(self, bdf: str, *, under: str | None = None, config: bytes, **files: str) -> Path:
        devices = self.root / "sys/bus/pci/devices"
        above = self.root / f"sys/devices/pci{bdf[:7]}" if under is None else (devices / under).resolve()
        folder = above / bdf
        folder.mkdir(parents=True)
        (devices / bdf).symlink_to(folder)
        (folder / "config").write_bytes(config)
        for name, text in {"vendor": "0x10de", "device": "0x2330", "class": "0x030200", **files}.items():
            (folder / name).write_text(f"{text}\n")
        return folder

    def port(self, bdf: str, *, under: str | None = None, config: bytes) -> Path:
        files = {"vendor": "0x8086", "device": "0x352a", "class": "0x060400"}
        return self.function(bdf, under=under, config=config, **files)

    def group(self, number: int, type_: str, *members: str, reserved: str = "") -> Path:
        folder = self.root / f"sys/kernel/iommu_groups/{number}"
        (folder / "devices").mkdir(parents=True)
        (folder / "type").write_text(f"{type_}\n")
        (folder / "reserved_regions").write_text(reserved)
        for bdf in members:
            function = (self.root / "sys/bus/pci/devices" / bdf).resolve()
            (folder / "devices" / bdf).symlink_to(function)
            (function / "iommu_group").symlink_to(folder)
        return folder

    def iommu(self, name: str, *members: str) -> None:
        (self.root / f"sys/class/iommu/{name}/devices").mkdir(parents=True)
        for bdf in members:
            (self.root / f"sys/class/iommu/{name}/devices/{bdf}").touch()
