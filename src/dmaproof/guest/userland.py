"""What a lab host runs on that has not this machine's root file system, for its processor is another: Python, what the
agent imports, and modprobe, of the distribution's newest suite, packed for an initramfs. Nothing of it is run here.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.guest import child, cpio, packages, store
from dmaproof.guest.bytecode import Compiler
from dmaproof.guest.cpio import Entry
from dmaproof.guest.init import PACKAGES
from dmaproof.guest.packages import Archive, Package
from dmaproof.guest.telling import Tell, quietly
from dmaproof.guest.unpacked import wrap
from dmaproof.node.deadline import Deadline

_PYTHON = ("python3-minimal", "libpython3-stdlib")
_MODPROBE = "busybox-static"
_UNUSED_PACKAGES = re.compile(
    "debconf|gcc-|libc-gconv|libdb|libncurses|libreadline|libsqlite|libssl|libtinfo|media-types|netbase|openssl|"
    "readline|tzdata"
)
"""What Python's library imports only where it is there, or offers to others: half of the size."""
_UNUSED = ("ensurepip", "idlelib", "pydoc_data", "test", "tkinter", "turtledemo")
_IMPORTS = "pydantic"
"""All that the agent, and the workloads for lab hosts, take besides the standard library."""
_ARCHIVE, _COMPILER, _VERSION = "userland.cpio", "compiler", "version"
_PIP_S, _COMPILE_S = 600.0, 900.0


@dataclass(frozen=True, slots=True)
class Userland:
    """``archive`` is for the kernel to unpack; ``compiler`` compiles what comes on top of it."""

    archive: Path
    compiler: Compiler


def find(arch: str) -> Userland:
    """The one in the cache for ``arch``. Raises UsageError with the command that supplies it."""
    found = store.newest("userland", f"{arch}-*")
    if found is None:
        raise UsageError(f"no Python for {arch} lab hosts unpacked yet: run `{command(arch)}`")
    return _described(found)


def command(arch: str) -> str:
    """What supplies the userland for ``arch``."""
    return f"dmaproof lab python --arch {arch}"


def supply(arch: str, tell: Tell = quietly, *, anew: bool = False) -> Userland:
    """The userland for ``arch``: from the cache, else of the distribution's newest suite; ``anew``: that in any case.

    Raises UsageError where this system has no archive to take it from, or no pip; DmaproofError where that fails.
    """
    if not anew:
        try:
            return find(arch)
        except UsageError:
            pass
    with store.locked(tell) as lock:
        archive = packages.archive(arch, lock, tell)
        wanted = _wanted(archive, (*_PYTHON, _MODPROBE))
        target = store.folder() / "userland" / f"{arch}-{_key(wanted)}"
        if anew or not target.exists():
            with store.making(target) as scratch:
                _make(archive, wanted, arch, scratch)
        target.touch()
    return _described(target)


def _described(folder: Path) -> Userland:
    version = (folder / _VERSION).read_text(encoding="utf-8").strip()
    argv = (str(folder / _COMPILER / "programs" / f"python{version}"),)
    return Userland(folder / _ARCHIVE, Compiler(argv, version))


def _wanted(archive: Archive, names: Sequence[str]) -> list[Package]:
    return [one for one in packages.closure(archive, names) if not _UNUSED_PACKAGES.match(one.name)]


def _key(wanted: Sequence[Package]) -> str:
    python = next(one.version for one in wanted if re.fullmatch(r"python3\.\d+-minimal", one.name))
    digest = hashlib.sha256("\n".join(f"{one.name} {one.version}" for one in wanted).encode()).hexdigest()[:12]
    return f"{python.replace(':', '.')}-{digest}"


def _make(archive: Archive, wanted: Sequence[Package], arch: str, folder: Path) -> None:
    compiler = _make_compiler(archive, folder / _COMPILER)
    tree = folder / "tree"
    packages.unpack(archive, wanted, tree)
    if not (tree / f"usr/lib/python{compiler.version}").is_dir():
        raise DmaproofError(f"the newest suite's Python is not {compiler.version} for {arch}: try again in a day")
    _prune(tree)
    _add_imports(archive, tree, arch, compiler.version, folder / "wheels")
    archive.tell("compiling Python's library", "", None)
    compile_it = [*compiler.argv, "-m", "compileall", "-q", "-s", str(tree), "-p", "/", "--invalidation-mode"]
    library = [str(tree / f"usr/lib/python{compiler.version}"), str(tree / PACKAGES.lstrip("/"))]
    deadline = Deadline.after(_COMPILE_S)
    child.run([*compile_it, "unchecked-hash", *library], archive.log, deadline, keep=(archive.lock,))
    archive.tell("packing", "", None)
    (folder / _ARCHIVE).write_bytes(cpio.packed(entries(tree)))
    (folder / _VERSION).write_text(compiler.version, encoding="utf-8")
    for done in (tree, folder / "wheels"):
        shutil.rmtree(done)


def _make_compiler(archive: Archive, tree: Path) -> Compiler:
    """The same suite's Python for this system's processor."""
    here = packages.archive(platform.machine(), archive.lock, archive.tell)
    packages.unpack(here, _wanted(here, _PYTHON), tree)
    _prune(tree)
    (program,) = tree.glob("usr/bin/python3.*")
    return Compiler((str(wrap(tree, f"usr/bin/{program.name}")),), program.name.removeprefix("python"))


def _prune(tree: Path) -> None:
    for library in tree.glob("usr/lib/python3.*"):
        for name in _UNUSED:
            shutil.rmtree(library / name, ignore_errors=True)


def _add_imports(archive: Archive, tree: Path, arch: str, version: str, wheels: Path) -> None:
    """pip picks the wheels as it would over there, from where it always takes them."""
    archive.tell(f"downloading {_IMPORTS}", "", None)
    pip = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--implementation=cp"]
    there = [f"--platform=manylinux2014_{arch}", f"--python-version={version}", f"--dest={wheels}"]
    deadline = Deadline.after(_PIP_S)
    child.run([*pip, *there, _requirement()], archive.log, deadline, keep=(archive.lock,))
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(tree / PACKAGES.lstrip("/"))


def _requirement() -> str:
    """As this project states it."""
    return next(one for one in metadata.requires("dmaproof") or [] if re.match(rf"{_IMPORTS}\b", one))


def entries(tree: Path) -> Iterator[Entry]:
    """What lies in ``tree``, with what a system has around its packages."""
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            yield cpio.link(name, str(path.readlink()))
        elif path.is_dir():
            yield cpio.folder(name)
        else:
            yield cpio.file(name, path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    yield from (cpio.folder(name) for name in ("dev", "proc", "root", "run", "sys", "tmp", "var/tmp"))
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (tree / name).exists():
            yield cpio.link(name, f"usr/{name}")
    yield from (cpio.link(name, "/usr/bin/busybox") for name in ("usr/bin/sh", "usr/sbin/modprobe"))
    yield cpio.character_device("dev/console", 5, 1)  # Documentation/admin-guide/devices.txt; before devtmpfs is
