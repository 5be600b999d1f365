"""A machine in one file: written whole or not at all, opened as a folder that stands in for the machine's root."""

from __future__ import annotations

import fcntl
import io
import json
import os
import secrets
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.pci import sysfs
from dmaproof.rig.contents import Contents, gather
from dmaproof.rig.unpack import is_archive, unpack

MANIFEST = "dmaproof-archive.json"
_FORMAT = 1
_PREFIX = "dmaproof-archive-"


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written: ``nbytes`` of the archive, how many files of how many PCI functions, and what is missing."""

    nbytes: int
    files: int
    functions: int
    left_out: tuple[str, ...]


def save(
    root: Path, path: Path, version: str, progress: Callable[[str], None] = lambda _: None, *, with_log: bool = True
) -> Saved:
    """Pack the machine under ``root`` into ``path`` (tar, gzip), or into what it links to.

    Raises UsageError where it cannot be written, or something else than an archive would be lost.
    """
    _refuse_to_replace(path)
    contents = gather(root, progress, with_log=with_log)
    functions = sum(str(Path(name).parent) == str(sysfs.DEVICES) for name in contents.links)
    manifest = {
        "format": _FORMAT,
        "made_by": f"dmaproof {version}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "left_out": contents.left_out,
    }
    contents.files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            _pack(contents, file)
            file.flush()
            os.fsync(file.fileno())
        nbytes = beside.stat().st_size
        beside.replace(target)  # atomic within one file system: rename(2)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    finally:
        _remove(beside)
    return Saved(nbytes, len(contents.files), functions, tuple(contents.left_out))


def _refuse_to_replace(path: Path) -> None:
    """What is there may go if it is an archive or holds nothing: a device or FIFO would be replaced, not written to."""
    try:
        there = path.stat()
    except OSError:  # not there, or out of reach: writing tells
        return
    if not stat.S_ISREG(there.st_mode):
        raise UsageError(f"cannot write {path}: it is there and no file; name a file, such as bench.tar.gz")
    if there.st_size and not is_archive(path):
        raise UsageError(f"cannot write {path}: it is there and no archive; name another file, or remove that one")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder is not there or not ours: then neither is the file
        pass


def _pack(contents: Contents, file: io.BufferedWriter) -> None:
    now = int(time.time())
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(contents.files.items()):
            tar.addfile(_member(name, tarfile.REGTYPE, now, size=len(data)), io.BytesIO(data))
        for name, target in sorted(contents.links.items()):
            tar.addfile(_member(name, tarfile.SYMTYPE, now, target=target))


def _member(name: str, kind: bytes, now: int, *, size: int = 0, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname, member.mtime, member.mode = kind, size, target, now, 0o644
    return member


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The root of the machine that ``path`` holds: a folder as it is, an archive unpacked for as long as this lasts.

    Raises UsageError for what is neither, or is damaged, too large, or tries to leave its folder.
    """
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        if not (path / sysfs.DEVICES).is_dir():
            raise UsageError(f"{path} is no machine's root: there is no {sysfs.DEVICES} in it")
        yield path
        return
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _held(Path(name)):
        unpack(path, Path(name))
        if not (Path(name) / MANIFEST).is_file():
            raise UsageError(f"{path} is no archive of a machine: `dmaproof doctor --save` did not write it")
        yield Path(name)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A lock as long as this process lives: what a killed one left behind is known by having none."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            is_old = time.time() - os.fstat(fd).st_mtime > 60  # a new one may not be locked yet
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_old and os.fstat(fd).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # somebody works in it
        finally:
            os.close(fd)
