"""The PCIe link of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.rig.hardware import PcieLink

_SPEEDS = {1: "2.5", 2: "5.0", 3: "8.0", 4: "16.0", 5: "32.0", 6: "64.0", 7: "128.0"}
_MBPS_PER_LANE = {1: 2000, 2: 4000, 3: 7876, 4: 15753, 5: 31507, 6: 64000, 7: 128000}
"""PCIE_SPEED2MBS_ENC in drivers/pci/pci.h: what is left of the symbol rate after encoding."""


def speed(generation: int) -> str:
    """As pci_speed_string() of drivers/pci/probe.c."""
    return f"{_SPEEDS[generation]} GT/s PCIe"


def rate_Mbps(link: PcieLink) -> int:  # noqa: N802 - a unit
    """What the kernel counts a link's rate as."""
    return _MBPS_PER_LANE[link.generation] * link.width


@dataclass(frozen=True, slots=True)
class Marginal:
    """A link at the edge: of ``every`` packets one arrives damaged and is sent again, which costs ``loss`` of the rate.

    ``errors`` are what the two ends see of it in turn, as their AER registers call it.
    """

    every: int
    loss: float
    errors: tuple[str, ...]


@dataclass(slots=True)
class Link:
    """``transfers_left`` is how many transfers the link still stands; None is any number. ``trained`` is what it
    trained to, None for all that the rig declares; ``replays`` counts packets that were sent again. ``fatal`` is the
    uncorrectable error that the port sees when the link goes down, None where it goes without one.
    """

    up: bool = True
    transfers_left: int | None = None
    trained: PcieLink | None = None
    replays: int = 0
    marginal: Marginal | None = None
    fatal: str | None = None

    def carry(self) -> bool:
        """One transfer goes over the link; whether it got through. A link that went down stays down."""
        if self.transfers_left is not None:
            self.transfers_left -= 1
            self.up = self.up and self.transfers_left >= 0
        return self.up

    def share(self, declared: PcieLink | None) -> float:
        """What is left of the rate that a link trained as ``declared`` has."""
        trained = 1.0 if self.trained is None or declared is None else rate_Mbps(self.trained) / rate_Mbps(declared)
        return trained * (1.0 - self.marginal.loss if self.marginal is not None else 1.0)
