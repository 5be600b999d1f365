"""The real console script, run as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("dmaproof")
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr of a run that could not do what it was asked; nothing but that line may be there."""
        assert self.status == 2, self
        assert self.out == "", self
        assert self.err.startswith("dmaproof: "), self
        assert self.err.count("\n") == 1, self
        return self.err


def dmaproof(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Said:
    done = subprocess.run(
        [SCRIPT, *arguments],
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        check=False,
    )
    encoding = (env or {}).get("PYTHONIOENCODING", "utf-8")
    return Said(done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding))
