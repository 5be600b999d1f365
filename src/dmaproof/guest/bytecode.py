"""Modules compiled for a Python that this process is not: an emulated processor would take seconds over it at every
start. Bytecode is the same on every processor, so the same Python of this system's architecture compiles it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import DmaproofError
from dmaproof.guest import store

_COMPILE_S = 300.0
_SCRIPT = """
import json, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for source, target, name in json.load(sys.stdin):
    py_compile.compile(source, target, name, doraise=True, invalidation_mode=mode)
"""
_KEPT = 4000
"""Compiled modules in the cache, some ten times what the project has: what was not used for longest goes first."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """``argv`` runs a Python ``version`` ("3.14") on this system."""

    argv: tuple[str, ...]
    version: str

    @property
    def tag(self) -> str:
        """As in ``module.cpython-314.pyc``."""
        return f"cpython-{self.version.replace('.', '')}"


def compiled(compiler: Compiler, modules: Mapping[str, Path]) -> dict[str, Path]:
    """The bytecode of ``modules`` (where a module will lie: where its source is here), which is never held against
    its source again (PEP 552, unchecked). Only what is not in the cache is compiled.

    Raises DmaproofError where the compiler fails, with the last it said.
    """
    folder = store.folder() / "bytecode" / compiler.tag
    found = {name: folder / _key(name, source) for name, source in modules.items()}
    lacking = [(str(modules[name]), str(target), name) for name, target in found.items() if not target.exists()]
    if lacking:
        folder.mkdir(parents=True, exist_ok=True)
        _run(compiler.argv, lacking)
        _forget(folder, keep=found.values())
    return found


def _key(name: str, source: Path) -> str:
    return hashlib.sha256(name.encode() + b"\0" + source.read_bytes()).hexdigest()[:32] + ".pyc"


def _run(argv: Sequence[str], work: Sequence[tuple[str, str, str]]) -> None:
    """py_compile writes beside its target and renames: nobody sees half a file."""
    try:
        done = subprocess.run(
            [*argv, "-I", "-S", "-c", _SCRIPT],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            timeout=_COMPILE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DmaproofError(f"{argv[0]} does not compile: {error}") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise DmaproofError(f"{argv[0]} cannot compile the lab's modules: {last}")


def _forget(folder: Path, keep: Iterable[Path]) -> None:
    for path in keep:
        os.utime(path)
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in kept[_KEPT:]:
        path.unlink(missing_ok=True)
