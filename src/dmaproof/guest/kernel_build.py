"""The project's own kernel, compiled from the distribution's source with the project's fragment."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.guest import child, kernel, packages, store, toolchain
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.packages import Archive, Package
from dmaproof.guest.telling import Tell, quietly
from dmaproof.guest.toolchain import TARGETS
from dmaproof.node.deadline import Deadline

_BUILD_S, _STEP_S = 7200.0, 900.0
_COMPILED = re.compile(r"  (?:CC|AS)\s+(?:\[M\]\s+)?(\S+)")
_BANNER = {"KBUILD_BUILD_USER": "dmaproof", "KBUILD_BUILD_HOST": "lab"}  # not whose machine it was built on
_SOURCE = "linux-source"


def supply(wanted: str, arch: str, tell: Tell = quietly, *, anew: bool = False) -> Kernel:
    """The project's kernel (``own`` or ``selftests``): from the cache, else built; ``anew``: of the newest source.

    Raises UsageError where a build's tools are missing, DmaproofError where it fails, with the last it said.
    """
    if not anew:
        try:
            return kernel.choose(wanted, arch)
        except UsageError:
            pass
    kernel.fragment(wanted, arch)  # raises for an architecture without one, before anything is fetched
    toolchain.check(arch)
    with store.locked(tell) as lock:
        tree = source(lock, tell, anew=anew)
        target = kernel.place(wanted, arch, tree.name)
        if not target.exists():
            _build(tree, target, wanted, arch, lock, tell)
        target.touch()
        return kernel.built(target, arch)


def source(lock: int, tell: Tell, *, anew: bool = False) -> Path:
    """The source tree, unpacked: ``source/VERSION``. An older one is kept unless ``anew``. Under the store's lock."""
    tree = store.newest("source", "*")
    if tree is not None and not anew:
        return tree
    archive = packages.archive("x86_64", lock, tell)  # the source is the same for all
    package = _package(archive)
    tree = store.folder() / "source" / f"{package.name.removeprefix('linux-source-')}_{package.version}"
    if not tree.exists():
        with store.making(tree) as scratch:
            _unpack(archive, package, scratch)
    tree.touch()
    return tree


def _package(archive: Archive) -> Package:
    """The package that has the source: ``linux-source`` itself only depends on it."""
    for one in packages.closure(archive, [_SOURCE]):
        if one.name.startswith(f"{_SOURCE}-"):
            return one
    raise UsageError(f"{archive.distribution}'s newest suite has no {_SOURCE}-*; see {archive.log}")


def _unpack(archive: Archive, package: Package, folder: Path) -> None:
    laid_out = folder / "package"
    packages.unpack(archive, [package], laid_out)
    (packed,) = laid_out.glob("usr/src/**/linux-source-*.tar.*")
    archive.tell("unpacking the source", packed.name, None)
    words = ["tar", "--extract", "--strip-components=1", f"--directory={folder}", f"--file={packed}"]
    child.run(words, archive.log, Deadline.after(_STEP_S), keep=(archive.lock,))
    shutil.rmtree(laid_out)


def _build(tree: Path, target: Path, wanted: str, arch: str, lock: int, tell: Tell) -> None:
    """Compile in a folder of its own, and keep the image, its configuration and its log."""
    options = kernel.fragment(wanted, arch)
    log = store.folder() / "logs" / f"{target.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    with store.making(target) as scratch:
        objects = scratch / "objects"
        objects.mkdir()
        (scratch / "fragment").write_text(options, encoding="utf-8")
        make = ["make", "-C", str(tree), f"O={objects}", *TARGETS[arch].words]
        tell("configuring the kernel", tree.name, None)
        configure = [*make, f"KCONFIG_ALLCONFIG={scratch / 'fragment'}", "allnoconfig"]
        child.run(configure, log, Deadline.after(_STEP_S), keep=(lock,))
        jobs = len(os.sched_getaffinity(0))
        image = Path(TARGETS[arch].image)
        compile_it = ["nice", *make, f"-j{jobs}", image.name]
        child.run(compile_it, log, Deadline.after(_BUILD_S), keep=(lock,), env=_BANNER, line=_counted(tell))
        _keep(objects, image, scratch, tree)
        shutil.copy(log, scratch / "build.log")
        shutil.rmtree(objects)


def _keep(objects: Path, image: Path, folder: Path, tree: Path) -> None:
    shutil.copy(objects / image, folder / "vmlinuz")
    shutil.copy(objects / ".config", folder / "config")
    result = set((folder / "config").read_text(encoding="utf-8").splitlines())
    lacks = [one for one in kernel.asked_for((folder / "fragment").read_text(encoding="utf-8")) if one not in result]
    (folder / "lacks").write_text("\n".join(lacks), encoding="utf-8")
    (folder / "source").write_text(tree.name, encoding="utf-8")


def _counted(tell: Tell) -> Callable[[str], None]:
    """Word of each object: how many there will be, make does not say."""
    number, began_s = 0, time.monotonic()

    def line(text: str) -> None:
        nonlocal number
        if found := _COMPILED.match(text):
            number += 1
            tell("compiling the kernel", f"{number} objects, {time.monotonic() - began_s:.0f} s: {found[1]}", None)

    return line
