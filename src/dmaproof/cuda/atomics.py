"""Workload: CPU and GPU add to the same words at the same time, and no add may be lost.

System-scope atomics ask for more than migration does: each side must own the page for the time of its add, or the link
must carry atomics. HMM cannot make shared memory a GPU's own, and ends such an access with a fault.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import device
from dmaproof.cuda.memory import Buffer, pinned
from dmaproof.cuda.timing import stream_on
from dmaproof.cuda.unified.running import at_work, running
from dmaproof.cuda.unified.system import Kind
from dmaproof.cuda.unified.system import memory as memory_of
from dmaproof.cuda.unified.words import require_concurrent
from dmaproof.errors import Unsupported
from dmaproof.progress import note

_PAGE_NBYTES, _NWORDS = 4096, 32
_ADD = "_ZN9__gnu_cxx18__exchange_and_addEPVii"
"""__gnu_cxx::__exchange_and_add of libstdc++ (ext/atomicity.h): an atomic add that any CPU's C++ library exports."""


@dataclass(frozen=True, slots=True)
class Added:
    """Adds to each of ``nwords`` words of one page, over all words: ``by_cpu``, ``by_gpu``, and how many are ``lost``.
    ``wrong_words`` are those whose sum is not that of the adds."""

    nwords: int
    by_cpu: int
    by_gpu: int
    lost: int
    wrong_words: int


def both_add(gpu: str, memory: Kind, rounds: int) -> Added:
    """A kernel adds one to each word of a page, over and over, while the CPU does so ``rounds`` times.

    Raises CudaError where the GPU may not do that to ``memory``, Unsupported where the CPU has no atomic add to call.
    """
    one, add = device(gpu), _cpu_add()
    if memory == "managed":
        require_concurrent(one)
    kernels.load_all(one)
    with memory_of(one, memory, _PAGE_NBYTES) as buffer, pinned(one, _PAGE_NBYTES) as control, stream_on(one) as stream:
        buffer.cpu[:] = 0
        note("stage", text=f"the GPU adds to {memory} memory")
        args = (buffer.address, control.address, control.address + 4)
        with running("dmaproof_add_until", one, stream, control, *args, threads=_NWORDS):
            _await_first_add(buffer, stream)
            note("stage", text="CPU and GPU add")
            for _ in range(rounds):
                for word in range(_NWORDS):
                    add(buffer.address + 4 * word, 1)
        return _sum(buffer, control, rounds)


def _await_first_add(buffer: Buffer, stream: Any) -> None:
    """Until both are at work, or the kernel has ended with an error. No limit of its own: a GPU that does neither is a
    hang, and whoever waits for this process looks into those."""
    while buffer.cpu[0] == 0 and at_work(stream):
        pass


def _sum(buffer: Buffer, control: Buffer, rounds: int) -> Added:
    by_gpu = control.cpu[1 : 1 + _NWORDS].astype(np.int64)
    missing = by_gpu + rounds - buffer.cpu[:_NWORDS].astype(np.int64)
    return Added(
        nwords=_NWORDS,
        by_cpu=rounds * _NWORDS,
        by_gpu=int(by_gpu.sum()),
        lost=int(missing.sum()),
        wrong_words=int(np.count_nonzero(missing)),
    )


@functools.cache
def _cpu_add() -> Any:
    """``add(address, value)`` of a 32-bit word, atomic among all that use it."""
    try:
        add = getattr(ctypes.CDLL("libstdc++.so.6"), _ADD)
    except (OSError, AttributeError):
        raise Unsupported("no libstdc++.so.6 with an atomic add for the CPU's part") from None
    add.argtypes, add.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
    return add
