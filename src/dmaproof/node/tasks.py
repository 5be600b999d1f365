"""What the threads of a process are doing, as the kernel tells it (Documentation/filesystems/proc.rst)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmaproof.node import proc

_PROGRAM_COUNTER = re.compile(r" 0x([0-9a-f]+)$")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Task:
    """One thread. ``stack`` is its kernel stack (needs CAP_SYS_ADMIN), ``wchan`` the kernel function it sleeps in.

    ``syscall`` is the number and arguments of the system call it is in, or ``running``; ``code`` is where in user space
    that was called from (``libc.so.6+0x9b2f3``). ``cpu_s`` and ``switches`` (context switches) grow only in a thread
    that still runs. What may not be read says so in its place.
    """

    tid: int
    comm: str
    state: str
    wchan: str
    stack: str
    syscall: str = ""
    code: str = ""
    cpu_s: float = 0.0
    switches: int = 0

    @property
    def ended(self) -> bool:
        return self.state in proc.ENDED

    @property
    def place(self) -> str:
        """The kernel function it sleeps in, or user space (where wchan is 0)."""
        return "user space" if self.wchan in ("", "0") else self.wchan


def sample(pid: int) -> tuple[Task, ...]:
    """All threads of ``pid`` now. May wait for that process's locks in the kernel: run it in dmaproof.node.isolated."""
    maps = _lines(Path(f"/proc/{pid}/maps"))
    folders = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda folder: int(folder.name))
    return tuple(_task(folder, maps) for folder in folders)


def moved(before: Sequence[Task], after: Sequence[Task]) -> tuple[int, ...]:
    """Thread ids that did something between two samples: a livelock moves, a deadlock does not."""
    then = {task.tid: task for task in before}
    return tuple(task.tid for task in after if task != then.get(task.tid))


def _task(folder: Path, maps: list[str]) -> Task:
    status = dict(line.split(":\t", 1) for line in _lines(folder / "status") if ":\t" in line)
    syscall = _text(folder / "syscall")
    return Task(
        tid=int(folder.name),
        comm=_text(folder / "comm"),
        state=status.get("State", "gone")[:1],
        wchan=_text(folder / "wchan"),
        stack=_text(folder / "stack"),
        syscall=syscall,
        code=locate(syscall, maps),
        cpu_s=_cpu_s(_text(folder / "stat")),
        switches=sum(int(status.get(name, 0)) for name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")),
    )


def locate(syscall: str, maps: Sequence[str]) -> str:
    """File and offset of the program counter that ends a ``/proc/PID/syscall`` line, by ``/proc/PID/maps`` lines."""
    counter = _PROGRAM_COUNTER.search(syscall)
    if counter is None:
        return ""
    pc = int(counter[1], 16)
    for line in maps:
        fields = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in fields[0].split("-"))
        if low <= pc < high:
            name = Path(fields[5]).name if len(fields) > 5 else "anonymous memory"
            return f"{name}+{pc - low + int(fields[2], 16):#x}"
    return ""


def _cpu_s(stat: str) -> float:
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if len(fields) > 12 else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError as error:
        return f"not readable: {error.strerror}"


def _lines(path: Path) -> list[str]:
    text = _text(path)
    return [] if text.startswith("not readable") else text.splitlines()
