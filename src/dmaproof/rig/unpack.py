"""A gzipped tar as a folder, taken for anyone's input.

Only regular files and links that stay inside are taken out of it, bounded in number and size; everything else in it is
an error, not a surprise.
"""

from __future__ import annotations

import errno
import gzip
import io
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof.errors import UsageError

_MOST_MEMBERS, _MOST_NBYTES = 200_000, 128 << 20
_BROKEN = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError)


class _Bounded(io.BufferedIOBase):
    """A stream that ends in an error before it fills the memory: a few kilobytes of gzip can hold gigabytes."""

    def __init__(self, stream: gzip.GzipFile, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, _MOST_NBYTES

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise UsageError(
                f"{self._path} is too large for an archive of a machine: over {_MOST_NBYTES >> 20} MiB unpacked"
            )
        return data


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    with gzip.open(path) as stream, tarfile.open(fileobj=_Bounded(stream, path), mode="r|") as tar:
        yield tar


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a gzipped tar, by its content: a compressed log is none."""
    try:
        if not path.is_file():  # a pipe would be eaten
            return False
        with _tar(path) as tar:
            return tar.next() is not None
    except (*_BROKEN, UsageError):
        return False


def unpack(path: Path, folder: Path) -> None:
    """Put what ``path`` holds under ``folder``. Raises UsageError for a damaged, too large or malicious one."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"cannot read {path}: it is no file; name an archive that `dmaproof doctor --save` wrote")
        with _tar(path) as tar:
            _take(tar, path, folder)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"{path} is no archive of a machine: two things in it have one name") from None
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            way_out = f"set TMPDIR to a folder with {_MOST_NBYTES >> 20} MiB of room"
            raise UsageError(f"cannot unpack {path} into {folder.parent}: {error.strerror}; {way_out}") from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged or no archive ({error})"
        raise UsageError(f"cannot read {path}: {reason}") from None


def _take(tar: tarfile.TarFile, path: Path, folder: Path) -> None:
    """Files first, links after all of them: no file is ever written through a link."""
    links = []
    for number, member in enumerate(tar):
        if number >= _MOST_MEMBERS or member.size > _MOST_NBYTES:
            raise UsageError(f"{path} is too large for an archive of a machine")
        if not _is_inside(member.name) or not (member.isreg() or member.issym() or member.isdir()) or member.issparse():
            raise UsageError(f"{path} holds {member.name!r}, which no archive of a machine does: not unpacked")
        if member.issym():
            links.append(member)
        elif member.isreg():
            _write(tar, member, folder / member.name)
    for member in links:
        _make_link(member, path, folder)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    with target.open("wb") as file:
        if content is not None:
            shutil.copyfileobj(content, file)


def _make_link(member: tarfile.TarInfo, path: Path, folder: Path) -> None:
    """Its folder may itself be reached through no link, and what it leads to is inside."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    place = folder / member.name
    place.parent.mkdir(parents=True, exist_ok=True)
    if (
        posixpath.isabs(member.linkname)
        or not _is_inside(target)
        or place.parent.resolve() != (folder.resolve() / member.name).parent
    ):
        raise UsageError(
            f"{path} holds the link {member.name!r} to {member.linkname!r}, out of its folder: not unpacked"
        )
    place.symlink_to(member.linkname)


def _is_inside(name: str) -> bool:
    return not posixpath.isabs(name) and ".." not in name.split("/") and "\0" not in name and name not in ("", ".")
