"""Real hangs: what the ladder sees of them, how they end, and that the harness goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from dmaproof.errors import DevicePoisoned, Hang
from dmaproof.node import proc
from dmaproof.node.deadline import Deadline
from dmaproof.node.ladder import Bounds, HangReport
from dmaproof.node.node import Node
from dmaproof.node.worker import Worker
from dmaproof.node.worker_main import STACKS_SIGNAL
from tests.node import planted
from tests.node.conftest import QUICK
from tests.support.fuse import Unavailable, serve
from tests.support.harness import ROOT, eventually, gone, line, program

GPU, OTHER_GPU = "0000:17:00.0", "0000:65:00.0"


def soon() -> Deadline:
    return Deadline.after(20)


def hang(worker: Worker, name: str, seconds: float = 0.5) -> HangReport:
    """The report of workload ``name``, which must hang, in a worker that is warm already."""
    worker.run(planted.nothing, deadline=soon())
    with pytest.raises(Hang, match=name) as caught:
        worker.run(getattr(planted, name), deadline=Deadline.after(seconds), devices=[GPU])
    report: HangReport = caught.value.report
    assert gone(report.pid) or report.ended == "unkillable"
    return report


def test_a_mutex_deadlock_stands_still(worker: Worker) -> None:
    report = hang(worker, "mutex_deadlock")
    assert report.ended == "SIGTERM"
    assert "in mutex_deadlock" in report.python_stacks
    main = next(task for task in report.tasks if task.tid == report.pid)
    assert main.state == "S"
    assert "futex" in main.wchan
    assert main.code.startswith("libc")
    assert report.pid not in report.moved
    assert report.notes[-1].data == {"va": 0x7F0000000000, "nbytes": 1024, "memory": "managed"}
    assert worker.notes == report.notes
    assert "about to lock twice" in report.output_tail
    assert "about to lock twice" in worker.output_path.read_text()


def test_a_loop_that_holds_the_gil_moves_and_still_shows_its_stack(worker: Worker) -> None:
    report = hang(worker, "spin_holding_the_gil")
    assert report.ended == "SIGTERM"
    assert "in spin_holding_the_gil" in report.python_stacks
    assert next(task for task in report.tasks if task.tid == report.pid).state == "R"
    assert report.pid in report.moved
    assert report.notes[-1].name == "spinning"


def test_a_sleep_that_holds_the_gil_shows_its_stack(worker: Worker) -> None:
    report = hang(worker, "sleep_holding_the_gil")
    assert "in sleep_holding_the_gil" in report.python_stacks
    assert report.steps[0].outcome.endswith("lines, the GIL is held")
    assert report.pid not in report.moved


def test_a_thread_whose_frames_come_and_go_survives_being_looked_at(worker: Worker) -> None:
    worker.run(planted.nothing, deadline=soon())
    pid = worker.pid
    assert pid

    def look_often() -> None:
        for _ in range(200):
            time.sleep(0.005)
            os.kill(pid, STACKS_SIGNAL)

    looking = threading.Thread(target=look_often)
    looking.start()
    report = hang(worker, "compute_without_end", 2.0)
    looking.join()
    assert (report.pid, report.ended) == (pid, "SIGTERM")
    assert "in compute_without_end" in report.python_stacks


def test_a_worker_that_ends_while_it_is_looked_at_was_not_ended_by_us(worker: Worker) -> None:
    report = hang(worker, "leave_when_looked_at", 0.3)
    assert report.ended == "itself"
    assert "ended while it was looked at" in report.summary


def test_a_workload_that_ignores_sigterm_is_killed(node: Node, tmp_path: Path) -> None:
    with Worker(node, tmp_path, run_id="ours", bounds=Bounds(sample_gap_s=0.1, term_s=0.2)) as worker:
        report = hang(worker, "ignore_sigterm_and_sleep")
    assert report.ended == "SIGKILL"
    assert [step.name for step in report.steps][-2:] == ["SIGTERM", "SIGKILL"]
    assert "still there after 0.2 s" in report.steps[-2].outcome


def test_after_a_hang_the_run_goes_on_with_a_fresh_process_on_the_same_device(worker: Worker) -> None:
    report = hang(worker, "mutex_deadlock")
    assert worker.pid is None
    result = worker.run(planted.add, deadline=soon(), devices=[GPU], pair=planted.Pair(1, 2))
    assert result.pid not in (report.pid, os.getpid())


def test_the_report_is_json(worker: Worker) -> None:
    report = hang(worker, "mutex_deadlock")
    again = json.loads(json.dumps(asdict(report)))
    assert again["ended"] == "SIGTERM"
    assert {step["name"] for step in again["steps"]} == {"python stacks", "threads", "SIGTERM"}


def test_an_ordinary_hang_takes_little_more_than_the_second_between_two_looks(node: Node, tmp_path: Path) -> None:
    with Worker(node, tmp_path, run_id="ours", captures={"quick": lambda _: "seen"}) as worker:
        report = hang(worker, "mutex_deadlock")
    assert 1.0 <= report.steps[-1].at_s < 2.5  # 1.05 on an idle machine
    assert report.captures == {"quick": "seen"}


def test_captures_see_the_worker_alive_and_none_can_stop_the_ladder(node: Node, tmp_path: Path) -> None:
    def stuck(_: Deadline) -> str:
        threading.Event().wait()
        return "never"

    def failing(_: Deadline) -> str:
        raise PermissionError(13, "no way")

    def alive(_: Deadline) -> str:
        return "alive" if not gone(worker.pid or hung[0]) else "gone"

    hung: list[int] = []
    captures = {"stuck": stuck, "failing": failing, "alive": alive, "large": lambda _: "x" * 1_000_000}
    with Worker(node, tmp_path, run_id="ours", captures=captures, bounds=QUICK) as worker:
        worker.run(planted.nothing, deadline=soon())
        assert worker.pid is not None
        hung.append(worker.pid)
        report = hang(worker, "mutex_deadlock")
    assert report.captures["alive"] == "alive"
    assert report.captures["stuck"] == "capture failed: did not come back within 0.5 s"
    assert report.captures["failing"] == "capture failed: PermissionError: [Errno 13] no way"
    assert len(report.captures["large"]) == 1_000_000


def test_a_deadline_that_passes_while_the_worker_starts_is_a_hang_too(worker: Worker) -> None:
    with pytest.raises(Hang) as caught:
        worker.run(planted.nothing, deadline=Deadline.after(0))
    assert "still starting" in caught.value.report.steps[0].outcome


def test_hangs_leave_no_descriptor(worker: Worker) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    hang(worker, "mutex_deadlock", 0.1)
    hang(worker, "mutex_deadlock", 0.1)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def never(_offset: int, _size: int) -> None:
    return None


@pytest.mark.parametrize("workload", [planted.read_file, planted.read_file_in_a_thread])
def test_an_unkillable_worker_keeps_its_device_and_nothing_else(
    worker: Worker, node: Node, tmp_path: Path, workload: Callable[[str], None]
) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    try:
        with serve(mountpoint, {"never": never}):
            stuck = read_what_never_answers(worker, workload, mountpoint)
            assert proc.state(stuck) == "D"
            check_that_only_its_device_is_lost(worker, node, tmp_path, stuck)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert eventually(lambda: gone(stuck)), "ending the mount ends the read"
    assert str(mountpoint) not in Path("/proc/mounts").read_text()
    worker.run(planted.nothing, deadline=soon(), devices=[GPU])


def read_what_never_answers(worker: Worker, workload: Callable[[str], None], mountpoint: Path) -> int:
    path = str(mountpoint / "never")
    worker.run(planted.nothing, deadline=soon())
    began = time.monotonic()
    with pytest.raises(Hang, match=r"could not be killed; thread \d+ \(.+\): state D in \w") as caught:
        worker.run(workload, deadline=Deadline.after(0.3), devices=[GPU], path=path)
    assert time.monotonic() - began < 5
    report: HangReport = caught.value.report
    assert report.ended == "unkillable"
    assert "in read_file" in report.python_stacks, "a thread of its own answers, for the main thread cannot"
    assert any("fuse" in task.stack for task in report.tasks_stuck)
    assert report.notes[-1].data == {"path": path}
    return report.pid


def check_that_only_its_device_is_lost(worker: Worker, node: Node, tmp_path: Path, stuck: int) -> None:
    worker.run(planted.nothing, deadline=soon(), devices=[OTHER_GPU])
    message = rf"{GPU} is held by unkillable process {stuck} \(state D\) of run ours"
    with pytest.raises(DevicePoisoned, match=message):
        worker.run(planted.nothing, deadline=soon(), devices=[OTHER_GPU, GPU])
    with Worker(node, tmp_path, run_id="theirs") as other, pytest.raises(DevicePoisoned, match=message):
        other.run(planted.nothing, deadline=soon(), devices=[GPU])


def test_a_capture_that_is_stuck_in_the_kernel_keeps_no_device(node: Node, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    captures = {"stuck": lambda _: (mountpoint / "never").read_text()}
    try:
        with (
            serve(mountpoint, {"never": never}),
            Worker(node, tmp_path, run_id="ours", captures=captures, bounds=QUICK) as worker,
        ):
            report = hang(worker, "mutex_deadlock")
            assert "cannot be killed" in report.captures["stuck"]
            worker.run(planted.nothing, deadline=Deadline.after(5), devices=[GPU])
    except Unavailable as reason:
        pytest.skip(str(reason))


ENDS_BESIDE_D = f"""
    import sys
    sys.path.insert(0, {str(ROOT)!r})
    from pathlib import Path
    from dmaproof.errors import Hang
    from dmaproof.node.deadline import Deadline
    from dmaproof.node.node import Node
    from dmaproof.node.worker import Worker
    from tests.node import planted
    from tests.node.conftest import QUICK
    folder = Path({{folder!r}})
    captures = {{{{"stuck": lambda _: (folder / "mnt/never").open("rb", buffering=0).read(1).decode()}}}}
    (folder / "root").mkdir(exist_ok=True)
    node = Node("test", root=folder / "root")
    with Worker(node, folder / "work", run_id="r", captures=captures, bounds=QUICK) as worker:
        worker.run(planted.nothing, deadline=Deadline.after(20))
        try:
            worker.run(planted.read_file, deadline=Deadline.after(0.3), path=str(folder / "mnt/never"))
        except Hang as error:
            print(error.report.ended, error.report.captures, flush=True)
"""


def test_a_harness_can_end_beside_a_worker_and_a_capture_in_d_state(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    try:
        with (
            serve(tmp_path / "mnt", {"never": never}),
            program(ENDS_BESIDE_D.format(folder=str(tmp_path))) as harness,
        ):
            said = line(harness)
            assert said.startswith("unkillable")
            assert "cannot be killed" in said
            assert eventually(lambda: harness.poll() is not None)
            assert harness.returncode == 0
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_a_killed_harness_with_an_unkillable_worker_leaves_a_poisoned_device(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    source = ENDS_BESIDE_D.replace("path=str", f"devices=[{GPU!r}], path=str").replace("after(0.3)", "after(60)")
    locked = tmp_path / "root/run/lock/dmaproof-locks/dmaproof-0000_17_00.0.lock"
    try:
        with serve(tmp_path / "mnt", {"never": never}), program(source.format(folder=str(tmp_path))) as harness:
            assert eventually(lambda: locked.exists() and '"worker"' in locked.read_text(), 20)
            time.sleep(0.3)  # until the read is with the server
            harness.kill()
            harness.wait(timeout=5)
            with pytest.raises(DevicePoisoned, match=r"unkillable process \d+ \(state D\) of run r"):
                worker.run(planted.nothing, deadline=soon(), devices=[GPU])
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("scale", "capture_s"), [(0.1, 3.0), (1.0, 3.0), (4.0, 12.0), (1000.0, 30.0)])
def test_a_slow_machine_has_longer_for_looks_and_never_without_end(scale: float, capture_s: float) -> None:
    assert Bounds().stretched(scale).capture_s == capture_s


@pytest.fixture
def crowded() -> Iterator[int]:
    """A processor with four other processes that never rest."""
    cpu = max(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with ExitStack() as stack:
        for _ in range(4):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", spin]))
            stack.callback(process.kill)
        yield cpu


@pytest.mark.parametrize(
    "work", [planted.work_on_one_processor, planted.work_of_a_thread, planted.work_of_a_child], ids=lambda w: w.__name__
)
def test_a_worker_that_gets_no_processor_is_no_hang(
    worker: Worker, crowded: int, work: Callable[[int, float], float]
) -> None:
    """Nor one that waits for a thread or process of its own that gets none."""
    worker.run(work, deadline=Deadline.after(60), cpu=crowded, cpu_s=0.01)  # warm
    took_s = worker.run(work, deadline=Deadline.after(1.0), cpu=crowded, cpu_s=0.7)
    assert took_s > 1.0, "the processor was not crowded: nothing is shown"


def test_a_worker_that_works_for_ever_hangs_on_a_crowded_processor_too(worker: Worker, crowded: int) -> None:
    worker.run(planted.work_on_one_processor, deadline=Deadline.after(60), cpu=crowded, cpu_s=0.01)
    began_s = time.monotonic()
    with pytest.raises(Hang) as caught:
        worker.run(planted.work_on_one_processor, deadline=Deadline.after(0.3), cpu=crowded, cpu_s=3600.0)
    assert caught.value.report.queued_s > 0
    assert "did not return within 0.3 s, and " in str(caught.value)
    assert caught.value.report.queued_s <= 0.3 * 9 + 0.001
    assert time.monotonic() - began_s < 60
