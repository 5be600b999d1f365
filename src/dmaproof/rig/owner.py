"""Whose a GPU on the bus is: this system's, a guest's, or another container's.

sysfs shows a container every function of its host. What it was given shows in the driver's own files: container
runtimes hand over ``/dev/nvidiaN`` one by one, and may hide the other GPUs' folders in ``/proc/driver/nvidia/gpus``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dmaproof.pci import sysfs
from dmaproof.pci.sysfs import PciFunction

NVIDIA, VGA, CONTROLLER_3D = 0x10DE, 0x0300, 0x0302
GPUS = Path("proc/driver/nvidia/gpus")
_MINOR = re.compile(r"^Device Minor:\s*(\d{1,9})\s*$", re.MULTILINE)  # nv_procfs_read_gpu_info (nv-procfs.c)
_NODE = re.compile(r"nvidia\d+")


def is_gpu(function: PciFunction) -> bool:
    """An NVIDIA function of a display or 3D controller's class: what CUDA can run on."""
    return function.vendor == NVIDIA and function.class_code >> 8 in (VGA, CONTROLLER_3D)


def owned(root: Path, functions: Sequence[PciFunction]) -> dict[str, str | None]:
    """Why each GPU on the bus, by BDF, is not this system's own; None for one that is, or may be.

    An SR-IOV GPU's functions for guests, seen from its host, are left out altogether: no CUDA device here.
    """
    gpus = [one for one in functions if is_gpu(one) and not (root / sysfs.DEVICES / one.bdf / "physfn").exists()]
    return {one.bdf: _why_not(root, one) for one in gpus}


def left_out(owner: Mapping[str, str | None]) -> Iterator[str]:
    """One sentence a reason, for the GPUs in ``owner`` that are not this system's."""
    for reason in dict.fromkeys(why for why in owner.values() if why is not None):
        yield f"left out, {reason}: {', '.join(bdf for bdf, why in owner.items() if why == reason)}"


def _why_not(root: Path, gpu: PciFunction) -> str | None:
    if gpu.driver == "vfio-pci":
        return "bound to vfio-pci for a guest"
    if gpu.driver != "nvidia" or not (root / GPUS).is_dir():
        return None
    if not (root / GPUS / gpu.bdf).exists():
        return f"not in /{GPUS} of this container"
    minor = _MINOR.search(sysfs.text(root / GPUS / gpu.bdf / "information") or "")
    nodes = {name for name in sysfs.names(root / "dev") if _NODE.fullmatch(name)}
    # Without any node nothing is certain: they are made at the driver's first use, which a dead driver never saw.
    if minor is None or not nodes or f"nvidia{minor[1]}" in nodes:
        return None
    return "no device node here, as in a container that was not given it"
