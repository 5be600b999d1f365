"""Every lab profile in a run of its own: which runs count, and which are made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dmaproof.report import stream
from dmaproof.report.record import EvidenceLine
from dmaproof.report.stream import RecordWriter
from dmaproof.rig.load import load
from fixtures.labs import runs
from fixtures.labs.runs import LabRun
from tests.report.records import end, start

RIG = "lab:guests"


def ran(folder: Path, *hows: str, name: str = RIG) -> LabRun:
    """A run, failed where nodes came to an end in it: ``hows``, as dmaproof.guest.fate has it."""
    rig, file = load(name), folder / f"{'-'.join(hows) or 'none'}.jsonl"
    file.unlink(missing_ok=True)
    lost = [
        EvidenceLine(test="t", source="qemu", node="one", time_s=1.0, what="node-lost", text=how, data={"how": how})
        for how in hows
    ]
    writer = RecordWriter(file)
    writer.write([start(rig), *lost, end(rig, exit_status=int(bool(hows)))])
    writer.close()
    return LabRun(name, int(bool(hows)), 1.0, "said", stream.read(file))


@pytest.mark.parametrize(
    ("ended", "tries", "as_it_should"),
    [
        pytest.param([()], 1, True, id="passed"),
        pytest.param([("runs",), ()], 2, True, id="silent once"),
        pytest.param([("runs",), ("runs",), ("runs",), ()], 3, False, id="silent always"),
        pytest.param([("panicked",), ("was killed",), ()], 3, True, id="a double fault, an end"),
    ],
)
def test_a_run_that_loses_a_guest_is_made_again(
    ended: list[tuple[str, ...]], tries: int, as_it_should: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter([ran(tmp_path, *hows) for hows in ended])
    monkeypatch.setattr(runs, "_run", lambda *_: next(made))
    done = runs.run(RIG, 1.0)
    assert (done.tries, done.as_it_should) == (tries, as_it_should)


def test_a_run_without_a_record_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([LabRun(RIG, 2, 1.0, "no kernel yet: run `dmaproof lab kernel`", None)])
    monkeypatch.setattr(runs, "_run", lambda *_: next(made))
    done = runs.run(RIG, 1.0)
    assert (done.tries, done.as_it_should, done.lost_by_emulation) == (1, True, False)


@pytest.mark.parametrize(("name", "tries", "as_it_should"), [(RIG, 2, True), ("lab:vtd", 1, False)])
def test_a_run_that_a_guest_keeps_from_its_end_is_made_again(
    name: str, tries: int, as_it_should: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without guests is not: there nothing but the run itself can have hung."""
    made = iter([LabRun(name, -1, 1.0, "the run did not end within 1 s", None), ran(tmp_path, name=name)])
    monkeypatch.setattr(runs, "_run", lambda *_: next(made))
    done = runs.run(name, 1.0)
    assert (done.tries, done.as_it_should) == (tries, as_it_should)


@pytest.mark.parametrize(("name", "hows"), [("lab:vtd", ("runs",)), (RIG, ())])
def test_any_other_failure_counts_at_once(
    name: str, hows: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without guests under it that is lost, and a run with guests that fails while all of them live."""
    failed = replace(ran(tmp_path, *hows, name=name), status=1)
    made = iter([failed])
    monkeypatch.setattr(runs, "_run", lambda *_: next(made))
    done = runs.run(name, 1.0)
    assert (done.tries, done.as_it_should) == (1, False)
