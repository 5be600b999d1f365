"""A kernel that runs while the CPU does something, and is told to stop whatever becomes of that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu, raw
from dmaproof.cuda.memory import Buffer

STOP, TOLD = 0, 4
"""Offsets in a kernel's control words: where it looks whether to stop, and where it tells."""


@contextmanager
def running(name: str, gpu: Device, stream: Any, control: Buffer, *args: int, threads: int) -> Iterator[None]:
    """Kernel ``name``, one block, runs as long as the block does; ``control`` is pinned, its first word says stop.

    Raises CudaError where the kernel did not end well.
    """
    control.cpu[:] = 0
    kernels.launch(name, gpu, stream, *args, blocks=1, threads=threads)
    try:
        yield
    finally:
        control.cpu[STOP // 4] = 1
    gpu.use()
    cu.cuStreamSynchronize(stream)


def at_work(stream: Any) -> bool:
    """Whether what was queued on ``stream`` goes on: it has not ended, neither well nor by an error."""
    status, *_ = raw("cuStreamQuery")(stream)
    return int(status) == int(cu.CUresult.CUDA_ERROR_NOT_READY)


def await_passes(control: Buffer, stream: Any, passes: int) -> bool:
    """Wait until the kernel has told of ``passes`` passes; whether it came to that before it ended. No limit of its
    own: a GPU that does neither is a hang, and whoever waits for this process looks into those."""
    while int(control.cpu[TOLD // 4]) < passes:
        if not at_work(stream):
            return False
        time.sleep(0)
    return True
