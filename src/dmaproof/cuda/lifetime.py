"""Workloads: a peer mapping from its beginning to its end, and use of it after that.

What must follow is told by CUDA's documentation only in part: the codes of enabling and disabling twice
(cuCtxEnablePeerAccess), that memory goes with its context (cuCtxDestroy). That a GPU's access to memory of which it has
no mapping ends in a fault, at once, is what everything else relies on: a mapping that outlives its memory would let a
program write into another's. The workloads that end in a fault leave nothing behind but their process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, can_access_peer, device
from dmaproof.cuda.driver import cu, raw
from dmaproof.cuda.integrity import Written, fill, look
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.cuda.timing import run_to_end, stream_on
from dmaproof.cuda.writes import Writer, queue_write
from dmaproof.errors import DmaproofError

Ending = Literal["disabled", "freed", "destroyed", "reset"]
"""Of a mapping: peer access disabled by the one who has it, the memory freed by its owner, the owner's own context
destroyed, the owner's primary context reset."""
_NBYTES = 32 << 20
"""Far more than what a driver cuts out of a block that it keeps: memory of its own, whose mapping ends with it."""


class StillMapped(DmaproofError):  # noqa: N818 - an outcome
    """Memory that is no longer to be reached was written to, and nobody complained."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call's result code by name; ``wrote`` is a write of ``engine`` after it, where one may be done."""

    call: str
    code: str
    engine: Writer | None = None
    wrote: Written | None = None


@dataclass(frozen=True, slots=True)
class Switched:
    """``can_access`` is what cuDeviceCanAccessPeer says."""

    steps: tuple[Step, ...]
    can_access: bool


def switched(writer: str, owner: str) -> Switched:
    """Peer access enabled, again, disabled, again, and enabled once more; with writes where they may be done: by a
    kernel while it is on, by cuMemcpyPeer (which needs none) while it is off."""
    writing, owning = device(writer), device(owner)
    enable, disable = raw("cuCtxEnablePeerAccess"), raw("cuCtxDisablePeerAccess")
    with on_device(writing, _NBYTES) as source, on_device(owning, _NBYTES) as target:
        seeds = itertools.count(1)

        def step(call: str, do: Callable[[], Any], engine: Writer | None) -> Step:
            writing.use()
            code = do()[0].name
            wrote = _written(writing, owning, source, target, engine, next(seeds)) if engine else None
            return Step(call, code, engine, wrote)

        return Switched(
            (
                step("disable", lambda: disable(owning.context), None),
                step("enable", lambda: enable(owning.context, 0), "sm"),
                step("enable", lambda: enable(owning.context, 0), "sm"),
                step("disable", lambda: disable(owning.context), "ce"),
                step("disable", lambda: disable(owning.context), None),
                step("enable", lambda: enable(owning.context, 0), "sm"),
                step("disable", lambda: disable(owning.context), None),
            ),
            can_access_peer(writing, owning),
        )


def _written(  # noqa: PLR0913, RUF100 - both ends, and how
    writing: Device, owning: Device, source: Buffer, target: Buffer, engine: Writer, seed: int
) -> Written:
    fill(owning, target, seed - 1)
    fill(writing, source, seed)
    run_to_end(writing, queue_write(engine, writing, owning, target.address, source.address, _NBYTES))
    return look(writing, owning, target, seed, seed - 1, is_mapped=engine == "sm")


def write_after(writer: str, owner: str, ending: Ending) -> None:
    """A kernel of ``writer`` writes into ``owner``'s memory, the mapping ends, and the kernel writes once more.

    Raises CudaError for the fault that must come, StillMapped where none came.
    """
    writing, target, end = _mapped(writer, owner, ending)
    fill(writing, target, 1)
    end()
    fill(writing, target, 2)
    raise StillMapped(f"{writer} wrote to memory of {owner} after its mapping was {ending}, and no fault came")


def used_while(writer: str, owner: str, ending: Ending, kernel_limit_s: float = 2.0) -> None:
    """A kernel of ``writer`` reads ``owner``'s memory over and over, for ``kernel_limit_s`` at the most, while the
    mapping ends: the driver may wait for the kernel, or let it fault. Afterwards the memory is used once more.

    Raises CudaError for the fault that must come, then or afterwards; StillMapped where none came.
    """
    writing, target, end = _mapped(writer, owner, ending)
    with stream_on(writing) as stream, on_device(writing, 24) as result:
        control = target.address, 4, target.address + 512, target.address + 1024
        limits = 1, int(kernel_limit_s * 1e9), result.address
        kernels.launch("dmaproof_receive", writing, stream, *control, *limits, blocks=1, threads=32)
        end()
        writing.use()
        cu.cuStreamSynchronize(stream)
        fill(writing, target, 2)
    raise StillMapped(f"{writer} used memory of {owner} while its mapping was {ending} and after, and no fault came")


def _mapped(writer: str, owner: str, ending: Ending) -> tuple[Device, Buffer, Callable[[], None]]:
    """``owner``'s memory, zero, mapped by ``writer``; and what ends that."""
    writing, owning = device(writer), device(owner)
    kernels.load_all(writing)
    if ending == "destroyed":
        _create_context(owning)
    else:
        owning.use()
    context = cu.cuCtxGetCurrent()
    memory = cu.cuMemAlloc(_NBYTES)
    cu.cuMemsetD8(memory, 0, _NBYTES)
    cu.cuCtxSynchronize()
    writing.use()
    cu.cuCtxEnablePeerAccess(context, 0)
    return writing, Buffer(int(memory), _NBYTES), lambda: _end(ending, writing, owning, context, memory)


def _create_context(gpu: Device) -> None:
    """A context of its own, current from now on. cuda.bindings 12 has the parameter for its kind (None: a regular one)
    under another name."""
    create = cu.cuCtxCreate_v4 if hasattr(cu, "cuCtxCreate_v4") else cu.cuCtxCreate
    create(None, 0, gpu.handle)


def _end(ending: Ending, writing: Device, owning: Device, context: Any, memory: Any) -> None:
    if ending == "disabled":
        writing.use()
        cu.cuCtxDisablePeerAccess(context)
    elif ending == "freed":
        owning.use()
        cu.cuMemFree(memory)
    elif ending == "destroyed":
        cu.cuCtxDestroy(context)
    else:
        cu.cuDevicePrimaryCtxReset(owning.handle)
