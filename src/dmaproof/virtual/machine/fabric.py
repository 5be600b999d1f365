"""Who claims a bus address: BAR decode of the PCI fabric, and the node's own memory; and how traffic gets there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine import acs
from dmaproof.virtual.machine.aer import Errors
from dmaproof.virtual.wire import HOST


@dataclass(frozen=True, slots=True)
class Aperture:
    """``nbytes`` at bus address ``address`` that ``place`` (a BDF, or ``host``) claims. ``index`` is the BAR's."""

    place: str
    index: int
    address: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Landing:
    """Where an address leads: ``offset`` bytes into BAR ``index`` of ``place``."""

    place: str
    index: int
    offset: int


@dataclass(slots=True)
class RootComplex:
    """What joins root ports: ``swallows`` are (requester, target) whose memory writes are taken and go nowhere,
    ``peer_share`` is what peer traffic keeps of its rate there."""

    swallows: set[tuple[str, str]] = field(default_factory=set)
    peer_share: float = 1.0


@dataclass(slots=True)
class Fabric:
    """All apertures that are decoded now. An address that nobody claims ends as an unsupported request.

    ``straight`` are the pairs of GPUs that a switch joins by the rig's declaration, so that declared rates are for that
    way. ``errors`` is what the AER registers of each function have reported.
    """

    apertures: list[Aperture] = field(default_factory=list)
    straight: frozenset[frozenset[str]] = frozenset()
    root_complex: RootComplex = field(default_factory=RootComplex)
    errors: defaultdict[str, Errors] = field(default_factory=lambda: defaultdict(Errors))

    @classmethod
    def of(cls, node: Node, memory: range) -> Fabric:
        """All BARs of ``node`` in place, and its own memory at the bus addresses ``memory``."""
        bars = [Aperture(gpu.bdf, bar.index, bar.address, bar.nbytes) for gpu in node.gpus for bar in gpu.bars]
        pairs = combinations(node.gpus, 2)
        straight = frozenset(frozenset((a.bdf, b.bdf)) for a, b in pairs if acs.goes_straight(node, a, b))
        return cls([Aperture(HOST, 0, memory.start, len(memory)), *bars], straight)

    def claim(self, address: int) -> Landing | None:
        for one in self.apertures:
            if one.address <= address < one.address + one.nbytes:
                return Landing(one.place, one.index, address - one.address)
        return None

    def remove(self, place: str) -> None:
        """``place`` decodes nothing any more."""
        self.apertures = [one for one in self.apertures if one.place != place]

    def memory(self) -> Aperture:
        """The node's own memory."""
        return next(one for one in self.apertures if one.place == HOST)
