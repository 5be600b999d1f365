"""Baselines on disk: ``reports/baselines/*.json``, a file for each product, driver branch and kind of rig.

``{"format": 1, "entries": [...]}``; an entry has the fields of dmaproof.triage.expectation.baseline.Entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dmaproof.errors import UsageError
from dmaproof.inputs import whole
from dmaproof.report.files import write_atomically
from dmaproof.report.folder import slug
from dmaproof.triage.expectation.baseline import Baselines, Entry

FORMAT = 1
_MOST_NBYTES = 64 << 20


class File(BaseModel):
    """One file; readers of another format refuse it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int
    entries: tuple[Entry, ...]


def read(folder: Path) -> Baselines:
    """All of ``folder``; nothing where there is none. Raises UsageError for a file that is no baseline."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return {entry.key: entry for file in files for entry in _parsed(file).entries}


def _parsed(path: Path) -> File:
    try:
        found = File.model_validate_json(whole(path, _MOST_NBYTES))
    except OSError as error:
        raise UsageError(f"cannot read the baseline {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path} is no baseline: {where + ': ' if where else ''}{first['msg']}") from None
    if found.format != FORMAT:
        raise UsageError(f"{path} is a baseline of format {found.format}; this dmaproof reads format {FORMAT}")
    return found


def update(folder: Path, entries: Iterable[Entry]) -> list[Path]:
    """Put ``entries`` in the place of those with the same keys; what else the files hold stays. Raises ReportError,
    UsageError for a file there that is no baseline."""
    by_file: dict[Path, list[Entry]] = {}
    for entry in entries:
        by_file.setdefault(folder / _name(entry), []).append(entry)
    for path, fresh in by_file.items():
        known = {entry.key: entry for entry in (_parsed(path).entries if path.exists() else ())}
        known |= {entry.key: entry for entry in fresh}
        path.parent.mkdir(parents=True, exist_ok=True)
        ordered = sorted(known.values(), key=lambda entry: repr(entry.key))
        write_atomically(path, File(format=FORMAT, entries=tuple(ordered)).model_dump_json(indent=1) + "\n")
    return sorted(by_file)


def _name(entry: Entry) -> str:
    return f"{slug(entry.key.product)}-{slug(entry.key.branch)}-{entry.key.rig_kind}.json"
