"""What stands at a bus address: memory, a reserved region, or an endpoint's BAR; and the places in BARs that are known.

A fault names an address and nothing else. GPUDirect's mailbox (BAR0 + 0x139000 of the target GPU) is NVIDIA's own word
on vfio-users, August 2017; BAR0 of NVIDIA GPUs is 16 MiB, so its address leaves the low 24 bits to the offset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAILBOX_OFFSET = 0x139000
MAILBOX = "GPUDirect mailbox"
_PAGE_NBYTES = 0x1000
_BAR0_NBYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Claim:
    """``nbytes`` at ``address`` that belong to one thing: ``owner`` and ``bar`` are those of a BAR."""

    kind: Literal["ram", "reserved", "bar"]
    address: int
    nbytes: int
    owner: str | None = None
    bar: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an address leads. ``offset`` is into BAR ``bar`` of ``owner``, ``name`` what is known to be there.

    ``kind`` is ``unclaimed`` where the whole map is known and nothing is there, ``unknown`` where it is not. A place
    that is not certain is told by the address alone: the mailbox of a BAR0 that would begin at ``address - offset``.
    """

    address: int
    kind: Literal["ram", "reserved", "bar", "unclaimed", "unknown"]
    certain: bool = True
    owner: str | None = None
    bar: int | None = None
    offset: int | None = None
    name: str | None = None

    @property
    def is_mailbox(self) -> bool:
        return self.name == MAILBOX


@dataclass(frozen=True, slots=True)
class AddressMap:
    """``claims`` of one node; ``whole`` where nothing else can claim an address."""

    claims: tuple[Claim, ...] = ()
    whole: bool = False

    def resolve(self, address: int) -> Place:
        """The place at ``address``; of two claims the smaller has it (a BAR inside a reserved region)."""
        found = [one for one in self.claims if one.address <= address < one.address + one.nbytes]
        if not found:
            return self._unclaimed(address)
        one = min(found, key=lambda claim: claim.nbytes)
        offset = address - one.address
        name = MAILBOX if one.bar == 0 and offset & -_PAGE_NBYTES == MAILBOX_OFFSET else one.name
        return Place(address=address, kind=one.kind, owner=one.owner, bar=one.bar, offset=offset, name=name)

    def _unclaimed(self, address: int) -> Place:
        if self.whole:
            return Place(address=address, kind="unclaimed")
        offset = address % _BAR0_NBYTES
        if offset & -_PAGE_NBYTES == MAILBOX_OFFSET:
            return Place(address=address, kind="bar", certain=False, bar=0, offset=offset, name=MAILBOX)
        return Place(address=address, kind="unknown", certain=False)


NOTHING_KNOWN = AddressMap()


def of_bars(bars: Iterable[tuple[str, int, int, int]]) -> AddressMap:
    """A map that knows only ``(owner, bar, address, nbytes)``: a rig file's view."""
    return AddressMap(tuple(Claim("bar", address, nbytes, owner, bar) for owner, bar, address, nbytes in bars))
