"""What provisions a lab, for tests that boot one."""

from __future__ import annotations

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import kernel, program, userland


def supplied(arch: str = "x86_64", image: str = kernel.OWN, *, python: bool = False) -> None:
    """Skips the test where something is not there, with the command that brings it. ``python``: a userland too."""
    try:
        kernel.choose(image, arch)
        program.choose(program.AUTO, arch)
        if python:
            userland.find(arch)
    except UsageError as missing:
        pytest.skip(str(missing))
    if not python:  # else it boots from an initramfs
        pytest.importorskip("virtme_ng", reason="virtme-ng is not installed")
