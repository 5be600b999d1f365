"""Workers on another operating system: an agent there runs dmaproof.node.worker.Worker, and this end asks it to.

The agent is reached by a socket in ``node.agent``, one for each process of a run. All deadlines of the work are kept
over there, by the same ladder; here is one more, for the case that the whole system stops answering.
"""

from __future__ import annotations

import itertools
import os
import secrets
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter

from dmaproof import errors
from dmaproof.errors import Hang, NodeError, NodeLost
from dmaproof.node import messages
from dmaproof.node.channel import Channel, ChannelClosed
from dmaproof.node.deadline import Deadline
from dmaproof.node.messages import CALL, Note, Raised, Returned
from dmaproof.node.node import Node
from dmaproof.node.output import Output
from dmaproof.node.remote_frames import Done, Hung, Refused, Stop, Work
from dmaproof.node.worker import returned

R = TypeVar("R")
SOCKETS = 4
"""How many processes of one run can each have workers on the node."""
GONE = "gone"
"""The file in ``node.agent`` that says why the system is no longer there."""
_LADDER_S = 20.0
"""What the ladder over there may take after a deadline (dmaproof.node.ladder.Bounds), on a slow emulator."""
_IDLE_EVERY_S = 0.05
_SEND_S = 10.0
_WORD_S, _WORD_EVERY_S = 2.0, 0.02
_DONE: TypeAdapter[Done] = TypeAdapter(Done)
_lines: dict[Path, Line] = {}
_given_up: dict[Path, str] = {}
"""Agents that did not answer, and how: whoever comes later does not wait for them again."""
_worker_numbers = itertools.count(1)


class Line:
    """This process's connection to an agent; calls of several workers go over it, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.session = path, secrets.token_hex(8)
        self._channel = Channel(_connected(path))

    def send(self, frame: bytes) -> None:
        try:
            self._channel.send(frame, (), Deadline.after(_SEND_S))
        except TimeoutError:
            raise self.give_up("does not take any more work") from None
        except ChannelClosed:
            raise self.lost("has ended") from None

    def answer(self, worker: int, number: int, deadline: Deadline, idle: Callable[[], None]) -> Done:
        """The answer to call ``number``; ``idle`` is called while it is awaited. Raises NodeLost."""
        while True:
            frame = self._channel.next_frame()
            if frame is not None:
                done = _DONE.validate_json(frame)
                if (done.session, done.worker, done.number) == (self.session, worker, number):
                    return done
                continue
            if not self._wait(deadline.sooner(_IDLE_EVERY_S)):
                idle()
                if deadline.passed:
                    raise self.give_up(f"did not answer within {deadline.seconds:g} s")

    def _wait(self, deadline: Deadline) -> bool:
        waiter = select.poll()
        waiter.register(self._channel.fileno(), select.POLLIN)
        if not waiter.poll(deadline.remaining_s * 1000):
            return False
        try:
            self._channel.fill()
        except ChannelClosed:
            raise self.lost("has ended") from None
        return True

    def close(self) -> None:
        self._channel.close()

    def give_up(self, how: str) -> NodeLost:
        """The system may be there yet, busy with what was asked before: no later call waits for it."""
        _given_up[self.path] = how
        return self.lost(how, patience_s=0)

    def lost(self, how: str, patience_s: float = _WORD_S) -> NodeLost:
        """The system is not there any more; what is known of its end. Its keeper has to learn of it first."""
        self.close()
        _lines.pop(self.path, None)
        return NodeLost(f"{self.path.parent.parent.name} {how}{told(self.path.parent, patience_s)}")


def told(agent: Path, patience_s: float = 0) -> str:
    """What was left of a system that is gone, for the end of a sentence; waits for it if need be."""
    deadline = Deadline.after(patience_s)
    while not (word := _word(agent / GONE)) and not deadline.passed:
        time.sleep(_WORD_EVERY_S)
    return f": {word}" if word else ""


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _connected(path: Path) -> socket.socket:
    """By the folder's descriptor: a path may be longer than an address of a socket (107 bytes, unix(7))."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError as error:
        sock.close()
        raise NodeLost(f"{path.parent.parent.name} cannot be reached ({error.strerror}){told(path.parent)}") from None
    finally:
        os.close(folder)
    return sock


def line(agent: Path, number: int) -> Line:
    """The connection of this process, which is number ``number`` of its run. Raises NodeLost, NodeError."""
    if not 0 <= number < SOCKETS:
        raise NodeError(f"a node reached by an agent serves {SOCKETS} processes: use -n {SOCKETS} or less")
    path = agent / f"{number}.sock"
    if path in _given_up:
        raise NodeLost(f"{agent.parent.name} was given up: it {_given_up[path]}{told(agent)}")
    if path not in _lines:
        try:
            _lines[path] = Line(path)
        except FileNotFoundError:
            raise NodeLost(f"{agent.parent.name} is gone{told(agent)}") from None
    return _lines[path]


def hang_up(agent: Path | None = None) -> None:
    """Close this process's connections to ``agent``; left out, to all. What was given up is forgotten with them."""
    for path in [one for one in (*_lines, *_given_up) if agent in (None, one.parent)]:
        _given_up.pop(path, None)
        if path in _lines:
            _lines.pop(path).close()


class RemoteWorker:
    """What dmaproof.node.worker.Worker is, on ``node.agent``'s system; its output comes with each answer."""

    def __init__(
        self, node: Node, workdir: Path, *, run_id: str, number: int = 0, idle: Callable[[], None] | None = None
    ) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        assert node.agent is not None  # noqa: S101 - whoever makes one has looked
        self._agent, self._number, self._run_id = node.agent, number, run_id
        self._idle = idle or (lambda: None)
        self._id = next(_worker_numbers)
        self._calls = itertools.count(1)
        self._output = Output(workdir, f"worker-{node.name}-{os.getpid()}-{self._id}")
        self.notes: tuple[Note, ...] = ()
        self.acquired_s: float | None = None
        self.worked_pid: int | None = None

    @property
    def output_path(self) -> Path:
        return self._output.path

    @property
    def pid(self) -> int | None:
        return self.worked_pid

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
        """As Worker.run; besides, NodeLost where the system itself no longer answers. ``around`` is here, and
        ``devices`` are held over there: others may use them at its ends."""
        number = next(self._calls)
        call = CALL.validate_json(messages.encode_call(number, workload, kwargs, sys.path))
        at = line(self._agent, self._number)
        work = Work(
            session=at.session,
            worker=self._id,
            call=call,
            deadline_s=deadline.remaining_s,
            devices=tuple(devices),
            run=self._run_id,
        )
        with around or nullcontext():
            at.send(messages.encode_any(work))
            done = at.answer(self._id, number, deadline.later(_LADDER_S), self._idle)
        self._keep(done, time.monotonic() - done.now_s)
        return _outcome(workload, done)

    def stop(self) -> None:
        """End the process over there, if the system can still be told."""
        at = _lines.get(self._agent / f"{self._number}.sock")
        if at is not None:
            try:
                at.send(messages.encode_any(Stop(session=at.session, worker=self._id)))
            except NodeLost:
                return

    def _keep(self, done: Done, behind_s: float) -> None:
        """``behind_s`` is how far the other clock is behind this one, and the answer's way."""
        self.notes = tuple(replace(note, at_s=note.at_s + behind_s) for note in done.notes)
        self.worked_pid = done.pid
        self.acquired_s = None if done.acquired_s is None else done.acquired_s + behind_s
        if done.output:
            with self._output.path.open("a", encoding="utf-8") as file:
                file.write(done.output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _outcome(workload: Callable[..., R], done: Done) -> R:
    match done.answer:
        case Hung(report):
            raise Hang(report.summary, report)
        case Refused(error, message):
            kinds: Mapping[str, Any] = vars(errors)
            raise kinds.get(error, NodeError)(message)
        case Returned() | Raised() as answer:
            return returned(workload, answer)
