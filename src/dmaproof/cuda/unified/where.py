"""Where pages are, and what UVM was told of them.

The kernel tells by ``move_pages(2)`` without a target on which NUMA node each page is. That names a GPU only where its
memory is a NUMA node of the system's (ATS on coherent links; not in driver-managed mode, CDMM). Of managed memory the
driver tells what it was asked for (cuMemRangeGetAttribute), which need not be what came of it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import platform
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import Buffer

_MOVE_PAGES = {
    "x86_64": 279,
    "aarch64": 239,
}  # arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
_NUMA_NODE = 1  # CU_DEVICE_NUMA_CONFIG_NUMA_NODE (cuda.h)
_CPU, _NO_DEVICE = -1, -2  # CU_DEVICE_CPU, CU_DEVICE_INVALID


@dataclass(frozen=True, slots=True)
class Pages:
    """Where ``total`` pages of the system's size are: ``nodes`` counts them by NUMA node. ``absent``: in no memory that
    the kernel maps for the CPU (never touched, swapped out, or a GPU's alone). ``untold``: the kernel does not say.
    ``gpu_node`` is the NUMA node that is the GPU's memory, None where it is none.
    """

    total: int
    nodes: dict[int, int]
    absent: int
    untold: int
    gpu_node: int | None

    @property
    def on_gpu(self) -> int | None:
        """How many pages are in the GPU's memory; None where the platform cannot tell."""
        return None if self.gpu_node is None else self.nodes.get(self.gpu_node, 0)

    def __str__(self) -> str:
        places = [f"{count} on NUMA node {node}" for node, count in sorted(self.nodes.items())]
        places += [f"{self.absent} absent"] if self.absent else []
        places += [f"{self.untold} untold"] if self.untold else []
        gpu = "the GPU's memory is no NUMA node" if self.gpu_node is None else f"the GPU's is node {self.gpu_node}"
        return f"of {self.total} pages {', '.join(places)}; {gpu}"


def pages(gpu: Device, address: int, nbytes: int) -> Pages:
    """Where the pages of the range are, seen from ``gpu``."""
    told = _status(address, nbytes)
    counts = Counter(told)
    nodes = {status: count for status, count in sorted(counts.items()) if status >= 0}
    absent = counts[-errno.ENOENT]
    return Pages(len(told), nodes, absent, len(told) - absent - sum(nodes.values()), gpu_node(gpu))


def gpu_node(gpu: Device) -> int | None:
    """The NUMA node that ``gpu``'s memory is (CU_DEVICE_ATTRIBUTE_NUMA_CONFIG, _NUMA_ID); None where it is none."""
    if gpu.attribute("NUMA_CONFIG") != _NUMA_NODE:
        return None
    return gpu.attribute("NUMA_ID")


def _status(address: int, nbytes: int) -> list[int]:
    """Of each page of the range its NUMA node, or a negative errno. All of them -ENOSYS where nobody can be asked: not
    this architecture, or not in this container (seccomp)."""
    page = mmap.PAGESIZE
    starts = range(address // page * page, address + nbytes, page)
    number = _MOVE_PAGES.get(platform.machine())
    if number is None:
        return [-errno.ENOSYS] * len(starts)
    wanted = np.arange(starts.start, starts.stop, page, dtype=np.uint64)
    status = np.full(len(starts), -errno.ENOSYS, np.int32)
    arguments = (ctypes.c_long(0), ctypes.c_ulong(len(starts)), ctypes.c_void_p(wanted.ctypes.data))
    where = (ctypes.c_void_p(None), ctypes.c_void_p(status.ctypes.data), ctypes.c_long(0))
    ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments, *where)
    return [int(one) for one in status]


@dataclass(frozen=True, slots=True)
class Told:
    """What UVM was told of a range of managed memory. A place is a GPU's address, ``host``, ``numa<N>`` (a NUMA node of
    the host), or ``none`` where the pages of the range differ or nobody has said."""

    prefetched: str
    preferred: str
    read_mostly: bool
    accessed_by: tuple[str, ...]


def told(buffer: Buffer) -> Told:
    """Of all pages of ``buffer`` alike (cuMemRangeGetAttribute). Raises CudaError where it is no managed memory."""
    return Told(
        prefetched=_location("LAST_PREFETCH_LOCATION", buffer),
        preferred=_location("PREFERRED_LOCATION", buffer),
        read_mostly=bool(_ask("READ_MOSTLY", buffer)),
        accessed_by=_accessed_by(buffer),
    )


def last_prefetch(buffer: Buffer) -> str:
    """Where managed memory was last sent, as the driver remembers it."""
    return _location("LAST_PREFETCH_LOCATION", buffer)


def _location(name: str, buffer: Buffer) -> str:
    """The id says something of GPUs and NUMA nodes alone (cuMemRangeGetAttribute)."""
    kind, kinds = _ask(f"{name}_TYPE", buffer), cu.CUmemLocationType
    if kind == int(kinds.CU_MEM_LOCATION_TYPE_DEVICE):
        return _address(_ask(f"{name}_ID", buffer))
    if kind == int(kinds.CU_MEM_LOCATION_TYPE_HOST_NUMA):
        return f"numa{_ask(f'{name}_ID', buffer)}"
    return {int(kinds.CU_MEM_LOCATION_TYPE_HOST): "host", 0: "none"}.get(kind, f"location type {kind}")


def _address(ordinal: int) -> str:
    if ordinal == _CPU:
        return "host"
    return bytes(cu.cuDeviceGetPCIBusId(13, ordinal)).split(b"\0")[0].decode().lower()


def _ask(name: str, buffer: Buffer) -> int:
    return int(cu.cuMemRangeGetAttribute(4, _attribute(name), buffer.address, buffer.nbytes))


def _accessed_by(buffer: Buffer) -> tuple[str, ...]:
    nbytes = 4 * int(cu.cuDeviceGetCount())
    found = cu.cuMemRangeGetAttribute(nbytes, _attribute("ACCESSED_BY"), buffer.address, buffer.nbytes)
    return tuple(sorted(_address(int(one)) for one in found if int(one) != _NO_DEVICE))


def _attribute(name: str) -> Any:
    return getattr(cu.CUmem_range_attribute, f"CU_MEM_RANGE_ATTRIBUTE_{name}")
