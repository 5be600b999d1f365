"""Writing a record a test at a time, and reading one back: whole, cut short, or not a record at all."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from dmaproof.errors import ReportError
from dmaproof.report.files import failure
from dmaproof.report.loaded import Record, of_kind
from dmaproof.report.record import (
    LINE,
    SCHEMA,
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

__all__ = ["RECORD", "Record", "RecordWriter", "encode", "read"]

RECORD = "record.jsonl"
"""What the record is called in a run folder."""


class RecordWriter:
    """Appends units of lines to the record at ``path``: a unit is there whole, or not at all.

    A unit that ends a test or a run is on the disk (fsync) when ``write`` returns: a machine that P2P can hang is a
    machine whose page cache can be lost. What a killed writer left of a line at the end is cut off on opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._whole = _end_of_last_line(self._fd)
            os.ftruncate(self._fd, self._whole)
        except OSError as error:
            self.close()
            raise failure("write the record", path, error) from None

    def write(self, lines: Sequence[AnyLine]) -> None:
        """Append ``lines`` as one unit; raises ReportError, with the record as it was before, if they do not fit.

        An interruption (Ctrl-C) is raised once the unit that it came into is whole.
        """
        data, at = b"".join(encode(line) for line in lines), self._whole
        sync = any(isinstance(line, TestLine | RunLine) for line in lines)
        try:
            self._put(data, at, sync=sync)
        except OSError as error:
            self._take_back()
            raise failure("write the record", self.path, error) from None
        except BaseException:  # it may have come between any two steps: all of them again, at the same place
            self._put(data, at, sync=sync)
            raise

    def _put(self, data: bytes, at: int, *, sync: bool) -> None:
        _write_all(self._fd, data, at)
        os.ftruncate(self._fd, at + len(data))  # of a longer unit that was interrupted twice, nothing is left behind
        if sync:
            os.fsync(self._fd)
        self._whole = at + len(data)

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._whole)
        except OSError:  # a disk that takes no write may take no truncation: the reader knows cut lines
            pass

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``: pwrite(2) may write less, and fails only on the next call."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _end_of_last_line(fd: int) -> int:
    """The length of the file up to and with its last newline."""
    size = os.fstat(fd).st_size
    while size:
        start = max(0, size - 65536)
        newline = os.pread(fd, size - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        size = start
    return 0


def encode(line: AnyLine) -> bytes:
    """``line`` as one line of JSON. What JSON or UTF-8 cannot hold is written out as text, never refused.

    A lone surrogate (a byte of a log that was not UTF-8) or a NaN must not cost the record a test.
    """
    text = json.dumps(_plain(line.model_dump(by_alias=True)), ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _plain(value: Any) -> Any:
    """``value`` with only what JSON has. Not finite floats become ``nan``, ``inf``: pydantic reads them as floats."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "backslashreplace")
        case Mapping():
            return {_plain(str(key)): _plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
    return str(value).encode("utf-8", "backslashreplace").decode()


def read(path: Path) -> Record:
    """The record at ``path``, a file or a run folder that holds one.

    A last line that was cut is left out and said so (``truncated``). Raises ReportError, one line, for anything that is
    not a record of this schema.
    """
    try:
        path = path / RECORD if path.is_dir() else path
        if stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISCHR(path.stat().st_mode):
            raise ReportError(f"cannot read the record {path}: it is no file; give a run folder or its {RECORD}")
        data = path.read_bytes()
    except OSError as error:
        raise ReportError(
            f"cannot read the record {path}: {error.strerror}; give a run folder or its {RECORD}"
        ) from None
    whole, _, rest = data.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    _check_schema(path, lines[0] if lines else rest)
    if not lines:
        raise ReportError(f"{path} was cut short in its first line: the run recorded nothing")
    return _assemble(path, [_parse(path, at, line) for at, line in enumerate(lines, 1)], truncated=bool(rest))


def _check_schema(path: Path, first: bytes) -> None:
    """Refuse, before anything is read by this schema's rules, what another schema or another program wrote."""
    if not first:
        raise ReportError(f"{path} is empty: the run ended before it recorded anything")
    try:
        head = json.loads(first)
    except (ValueError, RecursionError):  # the latter for thousands of nested brackets
        if first.startswith(b'{"kind":"run"'):
            return  # cut short, which the caller says
        raise ReportError(f"{path} is not a record: its first line is not JSON") from None
    if not isinstance(head, dict) or head.get("kind") != "run" or "schema" not in head:
        raise ReportError(f"{path} is not a record: it does not begin with a run line that names its schema")
    if head["schema"] != SCHEMA:
        raise ReportError(
            f"{path} is a record of schema {head['schema']!r}, and this dmaproof reads schema {SCHEMA}: "
            f"read it with dmaproof {head.get('dmaproof', 'of its time')}"
        )


def _parse(path: Path, at: int, line: bytes) -> AnyLine:
    try:
        return LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path}, line {at}: {where + ': ' if where else ''}{first['msg']}") from None


def _assemble(path: Path, lines: Sequence[AnyLine], *, truncated: bool) -> Record:
    runs = of_kind(lines, RunLine)
    if not isinstance(lines[0], RunLine) or lines[0].event != "start" or len(runs) != len({run.event for run in runs}):
        raise ReportError(f"{path} is not the record of one run: it must start with its one run line of event 'start'")
    return Record(
        path=path,
        start=lines[0],
        end=next((run for run in runs if run.event == "end"), None),
        rig=next(iter(of_kind(lines, RigLine)), None),
        tests=of_kind(lines, TestLine),
        measurements=of_kind(lines, MeasurementLine),
        evidence=of_kind(lines, EvidenceLine),
        verdicts=of_kind(lines, VerdictLine),
        devices=of_kind(lines, DeviceLine),
        judgements=of_kind(lines, JudgementLine),
        truncated=truncated,
    )
