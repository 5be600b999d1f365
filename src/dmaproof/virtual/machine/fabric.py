"""Who claims a bus address: BAR decode of the PCI fabric, and the node's own memory."""

from __future__ import annotations

from dataclasses import dataclass, field

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
class Fabric:
    """All apertures that are decoded now. An address that nobody claims ends as an unsupported request."""

    apertures: list[Aperture] = field(default_factory=list)

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
