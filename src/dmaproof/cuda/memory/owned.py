"""Memory of one GPU that others use, of every kind: ``with owned("vmm", owner, [writer], nbytes) as held``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from dmaproof.cuda.device import Device, peers
from dmaproof.cuda.memory.buffer import Buffer
from dmaproof.cuda.memory.ipc import Exporter, from_another_process, from_descriptor
from dmaproof.cuda.memory.plain import on_device
from dmaproof.cuda.memory.pool import from_pool
from dmaproof.cuda.memory.vmm import on_device_by_handle

DeviceKind = Literal["device", "pool", "vmm", "vmm-fd", "ipc"]
DEVICE_KINDS: tuple[DeviceKind, ...] = ("device", "pool", "vmm", "vmm-fd", "ipc")


@dataclass(frozen=True, slots=True)
class Held:
    """``buffer`` as this process sees it. ``exporter`` is the process whose memory it is, where that is another."""

    buffer: Buffer
    exporter: Exporter | None = None


@contextmanager
def owned(kind: DeviceKind, owner: Device, users: Sequence[Device], nbytes: int) -> Iterator[Held]:
    """``nbytes`` of ``owner``'s memory that ``users`` reach as long as the block runs, each kind by its own means:
    cuCtxEnablePeerAccess, cuMemPoolSetAccess, cuMemSetAccess, or the flag with which an IPC handle is opened.

    Raises Unsupported where the GPU has no such memory.
    """
    with ExitStack() as stack:
        if kind == "ipc":
            buffer, exporter = stack.enter_context(from_another_process(owner, users, nbytes))
            yield Held(buffer, exporter)
        elif kind == "vmm-fd":
            buffer, exporter = stack.enter_context(from_descriptor(owner, users, nbytes))
            yield Held(buffer, exporter)
        elif kind == "pool":
            yield Held(stack.enter_context(from_pool(owner, users, nbytes)))
        elif kind == "vmm":
            yield Held(stack.enter_context(on_device_by_handle(owner, users, nbytes)))
        else:
            for user in users:
                stack.enter_context(peers(user, owner))
            yield Held(stack.enter_context(on_device(owner, nbytes)))
