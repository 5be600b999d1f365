"""The record on disk: units whole or absent, cut records read, everything else refused in one line."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import ReportError
from dmaproof.report.record import LINE, EvidenceLine, MeasurementLine, TestLine
from dmaproof.report.stream import RecordWriter, encode, read
from tests.report import records

RIG = records.hgx()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    units = records.healthy(RIG)
    record = read(records.write(tmp_path / "record.jsonl", units))
    lines = [line for unit in units for line in unit]
    assert record.start == lines[0]
    assert record.end == lines[-1]
    assert record.measurements == tuple(line for line in lines if isinstance(line, MeasurementLine))
    assert record.tests == tuple(line for line in lines if isinstance(line, TestLine))
    assert record.whole


def test_ctrl_c_at_any_moment_leaves_whole_units(tmp_path: Path) -> None:
    """The interruptions are real signals, at moments spread over a write; the short unit after it would show a rest."""
    long, short = (records.end(RIG).model_copy(update={"note": note}) for note in ("x" * 5000, ""))
    came_late = 0
    with interruptions(step_s=1e-5) as at_most_one:
        for at in range(300):
            with RecordWriter(tmp_path / f"{at}") as writer:
                writer.write([records.opening(RIG)[0]])
                returned = False
                with suppress(KeyboardInterrupt), at_most_one():
                    writer.write([long])
                    returned = True
                writer.write([short])
            _, *after = (LINE.validate_json(line) for line in (tmp_path / f"{at}").read_bytes().splitlines())
            assert after in ([long, short], [short])
            assert len(after) == 2 or not returned
            came_late += len(after) == 2 and not returned
    assert came_late  # else no interruption came into a write


@contextmanager
def interruptions(step_s: float) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Within what this gives, KeyboardInterrupt is raised by a timer's signal: each time ``step_s`` later, to 100."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    after = itertools.cycle(step_s * step for step in range(1, 101))

    @contextmanager
    def once() -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, next(after))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    try:
        yield once
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_run_folder_is_as_good_as_its_record(tmp_path: Path) -> None:
    records.write(tmp_path / "record.jsonl", records.healthy(RIG))
    assert read(tmp_path) == read(tmp_path / "record.jsonl")


def test_by_test_finds_all_of_one_test(tmp_path: Path) -> None:
    record = read(records.write(tmp_path / "r", records.failing(RIG)))
    one = record.by_test["suites/p2p/test_bandwidth.py::test_peer_copy_bandwidth[host-gpu6-gpu0-ce-on-one]"]
    assert one.test is not None
    assert one.test.outcome == "failed"
    assert [line.what for line in one.evidence] == ["kernel-line", "iommu-fault", "hang"]
    assert [line.signature for line in one.verdicts] == ["iommu-blocks-p2p-mailbox"]
    assert [line.state for line in one.devices] == ["fit"]
    assert one.measurements == ()


def test_hostile_text_is_kept_readable(tmp_path: Path) -> None:
    record = read(records.write(tmp_path / "r", records.hostile(RIG)))
    line = record.by_test[record.tests[0].id].evidence[0]
    assert "</script><b>" in line.text
    assert "\\udcff" in line.text  # a byte that was not UTF-8, written out
    assert line.time_s == math.inf
    assert math.isnan(record.measurements[0].median)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@given(text=st.text(st.characters()), data=st.dictionaries(st.text(st.characters()), values, max_size=4))
def test_any_evidence_makes_one_line_that_reads_back(text: str, data: dict[str, object]) -> None:
    line = EvidenceLine(test=None, source="s", node="n", time_s=0, what="w", text=text, data=data)
    encoded = encode(line)
    assert encoded.count(b"\n") == 1
    assert encoded.endswith(b"\n")
    back = LINE.validate_json(encoded)
    assert isinstance(back, EvidenceLine)
    assert back.text == text.encode("utf-8", "backslashreplace").decode()
    assert len(back.data) <= len(data)


def test_cut_anywhere_a_record_still_reads(tmp_path: Path) -> None:
    path = records.write(tmp_path / "r", [records.opening(RIG), *records.failing(RIG)[1:4]])
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for length in range(first, len(data), 37):
        path.write_bytes(data[:length])
        record = read(path)
        assert record.truncated == (data[length - 1 : length] != b"\n")
        assert record.end is None
        assert not record.whole


def test_a_cut_line_is_cut_off_when_writing_goes_on(tmp_path: Path) -> None:
    path = records.write(tmp_path / "r", [records.opening(RIG)])
    with path.open("ab") as file:
        file.write(b'{"kind":"test","id":"half' + b"x" * 70000)
    assert read(path).truncated
    with RecordWriter(path) as writer:
        writer.write([records.end(RIG)])
    assert read(path).whole


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello\n", "is not JSON"),
        (b"\xff\xfe\x00\n", "is not JSON"),
        (b"[1]\n", "does not begin with a run line"),
        (b'{"kind":"test"}\n', "does not begin with a run line"),
        (b'{"kind":"run","event":"start"}\n', "does not begin with a run line"),
        (
            b'{"kind":"run","schema":99,"dmaproof":"9.9"}\n',
            "schema 99, and this dmaproof reads schema 1: read it with dmaproof 9.9",
        ),
        (b'{"kind":"run","event":"st', "cut short in its first line"),
    ],
)
def test_no_record_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(junk=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "junk"
    path.write_bytes(encode(records.start(RIG)) + junk)
    refused = None
    try:
        record = read(path)
    except ReportError as error:
        refused = str(error)
    if refused is not None:
        assert "\n" not in refused
    else:
        assert record.truncated == (junk.rpartition(b"\n")[2] != b"")


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = records.write(tmp_path / "r", [records.opening(RIG)])
    with path.open("a") as file:
        file.write(json.dumps({"kind": "test", "id": "x", "outcome": "lovely", "duration_s": 1}) + "\n")
    with pytest.raises(ReportError, match=r"line 4: test\.outcome: Input should be"):
        read(path)


def test_two_runs_in_one_record_are_refused(tmp_path: Path) -> None:
    path = records.write(tmp_path / "r", [records.opening(RIG), records.opening(RIG)])
    with pytest.raises(ReportError, match="not the record of one run"):
        read(path)


def test_a_missing_record_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"No such file or directory; give a run folder or its record\.jsonl"):
        read(tmp_path)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"cannot write the record .*No such file or directory; check that the path"):
        RecordWriter(tmp_path / "nowhere" / "r")


def test_a_killed_writer_leaves_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "r"
    script = f"""
        import os, signal, sys
        from pathlib import Path
        from dmaproof.report.stream import RecordWriter
        from tests.report import records
        writer = RecordWriter(Path({str(path)!r}))
        for unit in records.failing(records.hgx())[:5]:
            writer.write(unit)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    record = read(path)
    assert len(record.tests) == 4
    assert not record.truncated
    assert record.end is None
