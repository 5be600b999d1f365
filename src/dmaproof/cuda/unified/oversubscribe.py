"""Workload: more managed memory than the GPU has room for, by a ratio. A real driver has hung on it for good
(open-gpu-kernel-modules#1223): nobody runs this unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory import on_device, shared
from dmaproof.cuda.unified.words import cpu_view, increment, require_concurrent
from dmaproof.errors import CudaError, Unsupported
from dmaproof.progress import note

_LEFT_NBYTES, _STEP_NBYTES, _MOST_NBYTES = 64 << 20, 2 << 20, 1 << 30
_SEED, _OUT_OF_MEMORY = 97, "CUDA_ERROR_OUT_OF_MEMORY"


@dataclass(frozen=True, slots=True)
class Oversubscribed:
    """``nbytes`` of managed memory on a GPU with ``free_nbytes`` left. What the GPU found of its own words, twice over
    all of them, and then the CPU of what the GPU had made of them."""

    free_nbytes: int
    nbytes: int
    first: View
    second: View
    cpu: View


def oversubscribe(gpu: str, ratio: float) -> Oversubscribed:
    """All but some 64 MiB of the GPU's memory are taken (cuMemAlloc, which is never evicted), and ``ratio`` times what
    is left is used as managed memory: written, read twice and changed by the GPU from end to end, read by the CPU.

    So little is enough: what counts is that pages must go for others to come. Raises Unsupported where more than 1 GiB
    would have to be used.
    """
    one = device(gpu)
    require_concurrent(one)
    with _taken(one):
        free = _free_nbytes(one)
        nbytes = int(free * ratio) // _STEP_NBYTES * _STEP_NBYTES
        if nbytes > _MOST_NBYTES:
            raise Unsupported(f"{ratio:g} x {free >> 20} MiB that are free on {gpu}: more than 1 GiB is not tried")
        with shared(one, "managed", nbytes) as buffer:
            note("stage", text=f"the GPU writes {nbytes >> 20} MiB with {free >> 20} MiB free")
            fill(one, buffer, _SEED)
            note("stage", text="the GPU reads what has been evicted meanwhile")
            first, second = verify(one, buffer, _SEED), verify(one, buffer, _SEED)
            increment(one, buffer)
            return Oversubscribed(free, nbytes, first, second, cpu_view(buffer, _SEED, added=1))


@contextmanager
def _taken(gpu: Device) -> Iterator[None]:
    """Nearly all of ``gpu``'s memory, in halves of what is free: the largest piece that the driver finds room for."""
    with ExitStack() as stack:
        piece = _free_nbytes(gpu)
        while _free_nbytes(gpu) > 2 * _LEFT_NBYTES and piece >= _STEP_NBYTES:
            piece = min(piece, _free_nbytes(gpu) - _LEFT_NBYTES)
            try:
                stack.enter_context(on_device(gpu, piece))
            except CudaError as error:
                if error.name != _OUT_OF_MEMORY:
                    raise
                piece //= 2
        yield


def _free_nbytes(gpu: Device) -> int:
    gpu.use()
    free, _total = cu.cuMemGetInfo()
    return int(free)
