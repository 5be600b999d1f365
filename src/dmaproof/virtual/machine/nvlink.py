"""A GPU's NVLinks: which are up, what they carry, and the errors they count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

CRC, REPLAY, RECOVERY = "crc", "replay", "recovery"
_PACKET_NBYTES = 256
_PACKETS_AN_ERROR = 2048
"""A marginal link: about one packet in so many arrives wrong, and is sent again."""


@dataclass(slots=True)
class Nvlinks:
    """``down``: links that are not up. ``marginal``: links that are up and make errors. ``dying``: a link that meets an
    uncorrectable error at the next transfer. ``failed``: since such an error no transfer over NVLink succeeds.
    ``errors``: counts of crc, replay and recovery by link.
    """

    down: set[int] = field(default_factory=set)
    marginal: set[int] = field(default_factory=set)
    dying: int | None = None
    failed: bool = False
    errors: dict[int, dict[str, int]] = field(default_factory=dict)

    def share_up(self, total: int) -> float:
        """The part of ``total`` links that is up: traffic is spread over all of them."""
        return (total - len(self.down)) / total

    def carry(self, nbytes: int) -> None:
        """``nbytes`` went over the links: marginal ones had to send packets again."""
        for link in self.marginal:
            again = 1 + nbytes // _PACKET_NBYTES // _PACKETS_AN_ERROR
            self.count(link, {CRC: again, REPLAY: again})

    def retrain(self, links: Iterable[int]) -> None:
        """``links`` tried to recover, in vain, and are down."""
        for link in links:
            self.down.add(link)
            self.count(link, {RECOVERY: 1})

    def count(self, link: int, steps: dict[str, int]) -> None:
        counts = self.errors.setdefault(link, {CRC: 0, REPLAY: 0, RECOVERY: 0})
        for name, step in steps.items():
            counts[name] += step
