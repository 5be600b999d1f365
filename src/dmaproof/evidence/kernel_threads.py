"""The UVM driver's own threads, looked at twice: one that waits for ever, or spins, serves no fault any more.

Each GPU has a bottom half, the kernel thread ``UVM GPU<n> BH``, and ``UVM GPU<n> KC``, which ends channels
(kernel-open/nvidia-uvm/uvm_gpu_isr.c). With nothing to do they sleep in state S.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmaproof import schedstat
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import KernelThread

SOURCE = "kernel-threads"
_PREFIX = "UVM GPU"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """One thread at ``time_s`` (CLOCK_MONOTONIC). ``wchan`` is where it sleeps in the kernel, None where that is not
    told; ``cpu_s`` what it has run since it began, ``queued_s`` how long it was ready to run and had no processor (0
    where the kernel does not count that)."""

    pid: int
    comm: str
    state: str
    wchan: str | None
    cpu_s: float
    queued_s: float
    time_s: float


def look(root: Path) -> tuple[Look, ...]:
    """All threads of the UVM driver under ``root/proc``; empty where there are none, or /proc is not shown."""
    folders = _folders(root / "proc")
    return tuple(sorted((one for folder in folders if (one := _look(folder)) is not None), key=lambda one: one.pid))


def _folders(proc: Path) -> Iterator[Path]:
    try:
        names = [entry.name for entry in proc.iterdir() if entry.name.isdecimal()]
    except OSError:
        return
    yield from (proc / name for name in names)


def _look(folder: Path) -> Look | None:
    """By ``stat`` alone where possible: a machine has thousands of processes."""
    stat = _text(folder / "stat")
    comm, fields = split_stat(stat)
    if not comm.startswith(_PREFIX) or len(fields) < 13:
        return None
    wchan = _text(folder / "wchan")
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    where = wchan if wchan not in ("", "0") else None
    queued_s = schedstat.queued_s(folder) or 0.0
    return Look(int(folder.name), comm, fields[0], where, cpu_s, queued_s, time.monotonic())


def split_stat(text: str) -> tuple[str, list[str]]:
    """The name of a ``/proc/<pid>/stat`` line and the fields behind it; a name may hold blanks and brackets."""
    head, _, tail = text.rpartition(")")
    return head.partition("(")[2], tail.split()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def between(before: Sequence[Look], after: Iterable[Look]) -> tuple[KernelThread, ...]:
    """Each thread that was there at both looks, in the state of the second."""
    first = {(one.pid, one.comm): one for one in before}
    return tuple(
        KernelThread(
            pid=one.pid,
            comm=one.comm,
            state=one.state,
            wchan=one.wchan,
            cpu_s=round(one.cpu_s - then.cpu_s, 6),
            queued_s=round(one.queued_s - then.queued_s, 6),
            apart_s=round(one.time_s - then.time_s, 6),
        )
        for one in after
        if (then := first.get((one.pid, one.comm))) is not None
    )


def as_evidence(node: str, threads: Iterable[KernelThread]) -> list[Evidence]:
    """One Evidence a thread, kind ``kernel-thread``."""
    return [
        Evidence(source=SOURCE, node=node, time_s=time.monotonic(), kind="kernel-thread", text=told(one), fact=one)
        for one in threads
    ]


def told(one: KernelThread) -> str:
    place = f" in {one.wchan}" if one.wchan else ""
    queued = f" and waited {one.queued_s:.2f} s for a processor" if one.queued_s else ""
    ran = f"ran {one.cpu_s:g} s{queued} of {one.apart_s:.2f} s"
    return f"kernel thread {one.comm} ({one.pid}): state {one.state}{place}, {ran}"
