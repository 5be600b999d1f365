"""Host counterparts of the kernels in dmaproof.cuda.kernels: what each computes, on simulated memory.

Importing this package registers all of them.
"""

from __future__ import annotations

from dmaproof.virtual.driver.kernels import atomics, bandwidth, memory, peer, sync, unified
from dmaproof.virtual.driver.kernels.counterpart import find

__all__ = ["atomics", "bandwidth", "find", "memory", "peer", "sync", "unified"]
