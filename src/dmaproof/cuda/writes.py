"""How one GPU writes into another's memory: by its copy engines, or by a kernel's stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from dmaproof.cuda import kernels
from dmaproof.cuda.copies import Engine
from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu

Writer = Literal["ce", "sm"]
_VECTOR_NBYTES = 16


def queue_write(
    engine: Engine, writing: Device, owning: Device | None, target: int, source: int, nbytes: int
) -> Callable[[Any], None]:
    """``queue(stream)`` has ``writing`` copy ``nbytes`` of its own memory at ``source`` to ``target`` in ``owning``'s,
    which it has mapped; None where the memory is no context's (pools, mapped handles, IPC). Kernels use stores of 16
    bytes where both addresses and the length allow it, else of one; the tensor memory accelerator takes nothing else.
    Raises Unsupported for a GPU that has none.
    """

    def by_copy_engine(stream: Any) -> None:
        writing.use()
        if owning is None:
            cu.cuMemcpyAsync(target, source, nbytes, stream)
        else:
            cu.cuMemcpyPeerAsync(target, owning.context, source, writing.context, nbytes, stream)

    def by_kernel(stream: Any) -> None:
        if any(one % _VECTOR_NBYTES for one in (target, source, nbytes)):
            kernels.launch_wide("dmaproof_copy_bytes", writing, stream, target, source, nbytes)
        else:
            kernels.launch_wide("dmaproof_copy", writing, stream, target, source, nbytes // _VECTOR_NBYTES)

    def by_accelerator(stream: Any) -> None:
        args = (target, source, nbytes, 1)
        kernels.launch("dmaproof_tma_copy", writing, stream, *args, blocks=writing.multiprocessors, threads=32)

    if engine == "tma":
        kernels.require("dmaproof_tma_copy", writing)
    return {"ce": by_copy_engine, "sm": by_kernel, "tma": by_accelerator}[engine]
