"""A number that is raised for a while, with real files: what comes back, and what is left as it was found."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from dmaproof.vfio.bind import kept_journal, raised
from dmaproof.vfio.journal import Raised
from dmaproof.vfio.restore import replay
from tests.support.harness import line, program

KILLED = """
    import time
    from pathlib import Path
    from dmaproof.vfio.bind import kept_journal, raised
    with kept_journal(Path({folder!r})) as ours:
        print(raised(ours, Path({file!r}), 512), flush=True)
        time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bindings"


@pytest.fixture
def number(tmp_path: Path) -> Path:
    path = tmp_path / "nr_hugepages"
    path.write_text("3\n")
    return path


def test_it_is_raised_and_comes_back(folder: Path, number: Path) -> None:
    with kept_journal(folder) as ours:
        assert raised(ours, number, 512) == 512
        assert number.read_text() == "512\n"
    assert number.read_text() == "3\n"
    assert list(folder.glob("*.jsonl")) == []


@pytest.mark.parametrize("enough", [3, 2])
def test_what_is_enough_is_not_touched(folder: Path, number: Path, enough: int) -> None:
    number.chmod(0o400)
    with kept_journal(folder) as ours:
        assert raised(ours, number, enough) == 3
        assert ours.entries == []


def test_a_killed_process_is_followed_by_a_start_that_lowers_it(folder: Path, number: Path) -> None:
    with program(KILLED.format(folder=str(folder), file=str(number))) as process:
        assert line(process) == "512"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert replay(folder) == (Raised(str(number), 3, 509),)
    assert number.read_text() == "3\n"


@pytest.mark.parametrize(
    ("found", "left"),
    [("200", "3\n"), ("4", "3\n"), ("3", "3"), ("513", "513"), ("0", "0")],
    ids=["part of the way", "one more", "never", "raised further by another", "lowered by another"],
)
def test_only_what_lies_on_the_way_is_put_back(folder: Path, number: Path, found: str, left: str) -> None:
    with kept_journal(folder) as ours:
        raised(ours, number, 512)
        number.write_text(found)
    assert number.read_text() == left


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_of_several_the_last_to_end_leaves_what_the_first_found(
    folder: Path, number: Path, order: tuple[int, ...]
) -> None:
    runs, by = [ExitStack() for _ in order], [100, 20, 7]
    for run, more in zip(runs, by, strict=True):
        ours = run.enter_context(kept_journal(folder))
        raised(ours, number, int(number.read_text()) + more)
    left = 3 + sum(by)
    assert number.read_text() == f"{left}\n"
    for one in order:
        runs[one].close()
        left -= by[one]
        assert number.read_text() == f"{left}\n", "what the others have raised it by is theirs"
    assert list(folder.glob("*.jsonl")) == []


def test_of_a_killed_one_only_its_own_is_taken_back(folder: Path, number: Path) -> None:
    with program(KILLED.format(folder=str(folder), file=str(number))) as process:
        assert line(process) == "512"
        with kept_journal(folder) as ours:
            raised(ours, number, 600)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            assert replay(folder) == (Raised(str(number), 3, 509),)
            assert number.read_text() == "91\n", "3, and the 88 of the one that lives"
    assert number.read_text() == "3\n"
