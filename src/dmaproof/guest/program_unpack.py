"""A QEMU of one of the distribution's suites, unpacked into the cache with all its libraries."""

from __future__ import annotations

import platform
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.guest import packages, store
from dmaproof.guest.program import AUTO, NEEDS, Program, choose, kind, name, unpacked_tree
from dmaproof.guest.telling import Tell, quietly
from dmaproof.guest.unpacked import wrap

_PACKAGE = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_SERVER = "virtiofsd"


def supply(arch: str, tell: Tell = quietly, *, anew: bool = False, suite: str = AUTO) -> Program:
    """A QEMU for ``arch``: of ``suite`` (Debian's or Ubuntu's name of it), or (auto) one with all that ``NEEDS`` says.

    It is found, or unpacked into the cache; ``anew``: also where one in the cache would do. Raises UsageError where
    this system has no archive to take it from, DmaproofError where that fails.
    """
    needs = NEEDS[arch] if suite == AUTO else ()
    if not anew:
        try:
            return choose(suite, arch, needs)
        except UsageError:
            pass
    with store.locked(tell) as lock:
        if anew or unpacked_tree(arch, suite) is None:  # another process may have been faster
            _unpack(
                arch, suite, packages.archive(platform.machine(), lock, tell, suite=None if suite == AUTO else suite)
            )
    return choose(suite, arch, needs)


def _unpack(arch: str, suite: str, archive: packages.Archive) -> None:
    wanted = packages.candidate(archive, _PACKAGE[arch])
    tree = store.folder() / kind(suite) / f"{arch}-{_as_name(wanted.version)}"
    if tree.exists():
        tree.touch()
        return
    with store.making(tree) as scratch:
        packages.unpack(archive, packages.closure(archive, [_PACKAGE[arch], _SERVER]), scratch)
        _wrap(scratch, arch)


def _wrap(tree: Path, arch: str) -> None:
    data = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
    where = [word for one in data if (tree / one).is_dir() for word in ("-L", f"{{}}/{one}")]
    modules = next(tree.glob("usr/lib/*-linux-gnu/qemu"), tree)
    wrap(tree, f"usr/bin/{name(arch)}", where, {"QEMU_MODULE_DIR": f"{{}}/{modules.relative_to(tree)}"})
    wrap(tree, f"usr/libexec/{_SERVER}")


def _as_name(version: str) -> str:
    return version.replace(":", ".").replace("/", ".")
