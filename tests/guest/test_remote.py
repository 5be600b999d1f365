"""Work on another operating system: the agent's side in a process of its own, a terminal in place of the port."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmaproof.errors import Hang, NodeError, NodeLost, UsageError, WorkerDied, WorkloadFailed
from dmaproof.node import remote
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import GONE, RemoteWorker
from tests.node import planted

SERVE = """
from pathlib import Path
from dmaproof.guest.port import Port
from dmaproof.guest.serve import serve
port = Port(Path({device!r}))
serve(port.frames(), port)
"""
SOON = 20.0


class Wire:
    """What QEMU does between the agent's port and the socket of a process outside: pass bytes on."""

    def __init__(self, folder: Path) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.device = os.ttyname(slave)
        self._slave = slave
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "0.sock"))
        self._listener.listen()
        self.connected: list[socket.socket] = []
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connected.append(sock)
            self._pass_on(sock)

    def _pass_on(self, sock: socket.socket) -> None:
        while True:
            try:
                ready, _, _ = select.select([sock, self._master], [], [], 1)
                for one in ready:
                    data = sock.recv(4096) if one is sock else os.read(self._master, 4096)
                    if not data:
                        return
                    os.write(self._master, data) if one is sock else sock.sendall(data)
            except (OSError, ValueError):
                return

    def cut(self) -> None:
        """QEMU is gone."""
        self._listener.close()
        for sock in self.connected:
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for sock in self.connected:
            sock.close()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    for name in ("box/agent", "box/tmp"):
        (tmp_path / name).mkdir(parents=True)
    wire = Wire(tmp_path / "box/agent")
    command = [sys.executable, "-c", SERVE.format(device=wire.device)]
    agent = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path / "box/tmp")})
    yield wire
    wire.close()
    agent.kill()
    agent.wait()


@pytest.fixture
def worker(wire: Wire, tmp_path: Path) -> Iterator[RemoteWorker]:
    node = Node("box", tmp_path / "box/root", {}, tmp_path / "box/agent")
    with RemoteWorker(node, tmp_path / "out", run_id="a-run") as worker:
        yield worker
    remote.hang_up()


def run(worker: RemoteWorker, workload: Callable[..., Any], within_s: float = SOON, **kwargs: Any) -> Any:
    return worker.run(workload, deadline=Deadline.after(within_s), **kwargs)


def test_a_result_comes_back_as_it_is_annotated(worker: RemoteWorker) -> None:
    before = time.monotonic()
    found = run(worker, planted.add, pair=planted.Pair(1, 2), scale=0.5)
    assert found == planted.Sum(1.5, (1, 2), found.pid)
    assert found.pid == worker.worked_pid != os.getpid()
    (note,) = worker.notes
    assert (note.name, note.data) == ("adding", {"a": 1, "b": 2})
    assert worker.acquired_s is not None
    assert before < worker.acquired_s < time.monotonic()
    assert before < note.at_s < time.monotonic()
    assert run(worker, planted.add, pair=planted.Pair(1, 2)).pid == found.pid, "kept warm"


def test_what_a_workload_raises_is_told_with_its_traceback(worker: RemoteWorker) -> None:
    with pytest.raises(WorkloadFailed, match="ValueError: no luck") as caught:
        run(worker, planted.raise_value_error, text="no luck")
    assert "planted.py" in caught.value.remote_traceback


def test_a_hang_is_looked_at_over_there(worker: RemoteWorker) -> None:
    run(worker, planted.nothing)
    with pytest.raises(Hang, match="did not return within") as caught:
        run(worker, planted.sleep, 0.5, seconds=60)
    assert caught.value.report.ended == "SIGTERM"
    assert "planted.py" in caught.value.report.python_stacks
    assert any(task.wchan or task.syscall for task in caught.value.report.tasks)
    assert run(worker, planted.add, pair=planted.Pair(1, 1)).total == 2, "the next one has a new process"


def test_what_kills_a_worker_spares_the_agent(worker: RemoteWorker) -> None:
    with pytest.raises(WorkerDied, match="famous last words"):
        run(worker, planted.print_and_crash, text="famous last words")
    assert "famous last words" in worker.output_path.read_text()
    with pytest.raises(WorkerDied, match="exited with 7"):
        run(worker, planted.leave, code=7)
    run(worker, planted.nothing)


def test_two_workers_of_one_process_are_two_processes(worker: RemoteWorker, tmp_path: Path) -> None:
    node = Node("box", tmp_path / "box/root", {}, tmp_path / "box/agent")
    with RemoteWorker(node, tmp_path / "out", run_id="a-run") as other:
        pids = {run(one, planted.add, pair=planted.Pair(1, 2)).pid for one in (worker, other)}
    assert len(pids) == 2


def test_a_worker_that_is_stopped_leaves_no_file_over_there(worker: RemoteWorker, tmp_path: Path) -> None:
    pid = run(worker, planted.add, pair=planted.Pair(1, 2)).pid
    assert len(list((tmp_path / "box/tmp").iterdir())) == 1
    worker.stop()
    assert run(worker, planted.add, pair=planted.Pair(1, 2)).pid != pid
    assert len(list((tmp_path / "box/tmp").iterdir())) == 1, "the new one's"


def test_frames_of_any_size_arrive(worker: RemoteWorker) -> None:
    assert len(run(worker, planted.work_longer_than_a_pipe_holds, nbytes=300_000)) == 300_000


def test_what_cannot_be_sent_is_refused_here(worker: RemoteWorker) -> None:
    with pytest.raises(UsageError):
        run(worker, planted.add, pair=object())
    with pytest.raises(UsageError, match="importable"):
        run(worker, lambda: None)


def test_a_system_that_ends_says_why(wire: Wire, worker: RemoteWorker, tmp_path: Path) -> None:
    run(worker, planted.nothing)
    (tmp_path / "box/agent" / GONE).write_text("QEMU ended: Kernel panic")
    threading.Timer(0.3, wire.cut).start()
    with pytest.raises(NodeLost, match="box has ended: QEMU ended: Kernel panic"):
        run(worker, planted.sleep, seconds=60)
    with pytest.raises(NodeLost, match=r"box .*QEMU ended: Kernel panic"):
        run(worker, planted.nothing)


def test_a_system_that_is_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_LADDER_S", 0.2)
    agent = tmp_path / "mute/agent"
    agent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(agent / "0.sock"))
        listener.listen()
        idled: list[float] = []
        worker = RemoteWorker(
            Node("mute", tmp_path, {}, agent), tmp_path / "out", run_id="x", idle=lambda: idled.append(time.monotonic())
        )
        began_s = time.monotonic()
        with pytest.raises(NodeLost, match=r"mute did not answer within 0\.3 s"):
            run(worker, planted.nothing, 0.3)
        assert 0.4 < time.monotonic() - began_s < 5
        assert idled
        began_s = time.monotonic()
        with pytest.raises(NodeLost, match=r"mute was given up: it did not answer within 0\.3 s"):
            run(worker, planted.nothing, 60)
        assert time.monotonic() - began_s < 0.2, "it is not waited for again"


def test_a_process_too_many_is_told_how_many_there_may_be(tmp_path: Path) -> None:
    worker = RemoteWorker(Node("box", tmp_path, {}, tmp_path), tmp_path / "out", run_id="x", number=remote.SOCKETS)
    with pytest.raises(NodeError, match="use -n 4 or less"):
        run(worker, planted.nothing)
