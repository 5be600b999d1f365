"""A folder that goes when the process that has it made does, however that ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNTIL_LEFT = 'cat; rm -rf -- "$0"'
_REMOVED_S = 20.0


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Have ``folder``, with its parents; it is removed with all that is in it, also where this process is killed: by
    another, which reads from it until it is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    remover = subprocess.Popen(
        ["sh", "-c", _UNTIL_LEFT, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # Ctrl-C is not meant for it
    )
    try:
        yield
    finally:
        try:
            remover.communicate(timeout=_REMOVED_S)
        except subprocess.TimeoutExpired:
            remover.kill()
            remover.wait(_REMOVED_S)
