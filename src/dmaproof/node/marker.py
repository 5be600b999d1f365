"""Devices that a run must not use any more: a file that carries the run's name, so that no other run sees it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import quote

from dmaproof.bdf import parse
from dmaproof.node.lockfile import stem
from dmaproof.node.node import Node, lock_dir


def poison(node: Node, device: str, run_id: str, reason: str) -> None:
    """From now on ``device`` is refused to every process of ``run_id``, with ``reason``."""
    path = _marker(lock_dir(node), parse(device), run_id)
    half = path.with_name(f"{path.name}.{os.getpid()}")  # a reader sees all of the reason or none
    half.write_text(reason)
    half.replace(path)


def poisoned(node: Node, device: str, run_id: str) -> str | None:
    """Why ``run_id`` must not use ``device``, or None."""
    return reason(lock_dir(node), parse(device), run_id)


def reason(folder: Path, device: str, run_id: str) -> str | None:
    try:
        return _marker(folder, device, run_id).read_text()
    except FileNotFoundError:
        return None


def forget_other_runs(folder: Path, device: str, run_id: str) -> None:
    """Remove other runs' markers of ``device``; another user's stays (the folder is sticky), and harms nobody."""
    ours = _marker(folder, device, run_id)
    for path in folder.glob(f"{stem(device)}.*.poison*"):
        if path != ours:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                path.unlink()


def _marker(folder: Path, device: str, run_id: str) -> Path:
    return folder / f"{stem(device)}.{quote(run_id, safe='')}.poison"
