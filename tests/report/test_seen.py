"""Times of evidence, durations, and texts that are alike."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dmaproof.report.junit import system_out
from dmaproof.report.notes import lasted
from dmaproof.report.record import EvidenceLine, VerdictLine
from dmaproof.report.seen import Seen, seen
from dmaproof.report.stream import read
from dmaproof.report.text import alike, duration
from tests.report import records

RIG = records.hgx()


def line(text: str, time_s: float, **more: object) -> EvidenceLine:
    return EvidenceLine.model_validate(
        {"test": "t", "source": "kmsg", "node": "host", "time_s": time_s, "what": "xid", "text": text, **more}
    )


@pytest.mark.parametrize(
    ("after_s", "uncertainty_s", "said"),
    [
        (0.31, 0.0, "+0.310000 s"),
        (0.31, 0.0004, "+0.31000 s"),
        (0.31, 0.025, "+0.310 s ±0.025"),
        (1.23456, 1.8516, "+1.2 s ±1.9"),
        (70.4, 40.0, "+70 s ±40"),
        (1.0, float("inf"), "+1 s ±inf"),
        (None, 0.0, ""),
    ],
)
def test_no_digit_is_below_the_uncertainty(after_s: float | None, uncertainty_s: float, said: str) -> None:
    assert Seen("x", after_s, uncertainty_s).after() == said


def test_evidence_is_told_in_order_of_time_with_the_kernels_stamp() -> None:
    late, early = line("late", 12.5, uncertainty_s=0.02), line("early", 12.0, data={"kernel_s": 5851.151234})
    found = seen(("late", "unknown", "early"), (late, early, line("early", 13.0)))
    assert [one.text for one in found] == ["early", "late", "unknown"]
    assert [one.stamp for one in found] == ["[ 5851.151234]", "", ""]
    verdict = VerdictLine(
        test="t",
        signature="s",
        confidence="certain",
        summary="x",
        evidence=("late", "early"),
        blind_spots=(),
        remedy="",
    )
    told = system_out([verdict, late, early])
    assert told.endswith("  [+0.000000 s host kmsg] early\n  [+0.500 s ±0.020 host kmsg] late")


def test_texts_that_differ_in_quantities_are_one() -> None:
    found = alike(["lost 1 of 0xf0 lines", "other", "lost 23 of 0xa1 lines", "lost 23 of 0xa1 lines", "other"])
    assert [(one.text, one.more) for one in found] == [
        ("lost 1 of 0xf0 lines", " (and 1 like it)"),
        ("other", " (2 times)"),
    ]


def test_texts_about_different_devices_are_not_one() -> None:
    texts = ["gpu0 at 0000:04:00.0 is dark", "gpu1 at 0000:04:00.0 is dark", "gpu0 at 0000:82:00.0 is dark"]
    assert [one.text for one in alike(texts)] == texts


@pytest.mark.parametrize(
    ("seconds", "whole", "said"),
    [
        (0.0, False, "under 1 ms"),
        (0.0004, False, "under 1 ms"),
        (0.85, False, "850 ms"),
        (0.9998, False, "1.0 s"),
        (23.04, False, "23.0 s"),
        (23.0, True, "23 s"),
        (0.0, True, "under 1 s"),
        (59.97, False, "1 min 00 s"),
        (60.0, True, "1 min 00 s"),
        (7980, False, "2 h 13 min"),
    ],
)
def test_durations_are_as_fine_as_they_were_taken(seconds: float, whole: bool, said: str) -> None:
    assert duration(seconds, whole=whole) == said


@pytest.mark.parametrize(("timespec", "said"), [("seconds", "23 s"), ("milliseconds", "23.4 s")])
def test_a_run_lasted_as_its_stamps_say(tmp_path: Path, timespec: str, said: str) -> None:
    stamps = [(records.START + timedelta(seconds=seconds)).isoformat(timespec=timespec) for seconds in (0.0, 23.4)]
    units = [
        [one.model_copy(update={"time": stamp})]
        for one, stamp in zip((records.start(RIG), records.end(RIG)), stamps, strict=True)
    ]
    assert lasted(read(records.write(tmp_path / "record.jsonl", units))) == said
