"""DMA that an IOMMU refused, by where it was to go: what the signatures of faults share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import PeerReadSeen, PeerWriteSeen
from dmaproof.pci.addresses import AddressMap, Place, of_bars
from dmaproof.triage.verdict import Case

_FEW = 3


@dataclass(frozen=True, slots=True)
class RefusedDma:
    """``requester`` is None where the kernel does not name it; ``place`` is what it wanted to reach."""

    fault: Evidence
    requester: str | None
    address: int
    place: Place

    @property
    def who(self) -> str:
        return self.requester or "an unnamed device"

    @property
    def owner(self) -> str | None:
        return self.place.owner


def addresses(case: Case) -> AddressMap:
    """What is known of bus addresses: the machine's own map, else the BARs that the rig declares."""
    if case.addresses.claims:
        return case.addresses
    return of_bars((gpu.bdf, bar.index, bar.address, bar.nbytes) for gpu in case.node.gpus for bar in gpu.bars)


def refused_dma(case: Case, evidence: Iterable[Evidence], wanted: Callable[[Place], bool]) -> tuple[RefusedDma, ...]:
    """The faults in ``evidence`` of an endpoint that concerns the test, at a ``wanted`` place that is not its own.

    The rig names those whose DMA is looked at: a requester that it does not has another story.
    """
    known, peers = addresses(case), {one.bdf for one in (*case.node.gpus, *case.node.endpoints)}
    found = []
    for one in evidence:
        event = one.event
        if event is None or event.kind != "iommu-fault" or event.address is None:
            continue
        if not case.concerns(event.bdf) or (peers and event.bdf not in {None, *peers}):
            continue
        page = event.family == "vtd"  # VT-d reports no more than the page
        place = known.resolve(event.address, page=page, requester=event.bdf)
        if wanted(place) and (place.owner is None or _is_peer(place.owner, event.bdf, peers)):
            found.append(RefusedDma(one, event.bdf, event.address, place))
    return tuple(found)


def _is_peer(owner: str, requester: str | None, peers: set[str]) -> bool:
    return owner != requester and (not peers or owner in peers)


def lost(case: Case) -> tuple[tuple[Evidence, PeerWriteSeen | PeerReadSeen], ...]:
    """The transfers between peers in the window of which something did not arrive."""
    written = [(one, fact) for one, fact in case.facts(PeerWriteSeen) if fact.wrong_words]
    read = [(one, fact) for one, fact in case.facts(PeerReadSeen) if fact.wrong_words]
    return (*written, *read)


def way(moved: PeerWriteSeen | PeerReadSeen) -> tuple[str, str]:
    """Who did the DMA, and whose memory it was to reach."""
    return (moved.writer if isinstance(moved, PeerWriteSeen) else moved.reader), moved.owner


def in_window_or_before(case: Case, wanted: Callable[[Place], bool]) -> tuple[tuple[RefusedDma, ...], bool]:
    """The window's faults, else, where the test hung or data was lost, the run's last few between the test's own
    endpoints: the kernel's rate limit may have eaten the window's.

    The second part says whether they are the window's.
    """
    now = refused_dma(case, case.evidence, wanted)
    if now or not (case.of_kind("hang") or lost(case)):
        return now, True
    before = [
        one
        for one in refused_dma(case, case.session, wanted)
        if one.requester in case.endpoints and one.owner in (None, *case.endpoints)
    ]
    return tuple(before[-_FEW:]), False
