"""The ladder: what is done, step by step, when a deadline has passed. First look, then end; no step can stop the next.

1. Python stacks, by faulthandler in the worker: with the GIL or, where a call keeps that, without. 2. Kernel side of
all its threads, twice: a livelock moves, a deadlock does not. 3. Captures (NVML, IOMMU, UVM state), while the worker
still lives. 4. SIGTERM. 5. SIGKILL. 6. Still there. Captures run between the two looks at the threads, so that an
ordinary hang takes little more than ``sample_gap_s``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from pydantic import TypeAdapter

from dmaproof.node import isolated, output, tasks
from dmaproof.node.deadline import Deadline
from dmaproof.node.messages import Note
from dmaproof.node.process import Process
from dmaproof.node.tasks import Task

Capture = Callable[[Deadline], str]
"""Says something about the machine after a hang. It runs in a forked process (dmaproof.node.isolated): it opens what it
reads, and what it changes in memory is lost. NVML must be initialised by it, not before it."""
Ended = Literal["itself", "SIGTERM", "SIGKILL", "unkillable"]
_TASKS: TypeAdapter[tuple[Task, ...]] = TypeAdapter(tuple[Task, ...])
_STACKS_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""With the GIL, and without: what dmaproof.node.worker_main answers to."""
_SETTLED_S = 0.02


_FATES = {"itself": "ended while it was looked at", "unkillable": "could not be killed"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long each step may take, in seconds. ``stacks_s`` is for each of two tries; ``kill_s`` is long, for a driver
    gives back a GPU's memory at exit."""

    stacks_s: float = 0.5
    sample_s: float = 1.0
    sample_gap_s: float = 1.0
    capture_s: float = 3.0
    term_s: float = 1.0
    kill_s: float = 5.0

    def stretched(self, scale: float) -> Bounds:
        """For a machine on which looking takes ``scale`` times as long: up to ten times these, never less."""
        scale = min(max(scale, 1.0), 10.0)
        looks = ("stacks_s", "sample_s", "capture_s")
        return replace(self, **{name: getattr(self, name) * scale for name in looks})


@dataclass(frozen=True, slots=True)
class Step:
    """``at_s`` is when the step was over, in seconds since the deadline passed."""

    name: str
    at_s: float
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HangReport:
    """All that was seen of a hang.

    ``tasks`` is the first look at the threads, ``tasks_later`` the second, ``tasks_stuck`` what SIGKILL left.
    ``queued_s`` is what the worker was given beside its deadline, for it had no processor.
    """

    workload: str
    deadline_s: float
    pid: int
    notes: tuple[Note, ...]
    steps: tuple[Step, ...]
    tasks: tuple[Task, ...]
    tasks_later: tuple[Task, ...]
    tasks_stuck: tuple[Task, ...]
    python_stacks: str
    captures: dict[str, str]
    output_tail: str
    ended: Ended
    queued_s: float = 0.0

    @property
    def moved(self) -> tuple[int, ...]:
        """Threads that did something between the two looks: none in a deadlock, some in a livelock."""
        return tasks.moved(self.tasks, self.tasks_later)

    @property
    def summary(self) -> str:
        """One sentence for the failure message."""
        seen = [task for task in self.tasks_stuck or self.tasks if not task.ended]
        where = f"; thread {seen[0].tid} ({seen[0].comm}): state {seen[0].state} in {seen[0].place}" if seen else ""
        last = f"; last note: {self.notes[-1]}" if self.notes else ""
        fate = _FATES.get(self.ended, f"was ended by {self.ended}")
        beside = f", and {self.queued_s:.1f} s more for want of a processor" if self.queued_s else ""
        missed = f"{self.workload} did not return within {self.deadline_s:g} s{beside}"
        return f"{missed}; worker {self.pid} {fate}{where}{last}"


@dataclass(slots=True)
class _Log:
    began_s: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, outcome: str) -> None:
        self.steps.append(Step(name, round(time.monotonic() - self.began_s, 3), outcome))


def climb(
    process: Process,
    *,
    workload: str,
    deadline: Deadline,
    notes: Sequence[Note],
    output: output.Output,
    captures: Mapping[str, Capture],
    bounds: Bounds,
    queued_s: float = 0.0,
) -> HangReport:
    """Look at ``process``, which has not answered, and end it. It is reaped, or left behind, when this returns."""
    log = _Log()
    try:
        stacks = _python_stacks(process, output, bounds, log)
        first, captured, later = _look(process.pid, captures, bounds, log)
        ended = _end(process, bounds, log)
        stuck = _sample(process.pid, bounds, log) if ended == "unkillable" else ()
    finally:
        process.signal_group(signal.SIGKILL)  # Ctrl-C in the middle of the ladder leaves no worker either
        process.reap()
    return HangReport(
        workload=workload,
        deadline_s=deadline.seconds,
        pid=process.pid,
        notes=tuple(notes),
        steps=tuple(log.steps),
        tasks=first,
        tasks_later=later,
        tasks_stuck=stuck,
        python_stacks=stacks,
        captures=captured,
        output_tail=output.tail(),
        ended=ended,
        queued_s=queued_s,
    )


def _python_stacks(process: Process, files: output.Output, bounds: Bounds, log: _Log) -> str:
    if not process.ready:
        log.add("python stacks", "not asked for: the worker was still starting")
        return ""
    before = output.size(files.stacks_path)
    for number, how in zip(_STACKS_SIGNALS, ("", ", the GIL is held"), strict=True):
        process.ask_for_stacks(number)
        _wait_until_settled(files, before, Deadline.after(bounds.stacks_s))
        if text := output.read_from(files.stacks_path, before):
            log.add("python stacks", f"{len(text.splitlines())} lines{how}")
            return text
    log.add("python stacks", "no answer")
    return ""


def _wait_until_settled(files: output.Output, before: int, deadline: Deadline) -> None:
    """Wait until the dump has stopped growing: faulthandler writes no end mark."""
    last, since = before, Deadline.after(0)
    while not deadline.passed and (last == before or not since.passed):
        time.sleep(0.002)
        now = output.size(files.stacks_path)
        if now != last:
            last, since = now, Deadline.after(_SETTLED_S)


def _look(
    pid: int, captures: Mapping[str, Capture], bounds: Bounds, log: _Log
) -> tuple[tuple[Task, ...], dict[str, str], tuple[Task, ...]]:
    gap = Deadline.after(bounds.sample_gap_s)
    first = _sample(pid, bounds, log)
    end = Deadline.after(bounds.capture_s)
    running = {name: isolated.start(partial(capture, end)) for name, capture in captures.items()}
    try:
        time.sleep(gap.remaining_s)
        later = _sample(pid, bounds, log)
    finally:  # on Ctrl-C too: nothing else ends a capture that is stuck
        captured = _collect(running, end, log)
    return first, captured, later


def _sample(pid: int, bounds: Bounds, log: _Log) -> tuple[Task, ...]:
    """Isolated, for /proc too takes locks of the process looked at (fs/proc/base.c, lock_trace)."""
    running = isolated.start(lambda: _TASKS.dump_json(tasks.sample(pid)).decode())
    outcome = running.collect(Deadline.after(bounds.sample_s))
    found = _TASKS.validate_json(outcome.text) if outcome.ok else ()
    log.add("threads", f"{len(found)} threads" if outcome.ok else outcome.text)
    return found


def _collect(running: Mapping[str, isolated.Running], end: Deadline, log: _Log) -> dict[str, str]:
    captured = {}
    for name, capture in running.items():
        outcome = capture.collect(end)
        captured[name] = outcome.text if outcome.ok else f"capture failed: {outcome.text}"
        log.add(f"capture {name}", f"{len(outcome.text)} characters" if outcome.ok else outcome.text)
    return captured


def _end(process: Process, bounds: Bounds, log: _Log) -> Ended:
    if process.wait_for_exit(Deadline.after(0)):
        log.add("end", "ended before it was told to")
        return "itself"
    steps: tuple[tuple[Literal["SIGTERM", "SIGKILL"], float], ...] = (
        ("SIGTERM", bounds.term_s),
        ("SIGKILL", bounds.kill_s),
    )
    for name, bound_s in steps:
        process.signal_group(signal.Signals[name])
        ended = process.wait_for_exit(Deadline.after(bound_s))
        log.add(name, "ended" if ended else f"still there after {bound_s:g} s")
        if ended:
            return name
    return "unkillable"
