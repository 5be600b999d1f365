"""The UVM driver's threads in a /proc of real files, in the kernel's format."""

from __future__ import annotations

import os
from pathlib import Path

from dmaproof.evidence import kernel_threads

TICKS = os.sysconf("SC_CLK_TCK")


def thread(
    proc: Path, pid: int, comm: str, state: str, *, ticks: int = 0, wchan: str = "0", queued_s: float | None = None
) -> None:
    """``/proc/<pid>/stat`` as fs/proc/array.c writes it for a kernel thread."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    rest = f"2 0 0 0 -1 2129984 0 0 0 0 {ticks // 2} {ticks - ticks // 2} 0 0 20 0 1 0 812 0 0"
    (folder / "stat").write_text(f"{pid} ({comm}) {state} {rest} 18446744073709551615 0 0 0 0 0\n")
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "wchan").write_text(wchan)
    if queued_s is not None:
        (folder / "schedstat").write_text(f"{ticks * 10**9 // TICKS} {round(queued_s * 1e9)} 12\n")


def test_two_looks(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    thread(proc, 900, "UVM GPU1 BH", "R", ticks=100)
    thread(proc, 901, "UVM GPU2 BH", "D", wchan="uvm_va_space_mm_shutdown")
    thread(proc, 902, "UVM GPU1 KC", "S", wchan="down_interruptible")
    thread(proc, 17, "kworker/0:1 (UVM GPU1)", "I")
    (proc / "self").mkdir()
    before = kernel_threads.look(tmp_path)
    thread(proc, 900, "UVM GPU1 BH", "R", ticks=100 + TICKS)
    thread(proc, 903, "UVM GPU3 BH", "S")
    spinning, stuck, idle = kernel_threads.between(before, kernel_threads.look(tmp_path))
    assert (spinning.pid, spinning.comm, spinning.state, spinning.wchan) == (900, "UVM GPU1 BH", "R", None)
    assert spinning.cpu_s == 1.0
    assert 0 < spinning.apart_s < 60
    assert (stuck.state, stuck.wchan, stuck.cpu_s) == ("D", "uvm_va_space_mm_shutdown", 0.0)
    assert (idle.comm, idle.cpu_s) == ("UVM GPU1 KC", 0.0)
    told = kernel_threads.as_evidence("host", [stuck])[0]
    assert told.kind == "kernel-thread"
    assert told.fact == stuck
    assert "UVM GPU2 BH (901): state D in uvm_va_space_mm_shutdown" in told.text


def test_a_thread_that_spins_may_have_to_wait_for_a_processor(tmp_path: Path) -> None:
    """Where the kernel counts that, it is not taken for one that sleeps."""
    proc = tmp_path / "proc"
    thread(proc, 900, "UVM GPU1 BH", "R", ticks=7, queued_s=1.0)
    thread(proc, 901, "UVM GPU2 BH", "R", ticks=7)
    before = kernel_threads.look(tmp_path)
    thread(proc, 900, "UVM GPU1 BH", "R", ticks=8, queued_s=1.25)
    crowded, uncounted = kernel_threads.between(before, kernel_threads.look(tmp_path))
    assert (crowded.queued_s, uncounted.queued_s) == (0.25, 0.0)
    told = kernel_threads.as_evidence("host", [crowded])[0].text
    assert f"ran {1 / TICKS:g} s and waited 0.25 s for a processor of " in told


def test_a_number_that_is_another_thread_now_is_not_compared(tmp_path: Path) -> None:
    thread(tmp_path / "proc", 900, "UVM GPU1 BH", "S")
    before = kernel_threads.look(tmp_path)
    thread(tmp_path / "proc", 900, "UVM GPU2 BH", "S")
    assert kernel_threads.between(before, kernel_threads.look(tmp_path)) == ()


def test_without_the_driver_there_are_none(tmp_path: Path) -> None:
    assert kernel_threads.look(tmp_path) == ()
    named = [one.comm for one in kernel_threads.look(Path("/"))]
    assert all(comm.startswith("UVM GPU") for comm in named)
