"""Every lab profile in a run of its own: which runs count, and which are made again."""

from __future__ import annotations

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


def ran(folder: Path, *hows: str) -> LabRun:
    """A run, failed where guests came to an end in it: ``hows``, as dmaproof.guest.fate has it."""
    rig, file = load(RIG), folder / f"{'-'.join(hows) or 'none'}.jsonl"
    file.unlink(missing_ok=True)
    lost = [
        EvidenceLine(test="t", source="qemu", node="one", time_s=1.0, what="node-lost", text=how, data={"how": how})
        for how in hows
    ]
    writer = RecordWriter(file)
    writer.write([start(rig), *lost, end(rig, exit_status=int(bool(hows)))])
    writer.close()
    return LabRun(RIG, int(bool(hows)), 1.0, "said", stream.read(file))


@pytest.mark.parametrize(
    ("ended", "tries", "as_it_should"),
    [
        pytest.param([()], 1, True, id="passed"),
        pytest.param([("runs",), ()], 2, True, id="silent once"),
        pytest.param([("runs",), ("runs",), ("runs",), ()], 3, False, id="silent always"),
        pytest.param([("panicked",), ()], 1, False, id="a panic counts"),
        pytest.param([("was killed",), ()], 1, False, id="a QEMU that ends counts"),
    ],
)
def test_only_a_guest_that_falls_silent_is_tried_again(
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
    assert (done.tries, done.as_it_should, done.silenced) == (1, True, ())
