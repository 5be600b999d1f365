"""Memory exported as a fabric handle, which other operating systems on the same NVLink fabric can import.

That takes IMEX: a daemon (nvidia-imex) and a channel, /dev/nvidia-caps-imex-channels/channelN, that the process may
open (NVIDIA IMEX Service guide). Without a channel the driver says CUDA_ERROR_NOT_PERMITTED (nvbandwidth#39, #44, #46).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda.device import device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory.buffer import Buffer
from dmaproof.cuda.memory.vmm import mapped, rights_of, supports, wish
from dmaproof.errors import CudaError, Unsupported

_NOT_PERMITTED = "CUDA_ERROR_NOT_PERMITTED"
_SEED = 0xFAB


@dataclass(frozen=True, slots=True)
class Imported:
    """What a kernel found through the imported mapping of what one had written through the exporter's own."""

    nbytes: int
    nwords: int
    view: View


def fabric_memory(gpu: str) -> Imported:
    """Exported by ``gpu`` and imported by the same process: the smallest piece that can be.

    Raises Unsupported where the GPU has no fabric, or the process no IMEX channel.
    """
    owner = device(gpu)
    if not supports(owner, "HANDLE_TYPE_FABRIC_SUPPORTED"):
        raise Unsupported(f"{gpu}: CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED is 0: it is on no NVLink fabric")
    owner.use()
    prop, rights = wish(cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, int(owner.handle)), rights_of([owner])
    prop.requestedHandleTypes = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_FABRIC
    minimum = cu.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
    nbytes = int(cu.cuMemGetAllocationGranularity(prop, minimum))
    with _allocated(prop, nbytes) as handle, mapped(handle, rights, nbytes) as own:
        fill(owner, Buffer(own, nbytes), _SEED)
        with _imported(handle) as again, mapped(again, rights, nbytes) as seen:
            return Imported(nbytes, nbytes // 4, verify(owner, Buffer(seen, nbytes), _SEED))


@contextmanager
def _allocated(prop: Any, nbytes: int) -> Iterator[Any]:
    with _permitted():
        handle = cu.cuMemCreate(nbytes, prop, 0)
    try:
        yield handle
    finally:
        cu.cuMemRelease(handle)


@contextmanager
def _imported(handle: Any) -> Iterator[Any]:
    with _permitted():
        kind = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_FABRIC
        again = cu.cuMemImportFromShareableHandle(cu.cuMemExportToShareableHandle(handle, kind, 0), kind)
    try:
        yield again
    finally:
        cu.cuMemRelease(again)


@contextmanager
def _permitted() -> Iterator[None]:
    try:
        yield
    except CudaError as error:
        if error.name != _NOT_PERMITTED:
            raise
        raise Unsupported(
            f"no fabric handles: the driver says {_NOT_PERMITTED}, which means no IMEX channel; start nvidia-imex, and "
            "give this process /dev/nvidia-caps-imex-channels/channel0"
        ) from None
