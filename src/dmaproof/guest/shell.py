"""A workload that runs a program: what `dmaproof lab boot RIG -- PROGRAM` asks of an agent."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_NBYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Ended:
    """``status`` as a shell has it (128 + the signal's number); ``output`` is the end of what it printed, both streams
    as they came."""

    status: int
    output: str


def run(argv: Sequence[str], folder: str) -> Ended:
    """Run ``argv`` in ``folder`` until it ends. Raises OSError where it cannot be started."""
    with tempfile.TemporaryFile() as output:  # a pipe could fill, and whatever the program leaves behind could keep it
        process = subprocess.run(
            argv,
            cwd=folder if Path(folder).is_dir() else "/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            check=False,
        )
        end = output.seek(0, os.SEEK_END)
        output.seek(max(0, end - _MOST_NBYTES))
        text = output.read().decode(errors="replace")
    code = process.returncode
    return Ended(code if code >= 0 else 128 - code, text)


def _environment() -> dict[str, str]:
    """Without what the agent's own Python was told (-S and PYTHONPATH): the program may be another Python."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
