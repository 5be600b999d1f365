"""What nvmlInit opens and nvmlShutdown closes, and the handles in between."""

from __future__ import annotations

import ctypes
import threading
from ctypes import c_uint
from dataclasses import dataclass
from typing import Any

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import Node
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.link import Link
from dmaproof.virtual.nvml.registry import nvml


@dataclass(slots=True)
class Session:
    """``users`` counts nvmlInit calls: NVML closes with the last nvmlShutdown."""

    link: Link
    users: int = 1

    @property
    def node(self) -> Node:
        return self.link.node

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """In the order of their addresses: NVML's indices do not follow the rig file."""
        return tuple(sorted(self.node.gpus, key=lambda gpu: gpu.bdf))


_lock = threading.Lock()
_session: Session | None = None


def session() -> Session:
    """NvmlError(UNINITIALIZED) before nvmlInit."""
    if _session is None:
        raise NvmlError(Code.UNINITIALIZED)
    return _session


@nvml("nvmlInitWithFlags", arguments=(c_uint,))
def init_with_flags(_flags: int) -> None:
    global _session  # noqa: PLW0603 - NVML is a library with one state a process
    with _lock:
        if _session is None:
            _session = Session(Link())
        else:
            _session.users += 1


@nvml("nvmlInit_v2", "nvmlInit")
def init() -> None:
    init_with_flags(0)


@nvml("nvmlShutdown")
def shutdown() -> None:
    global _session  # noqa: PLW0603
    with _lock:
        current = session()
        current.users -= 1
        if current.users == 0:
            current.link.close()
            _session = None


def handle(index: int) -> int:
    """The nvmlDevice_t of GPU ``index``: any number but 0."""
    return index + 1


def gpu_of(device: int | None) -> Gpu:
    """The GPU behind a handle. NvmlError(INVALID_ARGUMENT) for none, GPU_IS_LOST where it does not answer."""
    gpus = session().gpus
    if device is None or not 1 <= device <= len(gpus):
        raise NvmlError(Code.INVALID_ARGUMENT)
    found = gpus[device - 1]
    if session().link.is_lost(found.bdf):
        raise NvmlError(Code.GPU_IS_LOST)
    return found


def uuid_of(index: int) -> str:
    return GpuModel(session().gpus[index], index).uuid


def declared(value: Any) -> Any:
    """``value`` of the rig; NvmlError(NOT_SUPPORTED) for what it leaves open."""
    if value is None:
        raise NvmlError(Code.NOT_SUPPORTED)
    return value


def put_text(buffer: int | None, nbytes: int, text: str) -> None:
    """``text`` and its end into a caller's buffer. NvmlError(INSUFFICIENT_SIZE) where it does not fit."""
    content = text.encode() + b"\0"
    if not buffer:
        raise NvmlError(Code.INVALID_ARGUMENT)
    if len(content) > nbytes:
        raise NvmlError(Code.INSUFFICIENT_SIZE)
    ctypes.memmove(buffer, content, len(content))


def put(pointer: Any, value: Any) -> None:
    """``value`` to where a caller's pointer points. NvmlError(INVALID_ARGUMENT) for NULL."""
    if not pointer:
        raise NvmlError(Code.INVALID_ARGUMENT)
    pointer[0] = value
