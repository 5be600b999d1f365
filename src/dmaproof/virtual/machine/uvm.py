"""A GPU's replayable faults as the UVM driver serves and counts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from dmaproof.virtual.wire import PageFault

Access = Literal["read", "write", "atomic", "prefetch"]
_ACCESSES: tuple[Access, ...] = ("prefetch", "read", "write", "atomic")
PAGE_NBYTES = 0x1000
_BLOCK_NBYTES = 2 << 20  # UVM_VA_BLOCK_SIZE
_FIRST_PID = 900
REPLAY_PERIOD_S = 0.002
"""How often a fault that is served in vain comes back: fetch, service, replay, and the access faults again."""


@dataclass(slots=True)
class Replay:
    """A fault that is replayed without end, for the process that ``client`` is. ``undone``: each time its pages arrive
    and are taken away again before the access goes on."""

    client: int
    fault: PageFault
    since_s: float
    undone: bool = False

    @property
    def npages(self) -> int:
        return pages_of(self.fault.nbytes)


@dataclass(slots=True)
class BottomHalf:
    """The kernel thread that serves a GPU's faults (``UVM GPU<n> BH``, kernel-open/nvidia-uvm/uvm_gpu_isr.c).

    ``stuck_in``: what becomes of it at the first fault that it is to serve: it sleeps on a lock that nobody gives back
    (D), or spins (R). ``since_s`` is when that was.
    """

    stuck_in: Literal["D", "R"] | None = None
    since_s: float | None = None

    def serves(self, now_s: float) -> bool:
        """A fault arrives; whether the thread gets to serve it."""
        if self.stuck_in is not None and self.since_s is None:
            self.since_s = now_s
        return self.stuck_in is None

    @property
    def state(self) -> Literal["S", "D", "R"]:
        return "S" if self.since_s is None or self.stuck_in is None else self.stuck_in

    def ran_s(self, now_s: float) -> float:
        """How long it has been on a CPU."""
        return now_s - self.since_s if self.since_s is not None and self.stuck_in == "R" else 0.0


@dataclass(slots=True)
class FaultBuffer:
    """The counters of ``fault_stats`` (kernel-open/nvidia-uvm/uvm_gpu.c) and the faults that never end. Pages are those
    that came and went for faults: not by prefetching (update_stats_migration_cb).

    ``contested``: another processor touches every page as soon as it has come to this GPU, and so takes it back.
    """

    faults: int = 0
    duplicates: int = 0
    by_access: dict[Access, int] = field(default_factory=lambda: dict.fromkeys(_ACCESSES, 0))
    pages_in: int = 0
    pages_out: int = 0
    replays: int = 0
    replays_ack_all: int = 0
    non_replayable: int = 0
    replaying: list[Replay] = field(default_factory=list)
    contested: bool = False

    def took(self, access: Access, times: int = 1) -> None:
        """``times`` faults were fetched, served and replayed."""
        self.faults += times
        self.by_access[access] += times
        self.replays += times

    def replay(self, now_s: float) -> bool:
        """Lets the faults that never end come back as often as time has passed; whether any did."""
        busy = False
        for one in self.replaying:
            times = int((now_s - one.since_s) / REPLAY_PERIOD_S)
            one.since_s += times * REPLAY_PERIOD_S
            self.took(one.fault.access, times)
            if one.undone:
                self.pages_in += times * one.npages
                self.pages_out += times * one.npages
            else:
                self.duplicates += times  # the same page of the same channel, again in the buffer
            busy |= times > 0
        return busy


def thread_comm(minor: int) -> str:
    """uvm_parent_id_t counts GPUs from 1; the CPU is 0."""
    return f"UVM GPU{minor + 1} BH"


def thread_pid(minor: int) -> int:
    return _FIRST_PID + minor


def pages_of(nbytes: int) -> int:
    return -(-nbytes // PAGE_NBYTES)


def blocks_of(va: int, nbytes: int) -> int:
    """How many faults a GPU takes at the least where it touches a range: UVM serves them block by block, and brings all
    of a block that is touched through and through (uvm_va_block_t; uvm_perf_prefetch.c)."""
    return (va + max(nbytes, 1) - 1) // _BLOCK_NBYTES - va // _BLOCK_NBYTES + 1


def fault_stats(buffer: FaultBuffer) -> str:
    """``/proc/driver/nvidia-uvm/gpus/GPU-<uuid>/fault_stats``, as its driver prints it."""
    access = tuple(buffer.by_access[name] for name in _ACCESSES)
    pages, replays = (buffer.pages_in, buffer.pages_out), (buffer.replays, buffer.replays_ack_all)
    return _fault_stats(buffer.faults, buffer.duplicates, access, pages, replays, buffer.non_replayable)


@lru_cache(maxsize=256)
def _fault_stats(  # noqa: PLR0913, RUF100 - every counter there is
    faults: int,
    duplicates: int,
    access: tuple[int, ...],
    pages: tuple[int, int],
    replays: tuple[int, int],
    non_replayable: int,
) -> str:
    """Kept: it is asked for at every message, and seldom another."""
    return "".join(
        [
            _row("replayable_faults", faults),
            _row("duplicates", duplicates),
            "faults_by_access_type:\n",
            *(_row(f"  {name}", number) for name, number in zip(_ACCESSES, access, strict=True)),
            *_migrations(*pages),
            "replays:\n",
            _row("  start", replays[0]),
            _row("  start_ack_all", replays[1]),
            _row("non_replayable_faults", non_replayable),
            "faults_by_access_type:\n",
            *(_row(f"  {name}", 0) for name in ("read", "write", "atomic")),
            "faults_by_addressing:\n",
            _row("  virtual", non_replayable),
            _row("  physical", 0),
            *_migrations(0, 0),
        ]
    )


def _row(name: str, value: int) -> str:
    return f"{name:<22} {value}\n"


def _migrations(pages_in: int, pages_out: int) -> list[str]:
    rows = (("  num_pages_in", pages_in), ("  num_pages_out", pages_out))
    return ["migrations:\n", *(f"{name:<22} {n} ({n * PAGE_NBYTES // 2**20} MB)\n" for name, n in rows)]
