"""Device locks: between processes of one run, between runs, and after SIGKILL."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from dmaproof.errors import DeviceBusy, DevicePoisoned, NodeError
from dmaproof.node import locks
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node, lock_dir
from tests.support.harness import line, program

GPU, OTHER_GPU = "0000:17:00.0", "0000:65:00.0"


def take(node: Node, *devices: str, run: str = "ours", seconds: float = 5.0) -> None:
    with locks.acquire(node, devices, run, Deadline.after(seconds), os.getpid()):
        pass


def test_lock_files_are_for_every_user(node: Node) -> None:
    take(node, GPU)
    folder = lock_dir(node)
    assert folder == node.root / "run/lock/dmaproof-locks"
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert (folder / "dmaproof-0000_17_00.0.lock").stat().st_mode & 0o777 == 0o666


def test_where_run_lock_is_not_writable_the_temp_folder_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root/run").mkdir(parents=True)
    (tmp_path / "root/run/lock").write_text("a file, so nothing can be made below it")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert lock_dir(Node("test", root=tmp_path / "root")) == tmp_path / "dmaproof-locks"


def test_a_node_that_is_gone_does_not_come_back_as_a_folder_of_locks(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="is gone: its root"):
        lock_dir(Node("test", root=tmp_path / "root"))
    assert list(tmp_path.iterdir()) == []


def test_another_run_is_refused_at_once_and_told_who_holds_it(node: Node) -> None:
    with locks.acquire(node, [GPU], "ours", Deadline.after(5), os.getpid()):
        began = time.monotonic()
        with pytest.raises(DeviceBusy, match=rf"{GPU} is in use by process {os.getpid()} of run ours"):
            take(node, OTHER_GPU, GPU, run="theirs")
        assert time.monotonic() - began < 1
        take(node, OTHER_GPU, run="theirs")
    take(node, GPU, run="theirs")


def test_a_sibling_of_the_same_run_waits_its_turn(node: Node) -> None:
    order = []

    def sibling() -> None:
        with locks.acquire(node, [GPU], "ours", Deadline.after(5), os.getpid()):
            order.append("second")

    with locks.acquire(node, [GPU, OTHER_GPU], "ours", Deadline.after(5), os.getpid()):
        thread = threading.Thread(target=sibling)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(timeout=5)
    assert order == ["first", "second"]


def test_a_sibling_that_waits_in_vain_says_so_at_its_deadline(node: Node) -> None:
    with (
        locks.acquire(node, [GPU], "ours", Deadline.after(5), os.getpid()),
        pytest.raises(DeviceBusy, match=r"still held by process .* of run ours.* after 0.1 s"),
    ):
        take(node, GPU, seconds=0.1)


def test_the_same_device_by_any_of_its_names_is_locked_once(node: Node) -> None:
    take(node, GPU, "17:00.0", "00000000:17:00.0", seconds=0.5)


def test_poison_is_seen_by_its_run_and_by_no_other(node: Node) -> None:
    locks.poison(node, "17:00.0", "ours", "the probe after test_x failed")
    assert locks.poisoned(node, GPU, "ours") == "the probe after test_x failed"
    assert locks.poisoned(node, OTHER_GPU, "ours") is None
    with pytest.raises(DevicePoisoned, match=rf"{GPU} .*the probe after test_x failed"):
        take(node, GPU)
    take(node, OTHER_GPU)
    take(node, GPU, run="theirs")
    assert locks.poisoned(node, GPU, "theirs") is None


def test_run_names_of_any_form_are_told_apart(node: Node) -> None:
    locks.poison(node, GPU, "a/../b c", "bad")
    assert locks.poisoned(node, GPU, "a/../b c") == "bad"
    assert locks.poisoned(node, GPU, "b c") is None


def test_a_new_run_removes_the_markers_of_old_ones_and_keeps_its_own(node: Node) -> None:
    locks.poison(node, GPU, "old", "bad")
    locks.poison(node, GPU, "ours", "bad")
    with locks.hold_for_run(node, [GPU], "ours"):
        assert [path.name for path in lock_dir(node).glob("*.poison*")] == ["dmaproof-0000_17_00.0.ours.poison"]
    with locks.hold_for_run(node, [GPU], "ours"):  # a sibling that comes after the first has gone
        assert locks.poisoned(node, GPU, "ours") == "bad"


HOLDER = f"""
    import sys, time
    from pathlib import Path
    from dmaproof.node.locks import hold_for_run
    from dmaproof.node.node import Node
    with hold_for_run(Node("test", root=Path({{root!r}})), [{GPU!r}], {{run!r}}):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_second_run_on_the_same_devices_is_refused(node: Node) -> None:
    with program(HOLDER.format(root=str(node.root), run="theirs")) as holder:
        assert line(holder) == "held"
        with (
            pytest.raises(DeviceBusy, match=rf"{GPU} belongs to process {holder.pid} of run theirs"),
            locks.hold_for_run(node, [OTHER_GPU, GPU], "ours"),
        ):
            pass
        with locks.hold_for_run(node, [OTHER_GPU], "ours"):
            pass


def test_processes_of_one_run_hold_its_devices_together(node: Node) -> None:
    with program(HOLDER.format(root=str(node.root), run="ours")) as sibling:
        assert line(sibling) == "held"
        with locks.hold_for_run(node, [GPU], "ours"):
            sibling.kill()
            sibling.wait(timeout=5)
            with pytest.raises(DeviceBusy, match="of run ours"), locks.hold_for_run(node, [GPU], "theirs"):
                pass


def test_a_killed_run_holds_nothing(node: Node) -> None:
    with program(HOLDER.format(root=str(node.root), run="theirs")) as holder:
        assert line(holder) == "held"
        holder.kill()
        holder.wait(timeout=5)
        with locks.hold_for_run(node, [GPU], "ours"):
            pass


def test_of_runs_that_start_together_exactly_one_begins(node: Node) -> None:
    for _ in range(20):
        began = runs_that_begin(node, 8)
        assert len(began) == 1, began


def runs_that_begin(node: Node, count: int) -> list[str]:
    """Start ``count`` runs at the same moment; each that begins stays until all have had their answer."""
    together, answered, began = threading.Barrier(count), threading.Barrier(count), []

    def run(name: str) -> None:
        together.wait(timeout=5)
        try:
            with locks.hold_for_run(node, [GPU], name):
                began.append(name)
                answered.wait(timeout=5)
        except DeviceBusy:
            answered.wait(timeout=5)

    threads = [threading.Thread(target=run, args=(f"run{number}",)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    return began


def test_a_sibling_that_makes_call_after_call_lets_others_in(node: Node) -> None:
    enough = threading.Event()

    def call_after_call() -> None:
        while not enough.is_set():
            with locks.acquire(node, [GPU], "ours", Deadline.after(5), os.getpid()):
                time.sleep(0.005)

    thread = threading.Thread(target=call_after_call)
    thread.start()
    try:
        for _ in range(50):
            take(node, GPU, seconds=0.5)
    finally:
        enough.set()
        thread.join(timeout=5)


def test_a_lock_that_is_free_names_nobody(node: Node) -> None:
    take(node, GPU, run="theirs")
    assert (lock_dir(node) / "dmaproof-0000_17_00.0.lock").read_text() == ""
