"""Event sets: each is fed by a connection of its own, from the moment that it is made."""

from __future__ import annotations

import itertools
import time
from ctypes import POINTER, Structure, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dmaproof.virtual.machine.nvrm import EVENTS
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.link import Link
from dmaproof.virtual.nvml.registry import nvml
from dmaproof.virtual.nvml.session import gpu_of, handle, put, session

_SUPPORTED = sum(EVENTS)
_NO_INSTANCE = 0xFFFFFFFF
_FIRST_SET = 0x10000


class EventData(Structure):
    """nvmlEventData_t"""

    _fields_: ClassVar = [
        ("device", c_void_p),
        ("event_type", c_ulonglong),
        ("event_data", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    ]


@dataclass(slots=True)
class EventSet:
    """``masks``: the event types registered, by BDF."""

    link: Link
    masks: dict[str, int] = field(default_factory=dict)


_sets: dict[int, EventSet] = {}
_numbers = itertools.count(_FIRST_SET)


def _set_of(number: int | None) -> EventSet:
    session()
    if number is None or number not in _sets:
        raise NvmlError(Code.INVALID_ARGUMENT)
    return _sets[number]


@nvml("nvmlEventSetCreate", arguments=(POINTER(c_void_p),))
def create(event_set: Any) -> None:
    session()
    link = Link()
    link.watch()
    number = next(_numbers)
    _sets[number] = EventSet(link)
    put(event_set, number)


@nvml("nvmlEventSetFree", arguments=(c_void_p,))
def free(number: int | None) -> None:
    _set_of(number).link.close()
    del _sets[number or 0]


@nvml("nvmlDeviceGetSupportedEventTypes", arguments=(c_void_p, POINTER(c_ulonglong)))
def supported(device: int | None, types: Any) -> None:
    """What the model can raise."""
    gpu_of(device)
    put(types, _SUPPORTED)


@nvml("nvmlDeviceRegisterEvents", arguments=(c_void_p, c_ulonglong, c_void_p))
def register(device: int | None, types: int, number: int | None) -> None:
    masks, gpu = _set_of(number).masks, gpu_of(device)
    if types & ~_SUPPORTED:
        raise NvmlError(Code.NOT_SUPPORTED)
    masks[gpu.bdf] = masks.get(gpu.bdf, 0) | types


@nvml("nvmlEventSetWait_v2", "nvmlEventSetWait", arguments=(c_void_p, POINTER(EventData), c_uint))
def wait(number: int | None, data: Any, timeout_ms: int) -> None:
    """The next registered event. NvmlError(TIMEOUT) after ``timeout_ms``."""
    events = _set_of(number)
    deadline_s = time.monotonic() + timeout_ms / 1000
    while (event := events.link.next_event(deadline_s)) is not None:
        if events.masks.get(event.gpu, 0) & event.event_type:
            index = [gpu.bdf for gpu in session().gpus].index(event.gpu)
            put(data, EventData(handle(index), event.event_type, event.event_data, _NO_INSTANCE, _NO_INSTANCE))
            return
    raise NvmlError(Code.TIMEOUT)
