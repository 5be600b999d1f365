"""What the node that a guest is made on observes of the guest's DMA, in the guest's own terms.

An address is the same in both: the IOVA of an assigned function is the guest's physical address. The function is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dmaproof.evidence.evidence import Evidence


def in_guest(observed: Iterable[Evidence], assigned: Mapping[str, str], guest: str) -> Iterator[Evidence]:
    """``observed`` without what names a function that is not ``guest``'s; what names one of its functions gives it the
    address that it has there. ``assigned``: the guest's address by the host's."""
    for one in observed:
        bdf = one.event.bdf if one.event is not None else one.data.get("bdf")
        if bdf is None:
            yield one
        elif bdf in assigned:
            yield _as_there(one, assigned[bdf], guest)


def _as_there(one: Evidence, bdf: str, guest: str) -> Evidence:
    return replace(
        one,
        text=f"{one.text} (in {guest}: {bdf})",
        event=replace(one.event, bdf=bdf) if one.event is not None else None,
        data={**one.data, "bdf": bdf} if "bdf" in one.data else one.data,
    )
