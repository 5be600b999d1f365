"""Programs of packages that were unpacked and not installed: run by their own loader, with their own libraries."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from dmaproof.errors import DmaproofError

PROGRAMS = "programs"
"""The folder of a tree that holds its wrappers: for PATH."""


def wrap(tree: Path, program: str, arguments: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> Path:
    """Write ``tree/programs/NAME``, which runs ``tree/program`` wherever the tree is moved to later.

    ``arguments`` come first on its command line; in them, and in the environment's ``variables``, ``{}`` is the tree.
    The loader is called by name (ld.so(8)): the one that the program asks for is of this system, and may be older.
    """
    loader, libraries = _loader(tree), _libraries(tree)
    words = [f"{{}}/{loader}", "--library-path", f"{{}}/{libraries}", f"{{}}/{program}", *arguments]
    exports = [f"export {name}={_here(value)}\n" for name, value in (variables or {}).items()]
    wrapper = tree / PROGRAMS / Path(program).name
    wrapper.parent.mkdir(exist_ok=True)
    lines = ["#!/bin/sh\n", 'tree=$(dirname "$(dirname "$(readlink -f "$0")")")\n', *exports]
    wrapper.write_text("".join([*lines, f'exec {" ".join(_here(word) for word in words)} "$@"\n']), encoding="utf-8")
    wrapper.chmod(0o755)
    return wrapper


def _here(word: str) -> str:
    """``word`` for a shell, ``{}`` in it the tree."""
    return '"$tree"'.join(shlex.quote(part) if part else "" for part in word.split("{}"))


def _loader(tree: Path) -> Path:
    return _one(tree, ("usr/lib*/ld-linux*.so.*", "lib*/ld-linux*.so.*"))


def _libraries(tree: Path) -> Path:
    return _one(tree, ("usr/lib/*-linux-gnu/libc.so.6", "lib/*-linux-gnu/libc.so.6")).parent


def _one(tree: Path, patterns: Sequence[str]) -> Path:
    for pattern in patterns:
        for found in sorted(tree.glob(pattern)):
            return found.relative_to(tree)
    raise DmaproofError(f"no C library in {tree} ({', '.join(patterns)}): its packages are not laid out as Debian's")
