"""Workload: two GPUs add to the same words in memory of one of them, at the same time.

Whether the link carries atomics is an attribute of the pair (CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED: "atomic
operations over the link supported"). Where it is not claimed, nothing is promised about the sum.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, can_access_peer, device, peers
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.cuda.timing import stream_on

Operation = Literal["red", "atom"]
_NWORDS = 1024


@dataclass(frozen=True, slots=True)
class PeerAdds:
    """``native``: the driver claims native atomics from the writing GPU to the owner. ``rounds`` adds by each GPU to
    each of ``nwords``. ``wrong_words`` have another sum than both GPUs' adds, as the owner reads them; of those
    ``without_the_peer`` have just the owner's own. ``writer_wrong_words`` is the other GPU's view of the same words."""

    native: bool
    can_access: bool
    rounds: int
    nwords: int
    wrong_words: int
    without_the_peer: int
    lost: int
    writer_wrong_words: int


def peer_adds(writer: str, owner: str, operation: Operation, rounds: int) -> PeerAdds:
    """``writer`` adds by ``operation`` (without the old value, or fetching it), ``owner`` to its own memory as well."""
    writing, owning = device(writer), device(owner)
    with ExitStack() as stack:
        for one in (writing, owning):
            kernels.load_all(one)
        stack.enter_context(peers(writing, owning))
        words = stack.enter_context(on_device(owning, 4 * _NWORDS))
        last = stack.enter_context(on_device(writing, 4 * _NWORDS))
        owning.use()
        cu.cuMemsetD8(words.address, 0, words.nbytes)
        cu.cuCtxSynchronize()  # a fill may return before it is done
        streams = [(gpu, stack.enter_context(stream_on(gpu))) for gpu in (owning, writing)]
        kernels.launch_wide("dmaproof_red", *streams[0], words.address, _NWORDS, rounds)
        rest = (last.address,) if operation == "atom" else ()
        kernels.launch_wide(f"dmaproof_{operation}", *streams[1], words.address, _NWORDS, rounds, *rest)
        for gpu, stream in streams:
            gpu.use()
            cu.cuStreamSynchronize(stream)
        return _told(writing, owning, words, rounds)


def _told(writing: Device, owning: Device, words: Buffer, rounds: int) -> PeerAdds:
    sums, seen = _read(owning, words), _read(writing, words)
    return PeerAdds(
        native=_claims_native(writing, owning),
        can_access=can_access_peer(writing, owning),
        rounds=rounds,
        nwords=_NWORDS,
        wrong_words=int(np.count_nonzero(sums != 2 * rounds)),
        without_the_peer=int(np.count_nonzero(sums == rounds)),
        lost=int(2 * rounds * _NWORDS - sums.sum()),
        writer_wrong_words=int(np.count_nonzero(seen != 2 * rounds)),
    )


def _claims_native(writing: Device, owning: Device) -> bool:
    attribute = cu.CUdevice_P2PAttribute.CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED
    return bool(cu.cuDeviceGetP2PAttribute(attribute, writing.handle, owning.handle))


def _read(gpu: Device, words: Buffer) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """As a kernel of ``gpu`` reads them."""
    content = np.zeros(_NWORDS, np.uint32)
    with on_device(gpu, words.nbytes) as copy, stream_on(gpu) as stream:
        kernels.launch_wide("dmaproof_copy", gpu, stream, copy.address, words.address, words.nbytes // 16)
        gpu.use()
        cu.cuStreamSynchronize(stream)
        cu.cuMemcpyDtoH(content.ctypes.data, copy.address, words.nbytes)
    return content.astype(np.int64)
