"""Files as a kernel shows them: planned as a mapping, written so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to ``target``, a path inside the tree; written relative, as sysfs does."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that may stay empty."""

    mode: int = 0o755


Tree = dict[str, "str | bytes | Link | Folder"]
"""Entries by path relative to the machine's root; parent folders are implied."""


def write(root: Path, tree: Mapping[str, str | bytes | Link | Folder]) -> None:
    """Makes or replaces every entry of ``tree`` under ``root``."""
    for name, entry in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Folder):
            path.mkdir(exist_ok=True)
            path.chmod(entry.mode)
        elif isinstance(entry, Link):
            path.symlink_to(os.path.relpath(entry.target, Path(name).parent))
        else:
            replace(path, entry.encode() if isinstance(entry, str) else entry)


def replace(path: Path, content: bytes) -> None:
    """``path`` with ``content``, all at once."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)
