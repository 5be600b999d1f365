"""NVML's events (nvmlEventSetWait_v2) as a source of evidence; NVML itself lives in a process of its own.

``python -m dmaproof.evidence.nvml_events`` is that process. NVML gives an event no time of its own: it lies between
the last wait that found nothing and the wait that brought it, both taken in the child on CLOCK_MONOTONIC.

Between waits the child reads NVML's error counters (dmaproof.evidence.nvml_counters): at its start, then once a second
or less often where that takes long, and when it is asked. Their steps are evidence too.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import pynvml

from dmaproof import bdf
from dmaproof.evidence import counters, nvml_counters
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep
from dmaproof.evidence.nvml_counters import Counted
from dmaproof.evidence.nvml_process import Child, reason, serve, wait_until

SOURCE, COUNTERS = "nvml", "nvml-counters"
EVENTS: Mapping[int, str] = {
    0x0001: "single-bit-ecc-error",
    0x0002: "double-bit-ecc-error",
    0x0004: "p-state",
    0x0008: "xid",
    0x0010: "clock",
    0x0080: "power-source-change",
    0x0100: "mig-config-change",
    0x0200: "single-bit-ecc-error-storm",
    0x0400: "dram-retirement",
    0x0800: "dram-retirement-failure",
    0x1000: "poison-non-fatal",
    0x2000: "poison-fatal",
    0x4000: "gpu-unavailable",
    0x8000: "gpu-recovery-action",
}
"""Names of the event types (nvml.h, nvmlEventType*). As numbers: older pynvml lacks the newer names."""
_NO_INSTANCE = 0xFFFFFFFF
_WAIT_MS = 200
_PAUSE_S = 1.0  # after an error that a further wait would only meet again
_COUNT_EVERY_S = 1.0
_SHARE = 0.02  # of the child's time, at most, that goes into reading counters
_Say = Callable[[Mapping[str, Any]], None]


class NvmlEvents:
    """Events and error counters of all GPUs of one node.

    ``poll`` gives Evidence of kind ``xid-event`` for Xids and ``nvml-event`` for the others, with ``data``: ``bdf``,
    ``uuid``, ``event_type`` (see EVENTS), ``event_data`` (the Xid; 999 is unknown), ``gpu_instance`` and
    ``compute_instance`` (None without MIG); and of kind ``counter-step``, whose fact is a CounterStep. ``env`` is laid
    over this process's environment, as for a worker. What hinders seeing becomes a sentence in ``blind_spots``, never
    an exception; ``gaps`` says which counters a GPU does not have.
    """

    def __init__(self, env: Mapping[str, str], node: str) -> None:
        self._env, self.node = env, node
        self._child: Child | None = None
        self._ready = False
        self.blind_spots: tuple[str, ...] = ()
        self.gaps: tuple[str, ...] = ()
        self._found: list[Evidence] = []
        self._counted = False

    def start(self, deadline_s: float) -> None:
        """Start to watch, waiting up to ``deadline_s`` seconds until NVML has registered every GPU."""
        until = time.monotonic() + deadline_s
        try:
            self._child = Child("dmaproof.evidence.nvml_events", self._env)
        except OSError as error:
            self._go_blind(f"NVML events are not seen: no process could be started for them ({error.strerror})")
            return
        while not self._ready and not self._child.silent and wait_until(until):
            self._hear(wait_until(until))
        if not self._ready and not self.blind_spots:
            state = self._child.state()
            self._go_blind(f"NVML events are not seen: NVML has not answered within {deadline_s:g} s, it is {state}")

    def poll(self) -> list[Evidence]:
        """What NVML has told since the last poll."""
        self._hear(0.0)
        found, self._found = self._found, []
        return found

    def count_now(self, deadline_s: float) -> None:
        """Have the counters read now, for the next ``poll``, waiting up to ``deadline_s`` seconds for it."""
        child = self._child
        if child is None or not self._ready:
            return
        until, self._counted = time.monotonic() + deadline_s, False
        child.ask()
        while not self._counted and not child.silent and wait_until(until):
            self._hear(wait_until(until))
        if not self._counted and not child.silent:
            self._go_blind(f"NVML did not tell its counters within {deadline_s:g} s: its process is {child.state()}")

    def stop(self) -> None:
        """End the watch, within seconds even where NVML is stuck in the kernel."""
        child, self._child = self._child, None
        state = None if child is None else child.stop()
        if state is not None:
            self._go_blind(f"the NVML process cannot be ended: it is {state}")

    def _hear(self, timeout_s: float) -> None:
        child = self._child
        if child is None or child.silent:
            return
        for words in child.read(timeout_s):
            if "event" in words:
                self._found.append(self._evidence(words))
            elif "blind" in words:
                self._go_blind(words["blind"])
            elif "steps" in words:
                self._found += self._of_steps(words)
                self._counted = True
            else:
                self._ready, self.gaps = True, tuple(words["gaps"])
        if child.silent and not self.blind_spots:
            self._go_blind(f"NVML events are no longer seen: the NVML process {child.state()}")

    def _go_blind(self, sentence: str) -> None:
        if sentence not in self.blind_spots:
            self.blind_spots += (sentence,)

    def _evidence(self, words: Mapping[str, Any]) -> Evidence:
        event, after_s, before_s = words["event"], words["after_s"], words["before_s"]
        name, value = event["event_type"], event["event_data"]
        what = f"Xid {value}" if name == "xid" else f"{name}, data {value:#x}"
        return Evidence(
            source=SOURCE,
            node=self.node,
            time_s=(after_s + before_s) / 2,
            uncertainty_s=(before_s - after_s) / 2,
            kind="xid-event" if name == "xid" else "nvml-event",
            text=f"NVML: {what} on {event['bdf'] or 'an unknown GPU'}",
            data=event,
        )

    def _of_steps(self, words: Mapping[str, Any]) -> list[Evidence]:
        steps = (CounterStep(**step) for step in words["steps"])
        when = {name: words[name] for name in ("after_s", "before_s")}
        return counters.as_evidence(steps, source=COUNTERS, node=self.node, **when)


def watch(say: _Say, asked: threading.Event) -> None:
    """The child's work: register for every event there is, then pass on what comes, and what counters tell."""
    try:
        pynvml.nvmlInit()
        events = pynvml.nvmlEventSetCreate()
        gpus = _register(events, say)
    except pynvml.NVMLError as error:
        say({"blind": f"NVML events are not seen: {reason(error)}"})
        return
    sweep = _Sweep({str(gpu["bdf"]): nvml_counters.counted(handle) for handle, gpu in gpus.values()}, say, asked)
    say({"ready": len(gpus), "gaps": sweep.gaps})
    _pass_on(events, {address: gpu for address, (_, gpu) in gpus.items()}, say, sweep)


class _Sweep:
    """Reads all counters when that is due, and says what has become more."""

    def __init__(self, gpus: Mapping[str, Counted], say: _Say, asked: threading.Event) -> None:
        self._gpus, self._say, self._asked = gpus, say, asked
        self._read()
        self.gaps = nvml_counters.gaps(self._readings, tuple(gpus))

    def _read(self) -> None:
        self._began_s = time.monotonic()
        self._readings = nvml_counters.read(self._gpus)
        self._ended_s = time.monotonic()
        self._due_s = self._ended_s + max(_COUNT_EVERY_S, (self._ended_s - self._began_s) / _SHARE)

    def if_due(self) -> None:
        asked = self._asked.is_set()
        if not asked and time.monotonic() < self._due_s:
            return
        self._asked.clear()
        before, after_s = self._readings, self._began_s
        self._read()
        steps = [asdict(one) for one in counters.steps(before, self._readings)]
        if steps or asked:
            self._say({"steps": steps, "after_s": after_s, "before_s": self._ended_s})


def _register(events: Any, say: _Say) -> dict[int, tuple[Any, dict[str, str | None]]]:
    """Who is who among the handles in events. A GPU that cannot be registered is told of; the others are watched."""
    gpus = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            gpus[_address(handle)] = handle, _identity(handle)
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlDeviceGetSupportedEventTypes(handle), events)
        except pynvml.NVMLError as error:
            say({"blind": f"NVML events of GPU {index} are not seen: {reason(error)}"})
    return gpus


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _identity(handle: Any) -> dict[str, str | None]:
    return {"bdf": bdf.parse(pynvml.nvmlDeviceGetPciInfo(handle).busId), "uuid": pynvml.nvmlDeviceGetUUID(handle)}


def _pass_on(events: Any, gpus: Mapping[int, dict[str, str | None]], say: _Say, sweep: _Sweep) -> None:
    after_s = time.monotonic()
    while True:
        sweep.if_due()
        asked_s = time.monotonic()
        try:
            data = pynvml.nvmlEventSetWait_v2(events, _WAIT_MS)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:
                say({"blind": f"NVML events may be missing: {reason(error)}"})
                time.sleep(_PAUSE_S)
            after_s = asked_s
            continue
        say({"event": _event(data, gpus), "after_s": after_s, "before_s": time.monotonic()})


def _event(data: Any, gpus: Mapping[int, dict[str, str | None]]) -> dict[str, Any]:
    return {
        **gpus.get(_address(data.device), {"bdf": None, "uuid": None}),
        "event_type": EVENTS.get(data.eventType, f"{data.eventType:#x}"),
        "event_data": data.eventData,
        "gpu_instance": None if data.gpuInstanceId == _NO_INSTANCE else data.gpuInstanceId,
        "compute_instance": None if data.computeInstanceId == _NO_INSTANCE else data.computeInstanceId,
    }


if __name__ == "__main__":
    nudge = threading.Event()
    serve(partial(watch, asked=nudge), nudge.set)
