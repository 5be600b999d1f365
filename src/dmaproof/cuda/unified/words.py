"""What all workloads on unified memory do with its words: write, look, change, ask whether both may do so at once."""

from __future__ import annotations

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device
from dmaproof.cuda.integrity import View
from dmaproof.cuda.memory import Buffer
from dmaproof.cuda.timing import run_to_end
from dmaproof.errors import Unsupported


def cpu_fill(buffer: Buffer, seed: int) -> None:
    """The CPU writes the pattern of ``seed``."""
    buffer.cpu[:] = kernels.pattern(buffer.nwords, seed)


def cpu_view(buffer: Buffer, seed: int, added: int = 0) -> View:
    """What the CPU finds that is not the pattern of ``seed`` with ``added`` added to each word."""
    wrong = np.flatnonzero(buffer.cpu != kernels.pattern(buffer.nwords, seed) + np.uint32(added))
    return View(len(wrong), int(wrong[0]) * 4 if len(wrong) else None)


def increment(gpu: Device, buffer: Buffer) -> None:
    """The GPU adds one to each word."""
    args = (buffer.address, buffer.nwords)
    run_to_end(gpu, lambda stream: kernels.launch_wide("dmaproof_increment", gpu, stream, *args))


def require_concurrent(gpu: Device) -> None:
    """Raises Unsupported where CPU and GPU may not use managed memory at the same time."""
    if not gpu.attribute("CONCURRENT_MANAGED_ACCESS"):
        raise Unsupported(
            f"{gpu.bdf}: CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS is 0: no prefetch, no concurrent use"
        )
