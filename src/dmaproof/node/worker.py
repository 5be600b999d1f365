"""The worker: a disposable process in which workloads run, one after the other, each under a deadline."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

from dmaproof.errors import Hang, WorkerDied, WorkloadFailed
from dmaproof.node import ladder, locks, messages, process
from dmaproof.node.channel import ChannelClosed
from dmaproof.node.deadline import Deadline
from dmaproof.node.ladder import Bounds, Capture
from dmaproof.node.messages import Note, Noted, Raised, Ready, Returned
from dmaproof.node.node import Node
from dmaproof.node.output import Output
from dmaproof.node.patience import TIMES, Patience
from dmaproof.node.process import Process, Spawn

R = TypeVar("R")
_worker_numbers = itertools.count(1)
_IDLE_EVERY_S = 0.05
_STOP_PATIENCE_S = 2.0


class _DeadlinePassed(Exception):  # noqa: N818
    pass


def _nothing_to_do() -> None:
    return


class Worker:
    """Runs workloads in a process of its own, kept warm between runs and replaced after a hang or a death.

    ``workdir`` takes the output file (``output_path``). ``captures`` say what else to look at after a deadline.
    ``idle`` is called about 20 times a second while an answer is awaited; it must not wait itself.
    ``spawn`` starts the process; left out, Python is started anew. ``patience``: how many times as long as its deadline
    a workload may take that waits for a processor; 1 for one whose answer somebody else awaits.
    ``notes`` are those of the latest run, also of one that hung. Not for use by several threads: the process is killed
    when the *thread* that started it ends (PR_SET_PDEATHSIG, prctl(2)).
    """

    def __init__(
        self,
        node: Node,
        workdir: Path,
        *,
        run_id: str,
        captures: Mapping[str, Capture] | None = None,
        bounds: Bounds | None = None,
        idle: Callable[[], None] | None = None,
        spawn: Spawn | None = None,
        patience: float = TIMES,
    ) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        self._node, self._run_id = node, run_id
        self._captures, self._bounds = dict(captures or {}), bounds or Bounds()
        self._idle = idle or _nothing_to_do
        self._spawn, self._times = spawn, patience
        self._output = Output(workdir, f"worker-{os.getpid()}-{next(_worker_numbers)}")
        self._notes: list[Note] = []
        self._calls = itertools.count(1)
        self._process: Process | None = None
        self.acquired_s: float | None = None
        """When, on CLOCK_MONOTONIC, the latest run came to hold its devices: what they did before was others' doing."""
        self.worked_pid: int | None = None
        """The process of the latest run, also where it has ended."""

    @property
    def notes(self) -> tuple[Note, ...]:
        return tuple(self._notes)

    @property
    def output_path(self) -> Path:
        """Standard output and error of all processes that this worker has had, in order."""
        return self._output.path

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def run(
        self,
        workload: Callable[..., R],
        /,
        *,
        deadline: Deadline,
        devices: Sequence[str] = (),
        around: AbstractContextManager[object] | None = None,
        **kwargs: Any,
    ) -> R:
        """What ``workload(**kwargs)`` returns in the worker, holding ``devices`` (BDFs) meanwhile. ``around`` is
        entered here once they are held, and left before they are free: its time is not the workload's.

        ``deadline`` counts from before the start of a process that is not yet warm, and stands still while another
        process of the run has a device, and while the worker could run and has no processor (``patience``): an
        overloaded machine is no hang of a GPU. Raises WorkloadFailed (it raised), WorkerDied (it crashed), Hang (the
        deadline passed), DeviceBusy, DevicePoisoned, UsageError (a workload or argument that cannot cross to another
        process).
        """
        number = next(self._calls)
        frame = messages.encode_call(number, workload, kwargs, sys.path)
        self._notes.clear()
        self._output.begin()
        running = self._warm()
        self.worked_pid = running.pid
        began_s = time.monotonic()
        with locks.acquire(self._node, devices, self._run_id, deadline, running.pid) as held:
            self.acquired_s = time.monotonic()
            with around or nullcontext():
                later = deadline.later(time.monotonic() - began_s)
                patience = Patience(later, running.pid, self._times)
                answer = self._ask(running, number, frame, patience, held, messages.name_of(workload))
        return returned(workload, answer)

    def _ask(  # noqa: PLR0913, RUF100 - the call, and who makes it
        self, running: Process, number: int, frame: bytes, patience: Patience, held: locks.Held, workload: str
    ) -> Returned | Raised:
        try:
            running.channel.send(frame, held.fds, patience.deadline)
            return self._await_answer(running, number, patience)
        except (_DeadlinePassed, TimeoutError):
            raise self._hang(running, workload, patience, held) from None
        except ChannelClosed:
            raise self._death(running, workload, held) from None
        except BaseException:  # Ctrl-C among them: what the worker is doing now nobody will ask for
            self._end(held)
            raise

    def stop(self) -> None:
        """End the process. Bounded: at worst 8 s, and a process that cannot be killed is left behind."""
        self._end(None, patience_s=_STOP_PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _warm(self) -> Process:
        if self._process is not None and self._process.wait_for_exit(Deadline.after(0)):
            self._end(None)  # it ended between two calls, after answering: nobody's failure
        if self._process is None:
            self._process = Process(self._output.path, self._output.stacks_path, self._node.env, self._spawn)
        return self._process

    def _end(self, held: locks.Held | None, patience_s: float = 0.0) -> int | None:
        ending, self._process = self._process, None
        if ending is None:
            return None
        code = process.end(ending, patience_s=patience_s)
        if code is None and held is not None:
            held.mark_unkillable()
        return code

    def _await_answer(self, running: Process, number: int, patience: Patience) -> Returned | Raised:
        while True:
            frame = running.channel.next_frame()
            if frame is None:
                if not running.wait_for_news(patience.deadline.sooner(_IDLE_EVERY_S)):
                    self._idle()
                    if patience.ended():
                        raise _DeadlinePassed
                continue
            message = messages.REPLY.validate_json(frame)
            match message:
                case Ready():
                    running.ready = True
                case Noted() if message.number == number:
                    self._notes.append(message.note)
                case Returned() | Raised() if message.number == number:
                    return message

    def _death(self, running: Process, workload: str, held: locks.Held) -> WorkerDied:
        running.wait_for_exit(Deadline.after(_STOP_PATIENCE_S))
        code = self._end(held)
        return WorkerDied(f"{workload}: worker {running.pid} {_ending(code)}; its output ends: {self._output.tail()!r}")

    def _hang(self, running: Process, workload: str, patience: Patience, held: locks.Held) -> Hang:
        self._process = None
        report = ladder.climb(
            running,
            workload=workload,
            deadline=patience.deadline,
            queued_s=patience.given_s,
            notes=self._notes,
            output=self._output,
            captures=self._captures,
            bounds=self._bounds,
        )
        if report.ended == "unkillable":
            held.mark_unkillable()
        return Hang(report.summary, report)


def returned(workload: Callable[..., R], answer: Returned | Raised) -> R:
    """The result in ``answer`` as ``workload`` annotates it. Raises WorkloadFailed where there is none."""
    if isinstance(answer, Raised):
        name = messages.name_of(workload)
        raise WorkloadFailed(name, answer.type_name, answer.message, answer.traceback)
    result: R = messages.result_type(workload).validate_python(answer.value)
    return result


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its channel and cannot be killed"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
