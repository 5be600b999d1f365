"""The PCIe link of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.rig.model import PcieLink


@dataclass(slots=True)
class Link:
    """``transfers_left`` is how many transfers the link still stands; None is any number. ``trained`` is what it
    trained to, None for all that the rig declares; ``replays`` counts packets that were sent again.
    """

    up: bool = True
    transfers_left: int | None = None
    trained: PcieLink | None = None
    replays: int = 0

    def carry(self) -> bool:
        """One transfer goes over the link; whether it got through. A link that went down stays down."""
        if self.transfers_left is not None:
            self.transfers_left -= 1
            self.up = self.up and self.transfers_left >= 0
        return self.up
