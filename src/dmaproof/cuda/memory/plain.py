"""What most transfers use: memory of one GPU, and page-locked host memory near it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof import cpulist
from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory.buffer import Buffer, view
from dmaproof.progress import note


@contextmanager
def on_device(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Memory of one GPU (cuMemAlloc)."""
    device.use()
    pointer = cu.cuMemAlloc(nbytes)
    note("allocation", va=int(pointer), nbytes=nbytes, memory=f"device {device.bdf}")
    try:
        yield Buffer(int(pointer), nbytes)
    finally:
        device.use()
        cu.cuMemFree(pointer)


@contextmanager
def pinned(device: Device, nbytes: int, flags: int = 0) -> Iterator[Buffer]:
    """Page-locked host memory, mapped for every context (cuMemHostAlloc PORTABLE | DEVICEMAP, and ``flags``), on
    ``device``'s node."""
    device.use()
    with near(device.bdf):
        all_flags = cu.CU_MEMHOSTALLOC_PORTABLE | cu.CU_MEMHOSTALLOC_DEVICEMAP | flags
        address = int(cu.cuMemHostAlloc(nbytes, all_flags))
    try:
        yield view(address, nbytes)
    finally:
        device.use()
        cu.cuMemFreeHost(address)


@contextmanager
def near(bdf: str) -> Iterator[None]:
    """The calling thread on the CPUs of the GPU's NUMA node, if it may run there: memory lies where it is touched.

    Rates of pinned memory on the other socket are that socket's, and vary from run to run.
    """
    allowed = os.sched_getaffinity(0)
    local = local_cpus(bdf) & allowed
    os.sched_setaffinity(0, local or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def local_cpus(bdf: str) -> frozenset[int]:
    """Those of ``/sys/bus/pci/devices/<bdf>/local_cpulist``; none where it is not told."""
    try:
        return cpulist.parse(Path("/sys/bus/pci/devices", bdf, "local_cpulist").read_text())
    except OSError:
        return frozenset()
