"""Workload: what other processes may not be given (cuIpcGetMemHandle)."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.cuda.device import device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import fill
from dmaproof.cuda.memory import SharedKind, shared
from dmaproof.errors import CudaError


@dataclass(frozen=True, slots=True)
class Refused:
    """``error``: by which error cuIpcGetMemHandle refused, "" where it gave a handle."""

    error: str


def export(gpu: str, memory: SharedKind, nbytes: int) -> Refused:
    """Ask for a handle of memory that ``gpu`` has just written."""
    one = device(gpu)
    with shared(one, memory, nbytes) as buffer:
        fill(one, buffer, 91)
        try:
            cu.cuIpcGetMemHandle(buffer.address)
        except CudaError as error:
            return Refused(error.name)
        return Refused("")
