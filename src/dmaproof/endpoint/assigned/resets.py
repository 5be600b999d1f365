"""Workloads: a function is reset in each way that it has, and has to work afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmaproof.endpoint.assigned.engine import on_bound
from dmaproof.errors import Unsupported
from dmaproof.vfio import command
from dmaproof.vfio.bind import bound, changed
from dmaproof.vfio.space import Backend, opened
from dmaproof.vfio.sysfs import PCI, write

Method = Literal["device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus"]
METHODS: tuple[Method, ...] = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
"""All that the kernel knows (drivers/pci/pci.c, pci_reset_fn_methods)."""
_RESET_S = 60.0
"""A bus reset waits up to a minute for the function to answer again (PCI_RESET_WAIT, drivers/pci/pci.c)."""
_MEMORY = 1 << 1


@dataclass(frozen=True, slots=True)
class Reset:
    """``offered`` are the function's methods, the preferred first. ``identity``: vendor and device afterwards;
    ``memory_on``: its BARs answer as before; ``works``: DMA goes both ways (None: it is no edu)."""

    offered: tuple[str, ...]
    identity: tuple[int, int]
    memory_on: bool
    works: bool | None


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
        write(_folder(bdf) / "reset", "1", _RESET_S)
        return _examined(bdf, offered, engine, "type1v2")


def reset_by_vfio(bdf: str, engine: bool, backend: Backend) -> Reset:
    """Reset ``bdf`` by VFIO_DEVICE_RESET, as a guest does. Raises Unsupported where VFIO says that it has none."""
    offered = methods(bdf)
    with bound((bdf,)):
        with opened((bdf,), backend) as one:
            device = one.devices[0]
            if not device.resettable:
                raise Unsupported(f"{bdf} has no reset method that works")
            device.reset()
        return _examined(bdf, offered, engine, backend)


def _examined(bdf: str, offered: tuple[str, ...], engine: bool, backend: Backend) -> Reset:
    with opened((bdf,), backend) as one:
        device = one.devices[0]
        identity = device.read_config(0, 2), device.read_config(2, 2)
        memory_on = bool(device.read_config(command.COMMAND, 2) & _MEMORY)
    return Reset(offered, identity, memory_on, _works(bdf, backend) if engine else None)


def _works(bdf: str, backend: Backend) -> bool:
    with on_bound(bdf, backend) as one:
        one.load(b"\x11\x22\x33\x44")
        return one.unload(4) == b"\x11\x22\x33\x44"


def _folder(bdf: str) -> Path:
    return PCI / "devices" / bdf
