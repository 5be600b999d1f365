"""Which NVIDIA kernel driver a node runs."""

from __future__ import annotations

import re
from pathlib import Path

_VERSION = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", re.MULTILINE)


def version(root: Path) -> str | None:
    """From ``/proc/driver/nvidia/version`` (``NVRM version: ... 580.95.05 ...``); None where no driver is loaded."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    match = _VERSION.search(text)
    return match[1] if match is not None else None
