"""The model of one GPU: its link, its engines, its fault buffer. How it is reached is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dmaproof.rig.model import Gpu
from dmaproof.virtual.machine.link import Link
from dmaproof.virtual.machine.uvm import FaultBuffer

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
    """What the driver keeps of a GPU's health; ``recovery_action`` is NVML_FI_DEV_GET_GPU_RECOVERY_ACTION's number."""

    recovery_action: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    ecc_uncorrectable: int = 0


@dataclass(slots=True)
class Nvlinks:
    """A GPU's NVLinks: which are down, and the error counters of each (``crc``, ``replay``, ``recovery``)."""

    down: set[int] = field(default_factory=set)
    errors: dict[str, int] = field(default_factory=lambda: {"crc": 0, "replay": 0, "recovery": 0})


@dataclass(slots=True)
class GpuModel:
    """``rig`` is what the rig declares. ``coherent`` is where the node sees this GPU's memory, on coherent links."""

    rig: Gpu
    minor: int
    coherent: range | None = None
    link: Link = field(default_factory=Link)
    health: Health = field(default_factory=Health)
    nvlinks: Nvlinks = field(default_factory=Nvlinks)
    engines: dict[Literal["ce", "sm"], Engine] = field(default_factory=lambda: {"ce": Engine(), "sm": Engine()})
    faults: FaultBuffer = field(default_factory=FaultBuffer)
    waiting: list[Handshake] = field(default_factory=list)
    lost: bool = False

    @property
    def bdf(self) -> str:
        return self.rig.bdf

    @property
    def uuid(self) -> str:
        """As NVML and procfs spell it. A rig that names none gets one made of the address."""
        return self.rig.uuid or f"GPU-00000000-0000-4000-8000-{self.bdf.translate(_ONLY_HEX):0>12}"


_ONLY_HEX = {ord(":"): None, ord("."): None}
