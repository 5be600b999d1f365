"""A record in memory: its lines by kind and by test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from dmaproof.report.record import (
    AnyLine,
    DeviceLine,
    EvidenceLine,
    JudgementLine,
    MeasurementLine,
    RigLine,
    RunLine,
    TestLine,
    VerdictLine,
)


@dataclass(frozen=True)
class TestRecord:
    """All that a record holds of one test; ``test`` is None if the test did not come to its end."""

    __test__ = False
    id: str
    test: TestLine | None
    measurements: tuple[MeasurementLine, ...]
    evidence: tuple[EvidenceLine, ...]
    verdicts: tuple[VerdictLine, ...]
    devices: tuple[DeviceLine, ...]


@dataclass(frozen=True)
class Record:
    """A record as it was read. ``truncated``: its last line was cut. ``end`` None: the run did not come to its end."""

    path: Path
    start: RunLine
    end: RunLine | None
    rig: RigLine | None
    tests: tuple[TestLine, ...]
    measurements: tuple[MeasurementLine, ...]
    evidence: tuple[EvidenceLine, ...]
    verdicts: tuple[VerdictLine, ...]
    devices: tuple[DeviceLine, ...]
    truncated: bool
    judgements: tuple[JudgementLine, ...] = ()

    @property
    def whole(self) -> bool:
        return self.end is not None and not self.truncated

    @cached_property
    def by_test(self) -> Mapping[str, TestRecord]:
        """Test id to what is known of that test, in the order of the record."""
        parts: dict[str, dict[type, list[AnyLine]]] = {}
        for test in self.tests:
            parts.setdefault(test.id, {}).setdefault(TestLine, []).append(test)
        lines: tuple[_OfTest, ...] = (*self.measurements, *self.evidence, *self.verdicts, *self.devices)
        for line in lines:
            if line.test is not None:
                parts.setdefault(line.test, {}).setdefault(type(line), []).append(line)
        return {id_: _test_record(id_, kinds) for id_, kinds in parts.items()}


_OfTest = MeasurementLine | EvidenceLine | VerdictLine | DeviceLine
_L = TypeVar("_L", bound=AnyLine)


def of_kind(lines: Sequence[AnyLine], kind: type[_L]) -> tuple[_L, ...]:
    """Those of ``lines`` that are of ``kind``."""
    return tuple(line for line in lines if isinstance(line, kind))


def _test_record(id_: str, kinds: Mapping[type, Sequence[AnyLine]]) -> TestRecord:
    return TestRecord(
        id=id_,
        test=next(reversed(of_kind(kinds.get(TestLine, ()), TestLine)), None),
        measurements=of_kind(kinds.get(MeasurementLine, ()), MeasurementLine),
        evidence=of_kind(kinds.get(EvidenceLine, ()), EvidenceLine),
        verdicts=of_kind(kinds.get(VerdictLine, ()), VerdictLine),
        devices=of_kind(kinds.get(DeviceLine, ()), DeviceLine),
    )
