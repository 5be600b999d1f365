"""The worker's side: ``python -m dmaproof.node.worker_main FD STACKS``.

Takes calls from socket ``FD`` one after the other, until its other end closes. Stacks asked for by SIGUSR1 (by SIGUSR2
where the GIL is held) are appended to the file ``STACKS``.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from dmaproof import progress
from dmaproof.node import channel
from dmaproof.node.messages import CALL, Call, Note, Noted, Raised, Ready, Returned, checked_result, encode, resolve
from dmaproof.node.messages import typed_arguments as typed
from dmaproof.parent import die_with_parent

STACKS_SIGNAL = signal.SIGUSR1
STACKS_WITHOUT_GIL_SIGNAL = signal.SIGUSR2
_PR_SET_PTRACER = 0x59616D61


class Harness:
    """The channel to the harness: notes may come from any thread of a workload, so sending takes a lock."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.number = 0
        self._sending = threading.Lock()

    def send(self, message: Ready | Noted | Returned | Raised) -> None:
        payload = encode(message)
        with self._sending:
            channel.send(self.sock, payload)

    def note(self, name: str, data: Mapping[str, Any]) -> None:
        self.send(Noted(self.number, Note(name, data, time.monotonic())))


def main(fd: int, stacks: Path) -> None:
    die_with_harness()
    answer_stack_requests(stacks)
    os.set_inheritable(fd, False)
    harness = Harness(socket.socket(fileno=fd))
    progress.send_notes_to(harness.note)
    harness.send(Ready())
    try:
        serve(harness)
    except (channel.ChannelClosed, BrokenPipeError, ConnectionResetError):
        return  # the harness stopped this worker, or is gone


def serve(harness: Harness) -> None:
    while True:
        frame, fds = channel.receive(harness.sock)
        call = CALL.validate_json(frame)
        harness.number = call.number
        answer = perform(call)
        sys.stdout.flush()
        for fd in fds:  # the device locks: free before the harness hears of the result
            os.close(fd)
        send_answer(harness, answer)


def send_answer(harness: Harness, answer: Returned | Raised) -> None:
    try:
        harness.send(answer)
    except ValueError as error:  # PydanticSerializationError: a field of the result is not JSON-able
        harness.send(Raised(answer.number, type(error).__name__, f"result cannot be sent: {error}", ""))


def perform(call: Call) -> Returned | Raised:
    try:
        sys.path[:] = call.path
        workload = resolve(call.workload)
        return Returned(call.number, checked_result(workload, workload(**typed(workload, call.arguments))))
    except Exception as error:  # noqa: BLE001 - whatever a workload raises is its outcome, told by the harness
        lines = traceback.format_exception(error)
        return Raised(call.number, type(error).__name__, str(error), "".join(lines))


def die_with_harness() -> None:
    """Be killed when the harness is. The moment before this call is covered by the end of the socket's stream."""
    die_with_parent()
    # Under Yama only ancestors may look; the ladder looks from a sibling (dmaproof.node.isolated). Unknown elsewhere.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1))


def answer_stack_requests(stacks: Path) -> None:
    """Dump all threads' Python stacks when asked to, whatever the workload's threads are stuck in.

    A signal to a process goes to its main thread if that does not block it (kernel/signal.c, complete_signal), and a
    thread in D state never runs its handler. So one thread that does nothing else is the only one to take these
    signals: threads inherit the mask of their creator.
    """
    faulthandler.enable()
    file = stacks.open("ab", buffering=0)
    faulthandler.register(STACKS_WITHOUT_GIL_SIGNAL, file=file, all_threads=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {STACKS_SIGNAL, STACKS_WITHOUT_GIL_SIGNAL})
    listening = threading.Event()
    threading.Thread(target=thread_that_dumps_stacks, args=(file, listening), daemon=True, name="stacks").start()
    listening.wait(timeout=10)


def thread_that_dumps_stacks(file: FileIO, listening: threading.Event) -> None:
    """On STACKS_SIGNAL with the GIL, for a walk through frames that run and change can end in SIGSEGV. In the handler
    of STACKS_WITHOUT_GIL_SIGNAL without: some thread keeps the GIL in a call that does not return.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {STACKS_WITHOUT_GIL_SIGNAL})
    listening.set()
    while True:
        signal.sigwait({STACKS_SIGNAL})
        faulthandler.dump_traceback(file, all_threads=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
