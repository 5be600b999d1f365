"""A GPU's replayable faults as the UVM driver serves and counts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dmaproof.virtual.wire import PageFault

Access = Literal["read", "write", "atomic", "prefetch"]
PAGE_NBYTES = 0x1000
REPLAY_PERIOD_S = 0.002
"""How often a fault that is served in vain comes back: fetch, service, replay, and the access faults again."""


@dataclass(slots=True)
class Replay:
    """A fault that is replayed without end, for the process that ``client`` is."""

    client: int
    fault: PageFault
    since_s: float


@dataclass(slots=True)
class FaultBuffer:
    """The counters of ``fault_stats`` (kernel-open/nvidia-uvm/uvm_gpu.c) and the faults that never end."""

    faults: int = 0
    duplicates: int = 0
    by_access: dict[Access, int] = field(
        default_factory=lambda: dict.fromkeys(("prefetch", "read", "write", "atomic"), 0)
    )
    pages_in: int = 0
    pages_out: int = 0
    replays: int = 0
    replays_ack_all: int = 0
    non_replayable: int = 0
    replaying: list[Replay] = field(default_factory=list)

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
            self.duplicates += times  # the same page of the same channel, again in the buffer
            busy |= times > 0
        return busy


def fault_stats(buffer: FaultBuffer) -> str:
    """``/proc/driver/nvidia-uvm/gpus/GPU-<uuid>/fault_stats``, as its driver prints it."""
    access = buffer.by_access
    replayable = [("replayable_faults", buffer.faults), ("duplicates", buffer.duplicates)]
    return "".join(
        [
            *(_row(name, value) for name, value in replayable),
            "faults_by_access_type:\n",
            *(_row(f"  {name}", access[name]) for name in ("prefetch", "read", "write", "atomic")),
            *_migrations(buffer.pages_in, buffer.pages_out),
            "replays:\n",
            _row("  start", buffer.replays),
            _row("  start_ack_all", buffer.replays_ack_all),
            _row("non_replayable_faults", buffer.non_replayable),
            "faults_by_access_type:\n",
            *(_row(f"  {name}", 0) for name in ("read", "write", "atomic")),
            "faults_by_addressing:\n",
            _row("  virtual", buffer.non_replayable),
            _row("  physical", 0),
            *_migrations(0, 0),
        ]
    )


def _row(name: str, value: int) -> str:
    return f"{name:<22} {value}\n"


def _migrations(pages_in: int, pages_out: int) -> list[str]:
    rows = (("  num_pages_in", pages_in), ("  num_pages_out", pages_out))
    return ["migrations:\n", *(f"{name:<22} {n} ({n * PAGE_NBYTES // 2**20} MB)\n" for name, n in rows)]
