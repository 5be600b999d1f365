"""The worker: what workloads give and take, and how their failures look."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dmaproof.errors import DeviceBusy, UsageError, WorkerDied, WorkloadFailed
from dmaproof.node import locks
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.worker import Worker
from tests.node import planted
from tests.support.harness import ROOT, eventually, gone, line, program

GPU, OTHER_GPU = "0000:17:00.0", "0000:65:00.0"


def soon() -> Deadline:
    return Deadline.after(20)


def test_a_dataclass_goes_in_and_a_dataclass_comes_out(worker: Worker) -> None:
    result = worker.run(planted.add, deadline=soon(), pair=planted.Pair(1, 2), scale=2.0)
    assert result == planted.Sum(6.0, (1, 2), result.pid)
    assert result.pid not in (0, os.getpid())


def test_what_is_around_a_workload_has_its_devices_as_long(worker: Worker, node: Node) -> None:
    held = []

    def look() -> None:
        with (
            pytest.raises(DeviceBusy, match=f"{GPU} is in use"),
            locks.acquire(node, [GPU], "another run", Deadline.after(0), os.getpid()),
        ):
            pytest.fail("it is free")
        held.append(GPU)
        time.sleep(1.0)  # which is not the workload's time

    @contextmanager
    def around() -> Iterator[None]:
        look()
        yield
        look()

    worker.run(planted.nothing, deadline=soon())
    worker.run(planted.sleep, deadline=Deadline.after(1.2), devices=[GPU], around=around(), seconds=0.3)
    assert held == [GPU, GPU]


def test_infinities_and_nan_come_through(worker: Worker) -> None:
    pair = planted.Pair(1, 2)
    assert worker.run(planted.add, deadline=soon(), pair=pair, scale=math.inf).total == math.inf
    assert math.isnan(worker.run(planted.add, deadline=soon(), pair=pair, scale=math.nan).total)


def test_the_process_stays_warm_and_notes_are_the_latest_runs(worker: Worker) -> None:
    first = worker.run(planted.add, deadline=soon(), pair=planted.Pair(1, 2))
    second = worker.run(planted.add, deadline=soon(), pair=planted.Pair(3, 4))
    assert first.pid == second.pid == worker.pid
    assert [(note.name, note.data) for note in worker.notes] == [("adding", {"a": 3, "b": 4})]
    worker.run(planted.nothing, deadline=soon())
    assert worker.notes == ()


def test_answers_larger_than_any_buffer(worker: Worker) -> None:
    nbytes = 5_000_000
    assert len(worker.run(planted.work_longer_than_a_pipe_holds, deadline=soon(), nbytes=nbytes)) == nbytes


def test_arguments_larger_than_any_buffer(worker: Worker) -> None:
    with pytest.raises(WorkloadFailed, match=r"x{1000}"):
        worker.run(planted.raise_value_error, deadline=soon(), text="x" * 5_000_000)


def test_notes_from_many_threads_are_all_whole(worker: Worker) -> None:
    worker.run(planted.note_from_threads, deadline=soon(), count=50)
    assert sorted(note.data["number"] for note in worker.notes) == list(range(50))


def test_a_note_that_comes_after_the_answer_is_not_the_next_runs(worker: Worker) -> None:
    worker.run(planted.note_after_returning, deadline=soon())
    time.sleep(0.3)
    worker.run(planted.nothing, deadline=soon())
    assert worker.notes == ()


def test_the_node_gives_the_environment(tmp_path: Path) -> None:
    node = Node("test", root=tmp_path / "root", env={"DMAPROOF_TEST": "seen"})
    with Worker(node, tmp_path, run_id="ours") as worker:
        assert worker.run(planted.environment, deadline=soon(), name="DMAPROOF_TEST") == "seen"


def test_what_a_workload_raises_is_told_and_the_worker_stays(worker: Worker) -> None:
    with pytest.raises(WorkloadFailed, match="ValueError: 17 is too many") as caught:
        worker.run(planted.raise_value_error, deadline=soon(), text="17 is too many")
    assert caught.value.type_name == "ValueError"
    assert "raise_value_error" in caught.value.remote_traceback
    before = worker.pid
    worker.run(planted.nothing, deadline=soon())
    assert worker.pid == before


def test_a_result_of_another_type_fails(worker: Worker) -> None:
    with pytest.raises(WorkloadFailed, match=r"TypeError: returned .*'total': 3.*, annotated as .*Sum"):
        worker.run(planted.return_another_type, deadline=soon())


def test_an_argument_of_another_type_fails(worker: Worker) -> None:
    with pytest.raises(WorkloadFailed, match="pair"):
        worker.run(planted.add, deadline=soon(), pair="one and two")


def test_a_crash_names_its_signal_and_the_next_run_has_a_new_process(worker: Worker) -> None:
    worker.run(planted.nothing, deadline=soon())
    before = worker.pid
    with pytest.raises(WorkerDied, match=r"was ended by SIGSEGV.*last words") as caught:
        worker.run(planted.print_and_crash, deadline=soon(), devices=[GPU], text="last words")
    assert "print_and_crash" in str(caught.value)
    assert worker.pid is None
    worker.run(planted.nothing, deadline=soon(), devices=[GPU])
    assert worker.pid not in (None, before)
    assert "last words" in worker.output_path.read_text()


def test_an_exit_names_its_code(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match="exited with 3"):
        worker.run(planted.leave, deadline=soon(), code=3)


def test_a_process_killed_between_runs_is_replaced(worker: Worker) -> None:
    worker.run(planted.nothing, deadline=soon())
    killed = worker.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: gone(killed))
    worker.run(planted.nothing, deadline=soon())
    assert worker.pid != killed


def test_what_cannot_cross_to_another_process_is_refused(worker: Worker) -> None:
    with pytest.raises(UsageError, match="top of an importable module"):
        worker.run(lambda: None, deadline=soon())
    with pytest.raises(UsageError, match="planted:nothing must be JSON-able"):
        worker.run(planted.nothing, deadline=soon(), lock=threading.Lock())
    with pytest.raises(UsageError, match="not a PCI address"):
        worker.run(planted.nothing, deadline=soon(), devices=["gpu0"])


def test_stop_ends_the_process_and_what_it_started(worker: Worker) -> None:
    child = worker.run(planted.leave_a_child_behind, deadline=soon())
    pid = worker.pid
    assert pid is not None
    assert not gone(child)
    worker.stop()
    worker.stop()
    assert worker.pid is None
    assert gone(pid)
    assert eventually(lambda: gone(child))


def test_two_hundred_runs_leave_no_descriptor(worker: Worker) -> None:
    worker.run(planted.nothing, deadline=soon(), devices=[GPU, OTHER_GPU])
    pid = worker.pid
    before = [len(os.listdir(f"/proc/{one}/fd")) for one in ("self", pid)]  # noqa: PTH208 - counts, no paths
    for _ in range(200):
        worker.run(planted.nothing, deadline=soon(), devices=[GPU, OTHER_GPU])
    assert [len(os.listdir(f"/proc/{one}/fd")) for one in ("self", pid)] == before  # noqa: PTH208


def test_starting_and_stopping_leaves_no_descriptor(node: Node, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        with Worker(node, tmp_path, run_id="ours") as worker, pytest.raises(WorkerDied):
            worker.run(planted.leave, deadline=soon(), code=1)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


HARNESS = f"""
    import sys
    sys.path.insert(0, {str(ROOT)!r})
    from pathlib import Path
    from dmaproof.node.deadline import Deadline
    from dmaproof.node.node import Node
    from dmaproof.node.worker import Worker
    from tests.node import planted
    folder = Path({{folder!r}})
    (folder / "root/run/lock").mkdir(parents=True, exist_ok=True)
    worker = Worker(Node("test", root=folder / "root"), folder / "work", run_id={{run!r}})
    worker.run(planted.nothing, deadline=Deadline.after(20))
    print(worker.pid, flush=True)
    worker.run(planted.{{workload}}, deadline=Deadline.after(60), devices=[{GPU!r}])
"""


def test_a_killed_harness_leaves_no_worker_and_no_lock(worker: Worker, tmp_path: Path) -> None:
    source = HARNESS.format(folder=str(tmp_path), run="theirs", workload="spin_holding_the_gil")
    with program(source) as harness:
        pid = int(line(harness))
        locked = tmp_path / "root/run/lock/dmaproof-locks/dmaproof-0000_17_00.0.lock"
        assert eventually(lambda: locked.exists() and "theirs" in locked.read_text())
        assert not gone(pid)
        harness.kill()
        assert eventually(lambda: gone(pid))
    worker.run(planted.nothing, deadline=soon(), devices=[GPU])


def test_ctrl_c_stops_the_worker_and_goes_on_up(tmp_path: Path) -> None:
    source = HARNESS.format(folder=str(tmp_path), run="theirs", workload="mutex_deadlock")
    with program(source) as harness:
        pid = int(line(harness))
        locked = tmp_path / "root/run/lock/dmaproof-locks/dmaproof-0000_17_00.0.lock"
        assert eventually(lambda: locked.exists() and "theirs" in locked.read_text())
        harness.send_signal(signal.SIGINT)
        assert eventually(lambda: harness.poll() is not None)
        assert harness.returncode == -signal.SIGINT  # an unhandled KeyboardInterrupt
        assert gone(pid)


def test_waiting_for_a_sibling_is_not_counted_as_the_workloads_time(worker: Worker, node: Node) -> None:
    worker.run(planted.nothing, deadline=soon())
    taken = threading.Event()

    def sibling() -> None:
        with locks.acquire(node, [GPU], "ours", soon(), os.getpid()):
            taken.set()
            time.sleep(0.6)

    thread = threading.Thread(target=sibling)
    thread.start()
    assert taken.wait(timeout=5)
    worker.run(planted.sleep, deadline=Deadline.after(0.9), devices=[GPU], seconds=0.6)
    thread.join(timeout=5)
