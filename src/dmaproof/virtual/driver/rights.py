"""Who may use which memory: by mappings between contexts, or by rights given to each GPU for a range or a pool."""

from __future__ import annotations

from typing import Literal

from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.gpus import Context

NONE, READ, READ_WRITE = 0, 1, 3
"""CUmemAccess_flags (cuda.h)."""
CPU = -1
"""The host among the ordinals that rights are given to."""


def may(context: Context, found: Allocation, access: Literal["read", "write", "atomic"]) -> bool:
    """Whether ``context``'s GPU may do ``access`` to ``found``.

    cuMemAlloc'd memory follows cuCtxEnablePeerAccess; that of pools cuMemPoolSetAccess alone, mapped memory
    cuMemSetAccess alone (CUDA programming guide: stream-ordered allocation, virtual memory management). An opened
    IPC handle maps the memory for the GPU that opened it.
    """
    ordinal = context.device.ordinal
    if found.access is not None:
        rights = found.access.get(ordinal, NONE)
        if rights == READ_WRITE or (rights == READ and access == "read"):
            return True
        if found.by != "ipc":
            return False
    if found.kind != "device" or found.gpu == ordinal:
        return True
    return found.context in context.mapped if found.context is not None else found.gpu in context.peers
