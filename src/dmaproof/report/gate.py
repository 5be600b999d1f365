"""The cells of mode by suite that a release needs: a run that leaves one out has not qualified anything.

The file is TOML, a list of suites for each mode::

    [required]
    host = ["iommu", "vfio"]
    guest-iommufd = ["iommu"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dmaproof.errors import UsageError
from dmaproof.inputs import whole
from dmaproof.nearest import did_you_mean
from dmaproof.report.modes import Modes
from dmaproof.rig.model import Rig

_MOST_NBYTES = 1 << 20


class Required(BaseModel):
    """Suites by mode."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    required: dict[str, tuple[str, ...]]


def read(path: Path, rig: Rig, suites: Path) -> Required:
    """What ``path`` requires of a run on ``rig``. Raises UsageError for a file that is none, a mode that is no node of
    the rig, or a suite that is no folder in ``suites``."""
    found = _parsed(path)
    known = sorted(one.name for one in suites.iterdir() if one.is_dir() and not one.name.startswith(("_", ".")))
    for mode, wanted in found.required.items():
        if mode not in rig.node:
            raise UsageError(f"{path}: required: rig {rig.id} has no node {mode!r}: {did_you_mean(mode, rig.node)}")
        for suite in wanted:
            if suite not in known:
                raise UsageError(f"{path}: required.{mode}: no suite {suite!r}: {did_you_mean(suite, known)}")
    return found


def _parsed(path: Path) -> Required:
    try:
        return Required.model_validate(tomllib.loads(whole(path, _MOST_NBYTES).decode("utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise UsageError(f"{path} is not TOML: {error}") from None


def missing(found: Modes, wanted: Required) -> Iterator[str]:
    """A sentence for every cell that was not run."""
    for mode, suites in wanted.required.items():
        for suite in suites:
            cell = found.cell(suite, mode)
            if cell.state == "not run":
                why = f"{cell.skipped} skipped" if cell.skipped else "no test of it ran"
                yield f"required and not run: {suite} in {mode} ({why})"
