"""Run folders: one for each run, with a link to the latest."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from dmaproof.errors import ReportError
from dmaproof.report.files import failure

EVIDENCE = "evidence"
LATEST = "latest"
_SLUG_LENGTH = 80  # with hash and suffix far below the 255 bytes of a name, and still readable


def run_folder(base: Path, rig_id: str, now: datetime) -> Path:
    """Make ``base/<UTC time>-<rig>/`` with an ``evidence/`` in it, and point ``base/latest`` at it.

    ``base`` is the folder of runs (``reports/runs``), made if missing; ``now`` is aware of its time zone. A second run
    of the same second gets ``-2`` behind its name. Raises ReportError, and then leaves no folder.
    """
    name = folder_name(rig_id, now)
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder = _first_free(base, name)
    except OSError as error:
        raise failure("make the run folder", base / name, error) from None
    try:
        (folder / EVIDENCE).mkdir()
        _point(base / LATEST, folder.name)
    except OSError as error:
        _take_back(folder)
        raise failure("make the run folder", folder, error) from None
    except ReportError:
        _take_back(folder)
        raise
    return folder


def folder_name(rig_id: str, now: datetime) -> str:
    """``<UTC time>-<rig>``, as ``run_folder`` asks for it first."""
    return f"{now.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}-{slug(rig_id)}"


def _first_free(base: Path, name: str) -> Path:
    """Make the first of ``name``, ``name-2``, .. that is not there: mkdir(2) decides between runs that race."""
    for number in count(1):
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() ends never")


def _point(link: Path, target: str) -> None:
    """Make ``link`` a relative symlink to ``target``, replacing an older one in one step."""
    if link.is_dir() and not link.is_symlink():
        raise ReportError(f"cannot link {link} to this run: a real folder is in the way; move it elsewhere")
    fresh = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    fresh.symlink_to(target)
    try:
        fresh.replace(link)
    finally:
        fresh.unlink(missing_ok=True)


def _take_back(folder: Path) -> None:
    for path in (folder / EVIDENCE, folder):
        try:
            path.rmdir()
        except OSError:  # the disk that refused the folder may refuse this too: the first error is the one to tell
            pass


def slug(text: str) -> str:
    """``text`` as part of a file name: ASCII letters, digits and ``._-`` only, never hidden, never longer than 80."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:_SLUG_LENGTH].rstrip("-.") or "unnamed"


def evidence_name(test: str, what: str) -> str:
    """The file name under ``evidence/`` for ``what`` (such as ``kmsg.log``) of ``test``, a test id of any form.

    Readable, safe on any file system, at most 160 characters, and another one for each test: ids that differ only in
    what is left out differ in the hash.
    """
    digest = hashlib.sha256(test.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{slug(test.rpartition('::')[2])}.{digest}.{slug(what)[:60]}"
