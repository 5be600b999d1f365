"""The fields of a record as tables: ``python -m dmaproof.report.schema FILE.md`` makes those of a file anew."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from dmaproof.errors import ReportError, UsageError
from dmaproof.report.files import failure, write_atomically
from dmaproof.report.record import (
    DeviceLine,
    EvidenceLine,
    JudgementLine,
    Line,
    MeasurementLine,
    RigLine,
    RunLine,
    TestLine,
    VerdictLine,
)

LINES: tuple[type[Line], ...] = (
    RunLine,
    RigLine,
    MeasurementLine,
    JudgementLine,
    EvidenceLine,
    VerdictLine,
    DeviceLine,
    TestLine,
)
BEGIN = "<!-- fields: made by python -m dmaproof.report.schema -->"
END = "<!-- end of fields -->"
_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def fields_markdown() -> str:
    """A section with a table of fields for each kind of line, in the order of a record."""
    return "\n\n".join(_section(line) for line in LINES)


def updated(document: str) -> str:
    """``document`` with what stands between its markers made anew; raises UsageError without markers."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"the document has no lines {BEGIN!r} and {END!r}: put them where the fields belong")
    return f"{head}{BEGIN}\n\n{fields_markdown()}\n\n{END}{tail}"


def _section(line: type[Line]) -> str:
    kind = line.model_fields["kind"].default
    head = ["| field | JSON | default | meaning |", "| --- | --- | --- | --- |"]
    rows = [_row(name, field) for name, field in line.model_fields.items() if name != "kind"]
    return "\n".join([f"### `{kind}`", "", " ".join((line.__doc__ or "").split()).replace("``", "`"), "", *head, *rows])


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_default(field.get_default())}`"
    meaning = " ".join((field.description or "").split()).replace("``", "`").replace("|", "\\|")
    return f"| `{field.alias or name}` | {_type(field.annotation)} | {default} | {meaning} |"


def _default(value: object) -> str:
    return "null" if value is None else "[]" if value == () else _quoted(value)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type(annotation: Any) -> str:
    """The JSON that ``annotation`` becomes."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{_quoted(one)}`" for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in arguments)
    if origin is tuple:
        return f"array of {_type(arguments[0])}s"
    return "object" if origin is dict else _JSON[annotation]


def main(arguments: Sequence[str]) -> int:
    """Print the fields, or bring the document named in ``arguments`` up to date."""
    if not arguments:
        sys.stdout.write(fields_markdown() + "\n")
        return 0
    path = Path(arguments[0])
    try:
        write_atomically(path, updated(path.read_text(encoding="utf-8")))
    except OSError as error:
        sys.stderr.write(f"{failure('update', path, error)}\n")
        return 2
    except (ReportError, UsageError) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
