"""Why a part of a BAR is not in a table of stage 2: each gap by what the trace says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dmaproof.guest.audit.finding import Why
from dmaproof.guest.audit.parts import PAGE_NBYTES, Wanted, errno_of
from dmaproof.guest.audit.state import State
from dmaproof.guest.audit.table import Range, Table, joined, less

AMD_RESERVED = Range(0xFD_0000_0000, 0xFF_FFFF_FFFF)
"""HyperTransport's (drivers/iommu/amd/iommu.c, amd_iommu_get_resv_regions): a map that failed there has its reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the host's IOMMU cannot map: ``reserved`` ranges, and addresses beyond ``width_bits``."""

    reserved: tuple[Range, ...] = ()
    width_bits: int | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """A table of stage 2. ``is_told``: its map calls are not traced, and taken to have done what they were told."""

    maps: Table
    failed: Table
    is_told: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """``emulated``: QEMU has its own memory there, on purpose."""

    range: Range
    why: Why
    code: int | None = None
    at: Range | None = None
    emulated: bool = False


def spaces(state: State, seen: Sequence[Table] = ()) -> tuple[Space, ...]:
    """The IOMMU's own tables where they were ``seen``; else those that ``state`` knows of: iommufd's, or one for each
    container of type1. An empty one is of devices that are gone."""
    if seen:
        failed = _failures(state)
        return tuple(Space(one, failed, is_told=False) for one in seen)
    if state.ioases:
        found = [Space(one.maps, one.failed, is_told=False) for one in state.ioases.values()]
    else:
        found = [Space(one.maps(), one.lost, is_told=True) for one in state.layers]
    return tuple(one for one in found if len(one.maps) or len(one.failed))


def _failures(state: State) -> Table:
    """What any container or space is known to have refused."""
    found = Table()
    for one in (*(layer.lost for layer in state.layers), *(ioas.failed for ioas in state.ioases.values())):
        for entry in one:
            found.add(entry)
    return found


def read_only(space: Space, wanted: Range) -> tuple[Range, ...]:
    found = (entry.range.overlap(wanted) for entry in space.maps.within(wanted) if entry.readonly)
    return joined(one for one in found if one is not None)


def gaps_in(state: State, space: Space, wanted: Wanted, limits: Limits, claimed: Sequence[Range] = ()) -> Iterator[Gap]:
    """The gaps of ``wanted`` in ``space``, cut where their reasons change. ``claimed`` are the places of all that ought
    to be mapped: a mapping there is no one's that was left behind."""
    for gap in space.maps.gaps(wanted.range):
        left: list[Range] = [gap]
        for cause in _told(state, space, wanted, gap):
            left = [rest for part in left for rest in less(part, [cause.range])]
            yield _limited(cause, limits)
        for rest in left:
            yield _limited(_silent(state, space, wanted, rest, claimed), limits)


def _told(state: State, space: Space, wanted: Wanted, gap: Range) -> Iterator[Gap]:
    """What the trace gives a reason for; no two of these overlap."""
    if not wanted.enabled:
        yield Gap(gap, "disabled")
        return
    given: list[Range] = []
    for entry in space.failed.within(gap):
        if (where := entry.range.overlap(gap)) is not None:
            why: Why = "skipped" if entry.code is None else "map-failed"
            yield Gap(where, why, errno_of(entry))
            given.append(where)
    for skipped in _skipped(state, gap):
        emulated = _is_laid_over(space, wanted, skipped)
        for where in less(skipped, given):
            yield Gap(where, "skipped", emulated=emulated)


def _skipped(state: State, gap: Range) -> Sequence[Range]:
    """Sections that are no RAM, by whole pages: QEMU maps no page that one of them has a part of."""
    found = (
        Range(entry.range.first & -PAGE_NBYTES, entry.range.last | (PAGE_NBYTES - 1))
        for entry in state.skipped.within(Range(gap.first & -PAGE_NBYTES, gap.last | (PAGE_NBYTES - 1)))
    )
    return joined(one for part in found if (one := part.overlap(gap)) is not None)


def _is_laid_over(space: Space, wanted: Wanted, skipped: Range) -> bool:
    """Something that QEMU answers itself (a quirk's registers): beside it the same range is mapped, or it would be a
    hole that somebody made by skipping all of it."""
    beside = (Range(at, at) for at in (skipped.first - 1, skipped.last + 1))
    return any(wanted.range.holds(one) and not space.maps.gaps(one) for one in beside)


def _silent(state: State, space: Space, wanted: Wanted, gap: Range, claimed: Sequence[Range]) -> Gap:
    """What nothing is said of: QEMU's listener may have been told of it, or of another place."""
    if not space.is_told and any(not layer.sections.gaps(gap) for layer in state.layers):
        return Gap(gap, "skipped")
    if gap == wanted.range and (old := _left_behind(space, wanted, claimed)) is not None:
        return Gap(gap, "moved", at=old)
    at_ends = gap.first == wanted.range.first or gap.last == wanted.range.last
    return Gap(gap, "wrong-size" if gap != wanted.range and at_ends else "hole")


def _left_behind(space: Space, wanted: Wanted, claimed: Sequence[Range]) -> Range | None:
    """A mapping of just that size, aligned as a BAR is, in the upper half of 4 GiB or above: RAM is seldom so."""
    nbytes = wanted.range.nbytes
    offset = wanted.range.first - wanted.whole.first
    size = wanted.whole.nbytes
    for entry in space.maps:
        first = entry.range.first - offset
        if entry.range.nbytes != nbytes or first < 1 << 31 or first % size:
            continue
        if not any(entry.range.overlap(one) for one in claimed):
            return entry.range
    return None


def refused(space: Space, wanted: Wanted, limits: Limits) -> Iterator[Gap]:
    """Maps that only were told of, where the kernel makes none: it refuses the whole of each (vfio_iommu_type1.c,
    vfio_iommu_iova_dma_valid)."""
    for entry in space.maps.within(wanted.range) if space.is_told else ():
        where = entry.range.overlap(wanted.range)
        if where is not None and (limited := _limited(Gap(where, "map-failed"), limits, ())).why != "map-failed":
            yield limited


def _limited(gap: Gap, limits: Limits, usual: Sequence[Range] = (AMD_RESERVED,)) -> Gap:
    """A reason that lies in the place itself is the better one."""
    if gap.emulated or gap.why == "disabled":
        return gap
    known = (*limits.reserved, *usual) if gap.why == "map-failed" else limits.reserved
    kept = next((one for one in known if one.overlap(gap.range)), None)
    if kept is not None:
        return Gap(gap.range, "reserved", gap.code, kept)
    if limits.width_bits is not None and gap.range.last >> limits.width_bits:
        return Gap(gap.range, "too-wide", gap.code)
    return gap
