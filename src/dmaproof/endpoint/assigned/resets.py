"""Workloads: a function is reset in each way that it has, and has to work afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmaproof.endpoint.assigned.engine import Engine, on_bound
from dmaproof.endpoint.mmio import ROOT
from dmaproof.errors import DmaproofError, Unsupported
from dmaproof.pci import capability, config
from dmaproof.vfio import command
from dmaproof.vfio.bind import bound, changed
from dmaproof.vfio.device import Device
from dmaproof.vfio.space import Backend, opened
from dmaproof.vfio.sysfs import PCI, write

Method = Literal["device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus"]
METHODS: tuple[Method, ...] = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
"""All that the kernel knows (drivers/pci/pci.c, pci_reset_fn_methods)."""
_RESET_S = 60.0
"""A bus reset waits up to a minute for the function to answer again (PCI_RESET_WAIT, drivers/pci/pci.c)."""
_MEMORY = 1 << 1
_REPORTS_LINK, _LINK_ACTIVE = 1 << 20, 1 << 13  # PCI_EXP_LNKCAP_DLLLARC, PCI_EXP_LNKSTA_DLLLA


@dataclass(frozen=True, slots=True)
class Reset:
    """``offered`` are the function's methods, the preferred first. ``error``: what the kernel said of the reset, None
    for success. ``identity``: vendor and device; ``memory_on``: its BARs answer afterwards; ``works``: DMA goes both
    ways (None: it is no edu). ``link_denied``: the port above says that its link is down, although the function
    answers."""

    offered: tuple[str, ...]
    error: str | None
    identity_before: tuple[int, int]
    identity: tuple[int, int]
    memory_on: bool
    works: bool | None
    link_denied: str | None


def methods(bdf: str) -> tuple[str, ...]:
    """As sysfs lists them; none on a kernel that does not (before 5.15), or of a function without any."""
    path = _folder(bdf) / "reset_method"
    return tuple(path.read_text(encoding="ascii").split()) if path.exists() else ()


def reset_by(bdf: str, method: Method, engine: bool) -> Reset:
    """Reset ``bdf`` by ``method`` while VFIO has it; ``engine``: it is an edu. Raises Unsupported."""
    offered = methods(bdf)
    if method not in offered:
        raise Unsupported(f"{bdf} has no reset method {method}, only {', '.join(offered) or 'none'}")
    with bound((bdf,)) as ours:
        changed(ours, _folder(bdf) / "reset_method", method)
        before, error = identity(bdf), None
        try:
            write(_folder(bdf) / "reset", "1", _RESET_S)
        except DmaproofError as refused:
            error = str(refused)
        return _examined(bdf, offered, error, before, engine, "type1v2")


def reset_by_vfio(bdf: str, engine: bool, backend: Backend) -> Reset:
    """Reset ``bdf`` by VFIO_DEVICE_RESET, as a guest does. Raises Unsupported where VFIO says that it has none."""
    offered = methods(bdf)
    with bound((bdf,)):
        before = identity(bdf)
        with opened((bdf,), backend) as one:
            device = one.devices[0]
            if not device.resettable:
                raise Unsupported(f"{bdf} has no reset method that works")
            device.reset()
        return _examined(bdf, offered, None, before, engine, backend)


def _examined(
    bdf: str, offered: tuple[str, ...], error: str | None, before: tuple[int, int], engine: bool, backend: Backend
) -> Reset:
    now, denied = identity(bdf), _link_denied(bdf)
    if engine:
        with on_bound(bdf, backend) as one:
            memory_on, works = _memory_on(one.device), _works(one)
    else:
        with opened((bdf,), backend) as other:
            memory_on, works = _memory_on(other.devices[0]), None
    return Reset(offered, error, before, now, memory_on, works, denied if now == before else None)


def identity(bdf: str) -> tuple[int, int]:
    """Vendor and device as the function itself says them now; all ones where it does not answer."""
    data = (_folder(bdf) / "config").read_bytes()[:4]
    return int.from_bytes(data[:2], "little"), int.from_bytes(data[2:], "little")


def _link_denied(bdf: str) -> str | None:
    """Where the port above ``bdf`` reports whether its link is active, and says that it is not (PCIe 6.0, 7.5.3.6 and
    7.5.3.8). The kernel waits for it after a bus reset, and gives up (drivers/pci/pci.c)."""
    above = _folder(bdf).resolve().parent.name
    data = config.read(ROOT, above)
    express = config.find(config.parse(data).capabilities, capability.EXPRESS) if data else "absent"
    if data is None or not isinstance(express, capability.Capability):
        return None
    able, status = (capability.read(data, express.offset + at, nbytes) or 0 for at, nbytes in ((0x0C, 4), (0x12, 2)))
    if not able & _REPORTS_LINK or status & _LINK_ACTIVE:
        return None
    return f"port {above} says that its link is down, although {bdf} below it answers"


def _memory_on(device: Device) -> bool:
    return bool(device.read_config(command.COMMAND, 2) & _MEMORY)


def _works(one: Engine) -> bool:
    one.load(b"\x11\x22\x33\x44")
    return one.unload(4) == b"\x11\x22\x33\x44"


def _folder(bdf: str) -> Path:
    return PCI / "devices" / bdf
