"""docs/record.md says what the record's classes say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.report.schema import LINES, fields_markdown, main, updated
from dmaproof.report.stream import read

DOCUMENT = Path(__file__).parents[2] / "docs/record.md"


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text()
    assert updated(text) == text, "run: python -m dmaproof.report.schema docs/record.md"


def test_every_field_has_a_meaning() -> None:
    bare = [
        (line.__name__, name) for line in LINES for name, field in line.model_fields.items() if not field.description
    ]
    assert bare == [(line.__name__, "kind") for line in LINES]


def test_every_field_is_in_the_tables() -> None:
    sections = fields_markdown().split("### ")[1:]
    for line, section in zip(LINES, sections, strict=True):
        shown = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert shown == [field.alias or name for name, field in line.model_fields.items() if name != "kind"]


def test_the_example_is_a_record(tmp_path: Path) -> None:
    example = DOCUMENT.read_text().split("```json\n")[1].split("```")[0]
    (tmp_path / "record.jsonl").write_text(example)
    record = read(tmp_path)
    assert record.whole
    assert len(record.tests) == len(record.measurements) == 1


def test_the_command_updates_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.md"
    text = DOCUMENT.read_text()
    path.write_text(re.sub(r"\| `exit_status`.*\n", "", text))
    assert main([str(path)]) == 0
    assert path.read_text() == text
    assert main([]) == 0
    assert capsys.readouterr().out == fields_markdown() + "\n"


def test_a_document_without_markers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="put them where the fields belong"):
        updated("# nothing")
    assert main([str(tmp_path / "missing.md")]) == 2
    assert "cannot update" in capsys.readouterr().err
