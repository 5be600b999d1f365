"""The model of one GPU: its link, its engines, its fault buffer. How it is reached is elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from dmaproof.rig.hardware import Gpu
from dmaproof.virtual.machine.link import Link
from dmaproof.virtual.machine.nvlink import Nvlinks
from dmaproof.virtual.machine.oops import Bug
from dmaproof.virtual.machine.uvm import BottomHalf, FaultBuffer

MAILBOX_OFFSET = 0x139000
"""Where in BAR0 peers find the registers that set up and synchronise transfers (NVIDIA, vfio-users 2017)."""


@dataclass(slots=True)
class Engine:
    """A copy engine, or the SMs as a source of DMA. ``fetching``: it takes work from its channels."""

    fetching: bool = True


@dataclass(slots=True)
class Handshake:
    """A transfer that waits for its peer's mailbox, and writes there again and again; for ``client``."""

    client: int
    address: int
    since_s: float


@dataclass(slots=True)
class Health:
    """What the driver keeps of a GPU's health; ``recovery_action`` is NVML_FI_DEV_GET_GPU_RECOVERY_ACTION's number.

    ``refuses`` is the CUresult that all work meets from now on, "" as long as the GPU takes any.
    """

    recovery_action: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    rows_remapped: int = 0
    ecc_uncorrectable: int = 0
    refuses: str = ""


@dataclass(slots=True)
class Gsp:
    """The GPU's system processor, which carries out what the kernel driver asks for. It answers ``answers_left`` more
    requests; None is any number."""

    answers_left: int | None = None

    def answer(self) -> bool:
        """One request; whether it is answered."""
        if self.answers_left is not None:
            self.answers_left -= 1
        return self.answers_left is None or self.answers_left >= 0


@dataclass(slots=True)
class BadCell:
    """Storage of the GPU that holds a word with two wrong bits; the access after ``accesses_left`` more meets it.

    ``contained``: it is found where only the process that reads it is harmed (an SM's own storage, as poison), and is
    not used again. Else it is a cell of the framebuffer at ``address``, found by the cache in front of it.
    """

    contained: bool
    address: int
    accesses_left: int = 0


@dataclass(slots=True)
class WildIndex:
    """The programs' kernels compute an index that overflows: those that work on ``from_nbytes`` or more touch ``va``,
    where the process has nothing."""

    va: int
    from_nbytes: int


@dataclass(slots=True)
class Neighbour:
    """Another process on the GPU, restarted whenever it crashes: it faults each time that the GPU has moved
    ``every_nbytes`` for others, and what the engine has at work then is lost with it."""

    pid: int
    name: str
    every_nbytes: int
    seen_nbytes: int = 0

    def crashes(self, nbytes: int) -> bool:
        """``nbytes`` more are moved; whether the neighbour faults meanwhile."""
        self.seen_nbytes += nbytes
        crashed = self.seen_nbytes >= self.every_nbytes
        if crashed:
            self.seen_nbytes = 0
        return crashed


@dataclass(slots=True)
class GpuModel:
    """``rig`` is what the rig declares. ``coherent`` is where the node sees this GPU's memory, on coherent links.

    ``users`` are the clients with channels on it, ``running`` how many kernels of each go on until they are told to
    stop. ``lock_held``: nobody gives back the kernel driver's lock of it. ``bug``: what the
    driver's work for this GPU comes upon.
    """

    rig: Gpu
    minor: int
    coherent: range | None = None
    link: Link = field(default_factory=Link)
    health: Health = field(default_factory=Health)
    gsp: Gsp = field(default_factory=Gsp)
    nvlinks: Nvlinks = field(default_factory=Nvlinks)
    engines: dict[Literal["ce", "sm"], Engine] = field(default_factory=lambda: {"ce": Engine(), "sm": Engine()})
    faults: FaultBuffer = field(default_factory=FaultBuffer)
    bottom_half: BottomHalf = field(default_factory=BottomHalf)
    waiting: list[Handshake] = field(default_factory=list)
    users: dict[int, None] = field(default_factory=dict)
    running: Counter[int] = field(default_factory=Counter)
    bad_cell: BadCell | None = None
    wild: WildIndex | None = None
    neighbour: Neighbour | None = None
    lock_held: bool = False
    bug: Bug | None = None
    lost: bool = False

    @property
    def bdf(self) -> str:
        return self.rig.bdf

    @property
    def uuid(self) -> str:
        """As NVML and procfs spell it. A rig that names none gets one made of the address."""
        return self.rig.uuid or f"GPU-00000000-0000-4000-8000-{self.bdf.translate(_ONLY_HEX):0>12}"


_ONLY_HEX = {ord(":"): None, ord("."): None}
