"""Facts: what a source measured or read, with types, beside the text that people read.

An Evidence carries at most one. BDFs are ``dddd:bb:dd.f``; ``host`` stands for the node's own memory. None is always
"not known", never "none".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Counter = Literal[
    "pcie-replay", "aer-correctable", "aer-nonfatal", "aer-fatal",
    "nvlink-crc", "nvlink-replay", "nvlink-recovery", "ecc-correctable", "ecc-uncorrectable",
]  # fmt: skip


Engine = Literal["ce", "sm", "edu", "nvme"]
"""What did a transfer: a GPU's copy engine, its processors; or a device whose only trade it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterStep:
    """A counter of ``bdf`` (a GPU, or a port above it) went up between two readings. ``which`` names the error inside
    the counter, as its source spells it (``RxErr``, ``BadTLP``, ``link 3``)."""

    bdf: str
    counter: Counter
    before: int
    after: int
    which: str | None = None

    @property
    def step(self) -> int:
        return self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """The PCIe link of GPU ``bdf`` to ``port``. Offered is what both ends can do; generation 5 is 32 GT/s.

    A generation below the offered one is usual at rest (power saving); a width below it is not.
    """

    bdf: str
    port: str | None
    generation: int | None
    width: int | None
    offered_generation: int | None
    offered_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvlinkState:
    """How many NVLinks of ``bdf`` are up, and how many the rig declares."""

    bdf: str
    active: int
    declared: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """What NVML says of ``bdf``'s health. ``recovery_action`` is one of ``none``, ``gpu-reset``, ``node-reboot``,
    ``drain-p2p``, ``drain-and-reset``, .. (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION); ``ecc_uncorrectable`` counts since the
    driver was loaded; ``clocks_event_reasons`` say why its clocks are as they are now (``hw-thermal``, ``idle``)."""

    bdf: str
    recovery_action: str | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    ecc_uncorrectable: int | None = None
    clocks_event_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressingSeen:
    """How ``bdf`` addresses system memory (none, hmm, ats): as the rig declares it, by the CUDA device attributes, and
    by NVML."""

    bdf: str
    declared: str
    by_attributes: str | None
    by_nvml: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelThread:
    """A thread of the driver's in the kernel (``UVM GPU1 BH``), looked at twice: ``cpu_s`` is what it ran between, and
    ``queued_s`` what it waited for a processor."""

    pid: int
    comm: str
    state: str
    wchan: str | None
    cpu_s: float
    apart_s: float
    queued_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerWriteSeen:
    """``writer``'s engine wrote ``nwords`` into ``owner``'s memory; each side then read it by its own way.

    ``wrong_words`` are those that the owner found wrong in its own memory, ``old_words`` those of them that still hold
    what was there before, ``writer_wrong_words`` what the writer found wrong through its mapping. ``claimed_nbytes`` is
    what the call that asked for it says it moved, where one does. ``can_access`` is what the CUDA driver says of the
    pair (cuDeviceCanAccessPeer), ``how`` the way of the write beyond its engine: ``a graph``, ``atomics``.
    """

    writer: str
    owner: str
    engine: Engine
    nbytes: int
    nwords: int
    wrong_words: int
    old_words: int
    writer_wrong_words: int | None
    claimed_nbytes: int | None = None
    can_access: bool | None = None
    how: str | None = None

    @property
    def by(self) -> str:
        """The engine, and how it was used."""
        return f"{self.engine}, {self.how}" if self.how else self.engine

    @property
    def claim(self) -> str:
        """What was said of the write beforehand that did not come true, as a clause; "" where nothing was."""
        if self.claimed_nbytes:
            return f", though the call claimed {self.claimed_nbytes} bytes"
        return ", though the driver says that it can reach it (canAccessPeer is 1)" if self.can_access else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReadSeen:
    """``reader``'s engine read ``nwords`` of ``owner``'s memory: ``wrong_words`` of what it got are not what the owner
    holds. ``claimed_nbytes`` is as in PeerWriteSeen."""

    reader: str
    owner: str
    engine: Engine
    nbytes: int
    nwords: int
    wrong_words: int
    claimed_nbytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure that the test took. ``source`` and ``target`` are BDFs or ``host``; ``peer`` says whether peer access
    was on (None: no two GPUs); ``declared`` is what the rig declares for it, in the same unit."""

    name: str
    unit: str
    value: float
    source: str
    target: str
    engine: str | None = None
    peer: bool | None = None
    direction: str | None = None
    declared: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSeen:
    """Where the kernel's rule says that peer traffic from ``client`` to ``provider`` goes (drivers/pci/p2pdma.c).

    ``decided_by`` is the port whose setting decided it, ``acs`` the redirecting bits that are on there (RR, CR, EC).
    """

    provider: str
    client: str
    outcome: Literal["bus", "host-bridge", "unsupported", "unknown"]
    distance: int | None
    decided_by: str | None
    acs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BarConflict:
    """BAR ``bar`` of ``bdf`` lies where DMA cannot reach it. ``why``: ``reserved`` (by firmware or the IOMMU, at
    ``first``..``last``), ``too-wide`` (above the IOMMU's address width), ``unassigned`` (it has no address)."""

    bdf: str
    bar: int
    address: int | None
    nbytes: int | None
    why: Literal["reserved", "too-wide", "unassigned"]
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage2Finding:
    """Device memory of a guest that stage 2 ought to hold, and does not, says an audit (dmaproof.guest.audit).

    ``guest`` and ``host`` are the function's BDF in the guest and on the host; ``name`` is that of a range that is no
    BAR. ``first`` to ``last`` are guest-physical, and so the IOVA in a fault of the host's; None where the guest's
    address is not known. ``why`` is the audit's word for it, ``code`` the errno, ``consequence`` a clause for people.
    """

    why: str
    guest: str | None
    host: str | None
    bar: int | None
    name: str | None
    first: int | None
    last: int | None
    code: int | None
    consequence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """One event that came ``count`` times from ``first_s`` to ``last_s`` (the Evidence's clock), at addresses from
    ``first_address`` to ``last_address``."""

    count: int
    first_s: float
    last_s: float
    first_address: int | None = None
    last_address: int | None = None


Fact = (
    CounterStep
    | LinkState
    | NvlinkState
    | GpuHealth
    | AddressingSeen
    | KernelThread
    | PeerWriteSeen
    | PeerReadSeen
    | Measured
    | RouteSeen
    | BarConflict
    | Stage2Finding
    | Storm
)
