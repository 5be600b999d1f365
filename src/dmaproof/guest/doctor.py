"""What this machine has of a lab, and the one command for what it lacks: rows for ``dmaproof doctor``."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable

from dmaproof.errors import UsageError
from dmaproof.guest import kernel, packages, program, toolchain, userland
from dmaproof.node.isolated import Outcome
from dmaproof.rig import probes
from dmaproof.rig.doctor import Row, plain

_PURPOSE, _ARM64_PURPOSE = "--rig=lab:NAME", "--rig=lab:smmuv3"
_ARM64_SUPPLY = " && ".join(
    (program.command("aarch64"), kernel.command(kernel.STOCK, "aarch64"), userland.command("aarch64"))
)
_WAY_OUT = re.compile(r": run `.*`$")


def examine(deadline_s: float) -> tuple[Row, ...]:
    """The lab's rows. No probe may take longer than ``deadline_s`` seconds."""
    arch = platform.machine() if platform.machine() in packages.ARCHITECTURE else "x86_64"
    rows: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("lab QEMU", lambda: _qemu(arch), program.command(arch)),
        ("lab kernel", lambda: _kernel(arch), _kernel_supply(arch)),
        ("virtme-ng", virtme, f"{sys.executable} -m pip install virtme-ng"),
        ("lab for arm64", _arm64, _ARM64_SUPPLY),
    )
    return tuple(_row(subject, probes.attempt(probe, deadline_s), supply) for subject, probe, supply in rows)


def _row(subject: str, outcome: Outcome, supply: str) -> Row:
    purpose = _ARM64_PURPOSE if "arm64" in subject else _PURPOSE
    if outcome.ok:
        return Row(subject, "ok", outcome.text, purpose)
    return Row(subject, "missing", _WAY_OUT.sub("", plain(outcome.text)), purpose, supply)


def _qemu(arch: str) -> str:
    found = program.choose(program.AUTO, arch)
    return f"{found.version}, {found.argv[0]}"


def _kernel(arch: str) -> str:
    found = kernel.choose(kernel.OWN, arch)
    lacking = f", without {', '.join(found.lacks)}" if found.lacks else ""
    return f"{found.release}, {found.path}{lacking}"


def _arm64() -> str:
    """All that a lab host of another processor takes."""
    qemu, stock_kernel = program.choose(program.AUTO, "aarch64"), kernel.choose(kernel.STOCK, "aarch64")
    python = userland.find("aarch64").compiler.version
    return f"QEMU {qemu.version}, Linux {stock_kernel.release}, Python {python}"


def _kernel_supply(arch: str) -> str:
    """Building takes a compiler and more; what of it is missing is installed first, by the same command."""
    try:
        lacking = toolchain.missing(arch)
    except (OSError, UsageError):
        lacking = []
    first = f"sudo apt-get install -y {' '.join(lacking)} && " if lacking else ""
    return first + kernel.command(kernel.OWN, arch)


def virtme() -> str:
    """virtme-ng of this very environment. Raises UsageError where there is none."""
    try:
        return importlib.metadata.version("virtme-ng")
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"not installed for {sys.executable}") from None
