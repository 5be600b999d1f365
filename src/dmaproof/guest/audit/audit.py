"""The audit: all of a guest's device memory that ought to be in stage 2, against what a trace says is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dmaproof.guest.audit import blind, parts
from dmaproof.guest.audit.bars import Function, of_trace
from dmaproof.guest.audit.finding import Audit, Finding, LeftOut, Why
from dmaproof.guest.audit.gaps import Limits, Space, gaps_in, read_only, refused, spaces
from dmaproof.guest.audit.pairing import Pairing, paired
from dmaproof.guest.audit.parts import Wanted
from dmaproof.guest.audit.table import Range, Table, joined, less
from dmaproof.guest.audit.trace import Trace


@dataclass(frozen=True, slots=True)
class Declared:
    """Device memory that no BAR shows, such as a CXL device's HDM range: ``host`` is its function, where known."""

    name: str
    range: Range
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known besides the trace. ``functions`` are the guest's (dmaproof.guest.audit.bars), None where nobody
    asked QEMU: then they are the trace's own. ``hosts`` says which host function each is, for those that are known.
    ``tables`` are the IOMMU's own (dmaproof.guest.audit.tables), taken when the trace ended."""

    functions: Sequence[Function] | None = None
    hosts: dict[str, str] = field(default_factory=dict)
    declared: Sequence[Declared] = ()
    limits: Limits = field(default_factory=Limits)
    tables: Sequence[Table] = ()


def audit(trace: Trace, asked: Asked | None = None) -> Audit:
    """Compare the state that ``trace`` ends with to what ought to be mapped."""
    asked = asked or Asked()
    functions = of_trace(trace.state) if asked.functions is None else tuple(asked.functions)
    pairing = paired(trace.state, functions, asked.hosts)
    wanted, left_out, findings = _wanted(trace, functions, pairing, asked)
    never = [(one.device, one.range) for one in findings if one.range is not None]
    tables = spaces(trace.state, asked.tables)
    if not trace.state.translated:
        claimed = [one.range for one in wanted]
        for space in tables:
            for one in wanted:
                found, legitimate = _judged(trace, space, one, asked.limits, claimed)
                findings += found
                left_out += legitimate
    findings += _of_trace_alone(trace, tables, findings, wanted, functions)
    return Audit(
        backend="iommufd" if trace.state.ioases else "type1",
        findings=tuple(sorted(dict.fromkeys(findings), key=_place)),
        left_out=tuple(dict.fromkeys(left_out)),
        blind_spots=blind.spots(trace, functions, pairing, wanted, asked.limits, bool(asked.tables)),
        judged=(*(() if trace.state.translated else ((one.finding.device, one.range) for one in wanted)), *never),
    )


def _wanted(
    trace: Trace, functions: Sequence[Function], pairing: Pairing, asked: Asked
) -> tuple[list[Wanted], list[LeftOut], list[Finding]]:
    wanted: list[Wanted] = []
    left_out: list[LeftOut] = []
    findings: list[Finding] = []
    for function in functions:
        if function.guest not in pairing.hosts:
            continue
        for bar in function.bars:
            ought = parts.of_bar(trace, bar, pairing)
            wanted += ought.wanted
            left_out += ought.left_out
            findings += ought.findings
    for one in asked.declared:
        finding = Finding(why="hole", name=one.name, host=one.host, range=one.range)
        wanted.append(Wanted(one.range, one.range, finding))
    return wanted, left_out, findings


def _judged(
    trace: Trace, space: Space, one: Wanted, limits: Limits, claimed: Sequence[Range]
) -> tuple[list[Finding], list[LeftOut]]:
    found = [replace(one.finding, why="read-only", range=where) for where in read_only(space, one.range)]
    found += [replace(one.finding, why=gap.why, range=gap.range, at=gap.at) for gap in refused(space, one, limits)]
    left_out = []
    for gap in gaps_in(trace.state, space, one, limits, claimed):
        if gap.emulated:
            left_out.append(LeftOut(one.finding.device, gap.range, "QEMU answers these pages itself"))
        else:
            found.append(replace(one.finding, why=gap.why, range=gap.range, code=gap.code, at=gap.at))
    return found, left_out


def _of_trace_alone(
    trace: Trace,
    tables: Sequence[Space],
    findings: Sequence[Finding],
    wanted: Sequence[Wanted],
    functions: Sequence[Function],
) -> Iterator[Finding]:
    """What needs no address of a BAR to be seen; not what is told already, by a range that holds it."""
    told = [*(one.whole for one in wanted), *(one.range for one in findings if one.range is not None)]
    known = joined(told)
    judged = {(one.finding.host, one.finding.bar) for one in wanted} | {(one.host, one.bar) for one in findings}
    for finding in _loose(trace, tables, functions):
        if finding.range is None:
            if (finding.host, finding.bar) not in judged:
                yield finding
        else:
            for left in less(finding.range, known):
                yield replace(finding, range=left)


def _loose(trace: Trace, tables: Sequence[Space], functions: Sequence[Function]) -> Iterator[Finding]:
    state = trace.state
    for space in tables:
        for entry in space.failed:
            if entry.range.nbytes < parts.PAGE_NBYTES:
                continue
            host, bar = parts.named(state, entry)
            why: Why = "skipped" if space.is_told and entry.code is None else "map-failed"
            yield Finding(why=why, host=host, bar=bar, range=entry.range, code=parts.errno_of(entry))
        yield from _told_only(trace, space)
    if not any(one.whole for one in functions):
        yield from parts.never_mapped(trace)


def _told_only(trace: Trace, space: Space) -> Iterator[Finding]:
    """Sections that the listener was told of, with no map call after it: what it did return before mapping."""
    if space.is_told:
        return
    for layer in trace.state.layers:
        for section in layer.sections:
            for gap in space.maps.gaps(section.range):
                for left in space.failed.gaps(gap):
                    host, bar = parts.by_size(trace.state, section.range.nbytes)
                    yield Finding(why="skipped", host=host, bar=bar, range=left)


def _place(finding: Finding) -> tuple[str, int, int]:
    return finding.device, finding.bar or 0, finding.range.first if finding.range is not None else -1


def overlapping(findings: Iterable[Finding], where: Range) -> list[Finding]:
    """The findings that ``where`` touches: a fault's page, or a DMA's target."""
    return [one for one in findings if one.range is not None and one.range.overlap(where) is not None]
