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
PAGE_NBYTES = 0x1000
_BAR0_NBYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class KnownPlace:
    """``nbytes`` at ``offset`` of BAR ``bar`` of a kind of device, and what is there."""

    bar: int
    offset: int
    nbytes: int
    name: str


NVIDIA_GPU = (KnownPlace(0, MAILBOX_OFFSET, PAGE_NBYTES, MAILBOX),)
"""The places that are known in the BARs of NVIDIA's display and 3D controllers."""


@dataclass(frozen=True, slots=True)
class Claim:
    """``nbytes`` at ``address`` that belong to one thing: ``owner``, ``bar`` and ``known`` places are those of a BAR.

    ``requesters`` are the devices for whose DMA a reserved region is one (it holds for their IOMMU groups only); None
    is all of them.
    """

    kind: Literal["ram", "reserved", "bar"]
    address: int
    nbytes: int
    owner: str | None = None
    bar: int | None = None
    name: str | None = None
    known: tuple[KnownPlace, ...] = ()
    requesters: frozenset[str] | None = None

    def overlaps(self, address: int, nbytes: int) -> bool:
        return self.address < address + nbytes and address < self.address + self.nbytes

    def holds_for(self, requester: str | None) -> bool:
        return requester is None or self.requesters is None or requester in self.requesters


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an address leads. ``offset`` is into BAR ``bar`` of ``owner``, ``name`` what is known to be there.

    ``kind`` is ``unclaimed`` where the whole map is known and nothing is there, ``unknown`` where it is not. A place
    that is not certain is told by the address alone (the mailbox of a BAR0 that would begin at ``address - offset``),
    or by a page that more than one thing shares. ``reserved`` names the reserved region that lies over a BAR as well:
    the IOMMU will not map that BAR there.
    """

    address: int
    kind: Literal["ram", "reserved", "bar", "unclaimed", "unknown"]
    certain: bool = True
    owner: str | None = None
    bar: int | None = None
    offset: int | None = None
    name: str | None = None
    reserved: str | None = None

    @property
    def is_mailbox(self) -> bool:
        return self.name == MAILBOX


@dataclass(frozen=True, slots=True)
class AddressMap:
    """``claims`` of one node; ``whole`` where nothing else can claim an address, ``unseen`` says why it is not."""

    claims: tuple[Claim, ...] = ()
    whole: bool = False
    unseen: tuple[str, ...] = ()

    def resolve(self, address: int, *, page: bool = False, requester: str | None = None) -> Place:
        """The place at ``address``; of two claims the smaller has it (a BAR inside a reserved region).

        ``page``: only the page is known, as in VT-d's reports, whose low 12 bits are always 0; the place is certain
        where the page leaves no choice. ``requester`` is the BDF whose DMA it was: reserved regions of other IOMMU
        groups are no matter to it.
        """
        first, nbytes = (address & -PAGE_NBYTES, PAGE_NBYTES) if page else (address, 1)
        found = [one for one in self.claims if one.overlaps(first, nbytes) and one.holds_for(requester)]
        if not found:
            return self._unclaimed(address)
        one = min(found, key=lambda claim: claim.nbytes)
        offset = max(address - one.address, 0)
        over = [other.name for other in found if one.kind == "bar" and other.kind == "reserved"]
        return Place(
            address=address,
            kind=one.kind,
            certain=not _is_shared(found, one, first, nbytes),
            owner=one.owner,
            bar=one.bar,
            offset=offset,
            name=_known(one, first - one.address, nbytes) or one.name,
            reserved=over[0] if over else None,
        )

    def _unclaimed(self, address: int) -> Place:
        if self.whole:
            return Place(address=address, kind="unclaimed")
        offset = address % _BAR0_NBYTES
        if offset & -PAGE_NBYTES == MAILBOX_OFFSET:
            return Place(address=address, kind="bar", certain=False, bar=0, offset=offset, name=MAILBOX)
        return Place(address=address, kind="unknown", certain=False)


def _is_shared(found: list[Claim], one: Claim, address: int, nbytes: int) -> bool:
    """Whether another claim reaches into the page that does not simply lie around ``one`` (a window, a region)."""
    end = one.address + one.nbytes
    if one.address <= address and address + nbytes <= end:
        return False
    others = (other for other in found if other is not one)
    return not all(other.address <= one.address and end <= other.address + other.nbytes for other in others)


def _known(claim: Claim, offset: int, nbytes: int) -> str | None:
    """What is known at ``offset``, be it in the midst of the place or at the start of the page that holds it."""
    known = (one for one in claim.known if one.bar == claim.bar)
    return next((one.name for one in known if one.offset < offset + nbytes and offset < one.offset + one.nbytes), None)


NOTHING_KNOWN = AddressMap()


def of_bars(bars: Iterable[tuple[str, int, int, int]]) -> AddressMap:
    """A map that knows only ``(owner, bar, address, nbytes)`` of GPUs: a rig file's view."""
    claims = (Claim("bar", address, nbytes, owner, bar, known=NVIDIA_GPU) for owner, bar, address, nbytes in bars)
    return AddressMap(tuple(claims), unseen=("only the BARs that the rig declares are known",))
