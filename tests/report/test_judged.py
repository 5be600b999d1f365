"""Judgements in the record and in what is made of it, and baselines on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from dmaproof.errors import UsageError
from dmaproof.report import baselines, judged, junit, stream
from dmaproof.report.html import render
from dmaproof.report.loaded import Record
from dmaproof.report.record import AnyLine, JudgementLine, MeasurementLine
from dmaproof.report.summary import print_summary
from dmaproof.triage.expectation import baseline
from dmaproof.triage.expectation.baseline import Setting
from dmaproof.triage.expectation.figure import Figure, Trained
from tests.report import records
from tests.triage.expectation import figures

RIG = records.hgx()
NODE = RIG.first


def line_of(one: Figure) -> MeasurementLine:
    return MeasurementLine(
        test=one.test, node=one.node, name=one.name, unit=one.unit, median=one.value, spread=0.0,
        count=len(one.samples), samples=one.samples, method=one.method, source=one.source, target=one.target,
        path=one.engine, peer=one.peer, direction="one", nbytes=one.nbytes, trained=dict(one.trained),
    )  # fmt: skip


def matrix() -> list[Figure]:
    """One slow pair among 56."""
    every = figures.matrix(NODE)
    return [figures.figure("gpu2", "gpu5", 198.0) if one.ends == ("gpu2", "gpu5") else one for one in every]


def record(tmp_path: Path, *judgements: JudgementLine, ended: bool = True) -> Record:
    units: list[list[AnyLine]] = [[records.start(RIG)]]
    units[0].append(records.RigLine(declared=RIG.model_dump(mode="json", exclude_none=True)))
    units += [[line_of(one), records.passed(one.test, RIG, *one.ends)] for one in matrix()]
    units += [list(judgements)] if judgements else []
    units += [[records.end(RIG, exit_status=1)]] if ended else []
    return stream.read(records.write(tmp_path / "record.jsonl", units))


def lines() -> list[JudgementLine]:
    return [judged.line(one) for one in judged.among_peers(RIG, matrix())]


def test_a_judgement_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert list(record(tmp_path, *lines()).judgements) == lines()


def test_the_links_of_a_figure_are_read_as_they_were_written(tmp_path: Path) -> None:
    seen = Trained(5, 4, 5, 16)
    path = records.write(
        tmp_path / "record.jsonl", [[records.start(RIG)], [line_of(figures.host_copy("gpu0", 13.0, seen))]]
    )
    (figure,) = judged.figures(stream.read(path))
    assert figure.trained == {"gpu0": seen}


def test_a_run_that_ended_is_not_judged_again(tmp_path: Path) -> None:
    assert judged.of_record(record(tmp_path)) == []


def test_a_run_cut_short_is_judged_by_its_reader(tmp_path: Path) -> None:
    found = judged.of_record(record(tmp_path, ended=False))
    assert [(one.source, one.target) for one in found] == [("gpu2", "gpu5")]
    assert judged.failing(found) == found


def test_the_page_and_the_summary_tell_the_slow_pair(tmp_path: Path) -> None:
    run = record(tmp_path, *lines())
    page = render(run)
    section = page[page.index('<h2 id="judged">') : page.index('<h2 id="p2p">')]
    assert "gpu2 to gpu5 by ce: 198 GB/s" in section
    assert ">50%<" in section
    console = Console(width=200, record=True)
    with console.capture() as said:
        print_summary(run, console)
    assert "1 figure is not as they should be" not in said.get()
    assert "1 figure is not as it should be" in said.get()
    assert "gpu2 to gpu5 by ce: 198 GB/s" in said.get()


def test_junit_has_what_is_not_fine() -> None:
    assert [name for name, _ in junit.judgements(lines())] == ["judgement"]
    fine = [one.model_copy(update={"standing": "fine"}) for one in lines()]
    assert junit.judgements(fine) == []


def test_baselines_are_kept_by_key(tmp_path: Path) -> None:
    setting = Setting("host", "595.45.04")

    def made(value: float, *, engine: str) -> list[baseline.Entry]:
        found = [figures.figure("gpu0", f"gpu{at}", value, engine=engine) for at in range(1, 8)]
        return baseline.entries(NODE, found, setting, "2026-11-22T04:00:00+00:00", {"driver": "595.45.04"})

    (file,) = baselines.update(tmp_path / "new", [*made(397.0, engine="ce"), *made(350.0, engine="sm")])
    assert file.name == "NVIDIA-H100-80GB-HBM3-595-host.json"
    assert baselines.update(tmp_path / "new", made(390.0, engine="ce")) == [file]
    assert {one.engine: entry.median for one, entry in baselines.read(tmp_path / "new").items()} == {
        "ce": 390.0,
        "sm": 350.0,
    }
    assert baselines.read(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no baseline"),
        ('{"format": 1}', "entries: Field required"),
        ('{"format": 2, "entries": []}', "format 2"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(UsageError, match=why):
        baselines.read(tmp_path)
