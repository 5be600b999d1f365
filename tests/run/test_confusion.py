"""The confusion matrix: what counts as clean, which runs it is made of, and one small matrix for real."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dmaproof.rig.load import load
from dmaproof.virtual import plants
from fixtures.confusion.apart import are_apart
from fixtures.confusion.cell import Result, from_json
from fixtures.confusion.hidden import HIDDEN
from fixtures.confusion.kept import left
from fixtures.confusion.plan import Cell, Places, alone, together
from fixtures.confusion.table import bad, summary
from tests.support.harness import eventually, gone

ROOT = Path(__file__).parent.parent.parent
QUAD = "fixtures/confusion/rigs/pcie-quad.toml"


def result(planted: str, named: str, *, first: str | None = None, status: int = 1, seed: int = 0) -> Result:
    words = dict.fromkeys(named.split(), 2)
    return Result(
        Cell("virtual:x", tuple(planted.split()), seed),
        status,
        2,
        words if first is None else {first: 2},
        words,
        1.0,
    )


@pytest.mark.parametrize(
    ("one", "outcome"),
    [
        (result("", "", status=0), "clean"),
        (result("", "gpu-lost"), "wrong"),
        (result("", "", status=1), "wrong"),
        (result("gpu-lost", "gpu-lost"), "clean"),
        (result("gpu-lost", "gpu-lost unattributed"), "wrong"),
        (result("gpu-lost", "unattributed"), "wrong"),
        (result("gpu-lost", ""), "wrong"),
        (result("gpu-lost", "gpu-lost", first="bystander"), "wrong"),
        (result("gpu-lost", "gpu-lost", status=-1), "wrong"),
        (result("a b", "a b"), "clean"),
        (result("a b", "b"), "masked"),
        (result("a b", "a b c"), "wrong"),
        (result("a b", "b", status=-1), "masked"),
        (result("a b", "c", status=-1), "wrong"),
        (result("a b", "", status=-1), "wrong"),
        (result("a b", "b", status=-11), "wrong"),
    ],
)
def test_what_counts_as_clean(one: Result, outcome: str) -> None:
    assert one.outcome == outcome
    assert from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--jobs=0",), "--jobs=0: one run at a time is the least"),
        (("--plant=gpu-lots",), "--plant=gpu-lots: did you mean 'gpu-lost'?"),
        (("--rig=virtual:pcie-pear",), "unknown rig 'virtual:pcie-pear'"),
    ],
)
def test_what_no_matrix_can_be_made_of_is_refused_in_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "fixtures.confusion", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert said in ran.stderr.splitlines()[-1]


def test_a_pair_must_be_seen_whole_somewhere() -> None:
    masked, elsewhere = result("a b", "a"), result("a b", "a b", seed=1)
    assert bad([masked]) == [masked]
    assert bad([masked, elsewhere]) == []
    assert "1 of 1 pairs both named, in 2 runs" in summary([masked, elsewhere])


def test_a_pair_that_no_machine_shows_both_of_is_told_with_the_reason() -> None:
    one_of_two = result("ats-setup-failed ats-stage2-hole", "ats-setup-failed")
    assert bad([one_of_two]) == []
    assert "| ats-setup-failed + ats-stage2-hole | ats-setup-failed | without ATS" in summary([one_of_two])
    assert "0 of 0 pairs both named" in summary([one_of_two])
    both = result("ats-setup-failed ats-stage2-hole", "ats-setup-failed ats-stage2-hole")
    assert bad([both]) == [both], "then the reason is none"
    assert {one for pair in HIDDEN for one in pair} <= set(plants.ids())


def test_what_an_earlier_matrix_leaves_to_do() -> None:
    """A pair that was hidden goes on where it was; what was wrong is run again, but not by the same code."""
    places = tuple(Cell("virtual:x", ("a", "b"), seed) for seed in (2, 0, 1, 3))
    hidden = {seed: result("a b", "b", seed=seed) for seed in range(4)}

    def of(places: Places, *found: Result) -> Cell | None:
        return left(places, {one.cell: one for one in found}, commit="new")

    assert of(places) == places[0]
    assert of(places, hidden[0]) == places[0]
    assert of(places, hidden[0], hidden[2]) == places[2]
    assert of(places, *hidden.values()) is None
    assert of(places, hidden[2], result("a b", "a b", seed=3)) is None
    alone, wrong = Cell("virtual:x", ("a",), 3), result("a", "b", seed=3)
    assert of((alone,), replace(wrong, commit="old")) == alone
    assert of((alone,), replace(wrong, commit="new")) is None


def test_a_plant_stands_only_where_it_makes_sense() -> None:
    rigs = {word: load(word) for word in ("virtual:gh200", "virtual:pcie-pair")}
    cells = [cell for (cell,) in alone(rigs, ["ats-stage2-hole", "gpu-lost"], 3)]
    assert [one for one in cells if not one.planted] == [Cell(word, (), 0) for word in rigs]
    assert {one.rig for one in cells if one.planted == ("ats-stage2-hole",)} == {"virtual:gh200"}
    assert [one.seed for one in cells if one.planted == ("gpu-lost",)] == [0, 0, 1, 1, 2, 2]
    assert list(together(rigs, ["ats-stage2-hole", "gpu-lost"], 4)) == [], "no room for two on one or two GPUs"
    quad = {QUAD: load(str(ROOT / QUAD))}
    (places,) = together(quad, ["gpu-lost", "iommu-blocks-p2p-mailbox"], 4)
    assert [one.seed for one in places] == [0, 1, 2, 3], "the IOMMU is no GPU: any place does"
    assert places[0].words == ("gpu-lost@0", "iommu-blocks-p2p-mailbox@1000")


def test_two_plants_meet_in_one_place_last_of_all() -> None:
    quad = {QUAD: load(str(ROOT / QUAD))}
    (places,) = together(quad, ["driver-stuck", "gpu-lost"], 8)
    apart = [are_apart(quad[QUAD], one.words) for one in places]
    assert sorted(one.seed for one in places) == list(range(8))
    assert apart == sorted(apart, reverse=True)
    assert set(apart) == {True, False}
    assert not are_apart(quad[QUAD], ("driver-stuck", "gpu-lost")), "without a seed both take the last"
    assert not are_apart(quad[QUAD], ("iommu-blocks-peer-bar", "peer-mirror")), "and these every window"


def test_a_matrix_is_run_kept_and_gone_on_with(tmp_path: Path) -> None:
    kept, table = tmp_path / "kept.jsonl", tmp_path / "table.md"
    command = [
        *(sys.executable, "-m", "fixtures.confusion", "--rig=virtual:gh200", "--plant=gpu-lost", "--seeds=2"),
        *("--pair-seeds=0", f"--keep={kept}", f"--table={table}", "--jobs=1"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + kept.read_text()
    lines = kept.read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["clean"] * 3
    assert "| gpu-lost | 2/2 |" in table.read_text()
    kept.write_text("\n".join(lines[:2]) + "\n")
    again = subprocess.run([*command, "--go-on"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert kept.read_text().splitlines()[:2] == lines[:2]
    assert len(kept.read_text().splitlines()) == 3


def test_what_speaks_against_triage_can_be_read_afterwards(tmp_path: Path) -> None:
    """A run that is cut off, for one."""
    wrong = tmp_path / "wrong"
    command = [
        *(sys.executable, "-m", "fixtures.confusion", "--rig=virtual:gh200", "--plant=gpu-lost", "--seeds=0"),
        *("--pair-seeds=0", f"--keep={tmp_path / 'kept'}", f"--table={tmp_path / 'table'}", f"--wrong={wrong}"),
    ]
    done = subprocess.run([*command, "--timeout=1"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"1 runs, 1 speak against triage: {tmp_path / 'table'}; what those of now said is in {wrong}" in " ".join(
        done.stdout.split()
    )
    assert (wrong / "virtual-gh200-healthy-0" / "output").exists()


def test_runs_end_with_the_matrix_that_began_them(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "fixtures.confusion", "--rig=virtual:pcie-pair", "--plant=gpu-lost", "--seeds=1"),
        *(f"--keep={tmp_path / 'kept.jsonl'}", f"--table={tmp_path / 'table.md'}", f"--wrong={tmp_path / 'wrong'}"),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as matrix:
        assert eventually(lambda: bool(_forks(matrix.pid)), 60)
        runs = _forks(matrix.pid)
        matrix.kill()
    assert all(eventually(partial(gone, pid), 10) for pid in runs)


def _forks(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    name = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [int(one) for one in children if Path(f"/proc/{one}/cmdline").read_bytes() == name]
