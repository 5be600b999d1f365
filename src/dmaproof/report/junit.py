"""What JUnit says of a test: (name, value) properties and the system-out text, from the test's lines and its rig."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from dmaproof.report.record import AnyLine, EvidenceLine, JudgementLine, MeasurementLine, TestLine, VerdictLine
from dmaproof.report.seen import Seen, seen
from dmaproof.report.text import alike, printable
from dmaproof.rig.model import Node, Rig

Property = tuple[str, str]
_UNIT_WORDS = {"GB/s": "GBps", "MB/s": "MBps", "µs": "us", "%": "percent"}


def properties(lines: Sequence[AnyLine], rig: Rig) -> list[Property]:
    """``rig``, ``rig_kind``, ``node``, ``mode``, ``endpoints``, each measurement's median, the verdict, and judgements.

    ``lines`` are the lines of one test. A measurement is called by its name with the unit in it
    (``bandwidth_GBps``); where a test has several of one name, by what tells them apart as well
    (``bandwidth_GBps.gpu0-gpu1.peer-off``).
    """
    found: list[Property] = [("rig", rig.id), ("rig_kind", rig.kind)]
    for test in (line for line in lines if isinstance(line, TestLine)):
        node = rig.node.get(test.node)
        found += [("node", test.node)] if test.node else []
        found += [("mode", mode(node))] if node else []
        found += [("endpoints", " ".join(test.endpoints))] if test.endpoints else []
    found += _measured([line for line in lines if isinstance(line, MeasurementLine)])
    for verdict in (line for line in lines if isinstance(line, VerdictLine)):
        found += [("verdict", verdict.signature), ("verdict_confidence", verdict.confidence)]
    found += judgements([line for line in lines if isinstance(line, JudgementLine)])
    return [(name, printable(value)) for name, value in found]


def judgements(lines: Sequence[JudgementLine]) -> list[Property]:
    """Figures that are not as they should be: of a test, or at the end of all of the run."""
    return [("judgement", printable(f"{line.reason}: {line.text}")) for line in lines if line.standing != "fine"]


def mode(node: Node) -> str:
    """How ``node`` is set up to reach memory: ``role/IOMMU family/domain type/addressing``."""
    return f"{node.role}/{node.iommu.family}/{node.iommu.domain}/{node.addressing}"


def _measured(lines: Sequence[MeasurementLine]) -> Iterator[Property]:
    often = Counter(with_unit(line.name, line.unit) for line in lines)
    parts = [_parts(line) for line in lines]
    for line, own in zip(lines, parts, strict=True):
        name = with_unit(line.name, line.unit)
        if often[name] > 1:
            peers = [other for one, other in zip(lines, parts, strict=True) if one.name == line.name]
            differing = [part for at, part in enumerate(own) if part and len({other[at] for other in peers}) > 1]
            name = ".".join([name, *differing])
        yield re.sub(r"[^A-Za-z0-9_.:-]", "-", name), f"{line.median:.6g}"


def _parts(line: MeasurementLine) -> tuple[str, ...]:
    """What tells measurements of one name apart; a part is empty where it does not apply."""
    return (
        line.node,
        f"{line.source or 'any'}-{line.target or 'any'}" if line.source or line.target else "",
        line.path or "",
        {True: "peer-on", False: "peer-off", None: ""}[line.peer],
        {"one": "one-way", "both": "both-ways", None: ""}[line.direction],
        line.method,
    )


def with_unit(name: str, unit: str) -> str:
    """``name`` with ``unit`` at its end, spelt as a name can: ``bandwidth`` in ``GB/s`` is ``bandwidth_GBps``."""
    word = _UNIT_WORDS.get(unit, re.sub(r"\W", "", unit.replace("/", "p")))
    return name if not word or word == "1" or name.endswith(f"_{word}") else f"{name}_{word}"


def system_out(lines: Sequence[AnyLine]) -> str:
    """The verdicts of a test for a person who reads JUnit: cause, evidence, blind spots, remedy. Empty without any."""
    evidence = [line for line in lines if isinstance(line, EvidenceLine)]
    return "\n\n".join(_verdict(line, evidence) for line in lines if isinstance(line, VerdictLine))


def _verdict(verdict: VerdictLine, evidence: Sequence[EvidenceLine]) -> str:
    said = [f"verdict: {verdict.signature} ({verdict.confidence})", f"  {verdict.summary}"]
    said += _listed("evidence", [_timed(one) for one in seen(verdict.evidence, evidence)])
    said += _listed("blind spots", [one.text + one.more for one in alike(verdict.blind_spots)])
    said += _listed("remedy", [verdict.remedy] if verdict.remedy else [])
    said += _listed("references", verdict.references)
    return printable("\n".join(said))


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"  {text.replace(chr(10), chr(10) + '  ')}" for text in texts)] if texts else []


def _timed(one: Seen) -> str:
    """The text with its time since the test's first evidence and with its source, where the record knows them."""
    return f"[{one.after()} {one.node} {one.source}] {one.text}" if one.after() else one.text
