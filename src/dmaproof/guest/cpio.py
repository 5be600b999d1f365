"""The archive that a kernel unpacks into its first root file system: "newc" of
Documentation/driver-api/early-userspace/buffer-format.rst. The same entries give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_MAGIC, _END = b"070701", "TRAILER!!!"
_MOST_NBYTES = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the archive: relative, no leading slash. ``mode`` as st_mode; ``device`` is major and minor.

    ``content`` is a file's bytes, or where a symbolic link points.
    """

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def file(name: str, content: bytes, *, executable: bool = False) -> Entry:
    return Entry(name, stat.S_IFREG | (0o755 if executable else 0o644), content)


def folder(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def link(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def packed(entries: Iterable[Entry]) -> bytes:
    """An archive of ``entries`` in the order of their names, the folders above them first; all belong to root.

    Several may follow each other in one file: the kernel unpacks them one after the other (init/initramfs.c). Raises
    ValueError for a name that is there twice, or that the format cannot hold.
    """
    by_name: dict[str, Entry] = {}
    for entry in entries:
        _check(entry)
        if entry.name in by_name:
            raise ValueError(f"{entry.name} is in the archive twice")
        by_name[entry.name] = entry
    for above in {str(one) for name in by_name for one in PurePosixPath(name).parents} - {"."} - by_name.keys():
        by_name[above] = folder(above)
    archive = bytearray()
    for number, name in enumerate(sorted(by_name), start=1):  # a folder's name begins the names in it
        archive += b"".join(_member(number, by_name[name]))
    archive += b"".join(_member(0, Entry(_END, 0)))
    return bytes(archive)


def _check(entry: Entry) -> None:
    path = PurePosixPath(entry.name)
    if str(path) != entry.name or path.is_absolute() or ".." in path.parts or not path.parts or "\0" in entry.name:
        raise ValueError(f"{entry.name!r} is no name for an archive: relative, without . and ..")
    if entry.name == _END:
        raise ValueError(f"{entry.name!r} ends an archive")
    if len(entry.content) > _MOST_NBYTES:
        raise ValueError(f"{entry.name}: {len(entry.content)} bytes are more than the format can hold")


def _member(inode: int, entry: Entry) -> Iterator[bytes]:
    name = entry.name.encode() + b"\0"
    words = (inode, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % word for word in words) + name
    yield head
    yield _padding(len(head))
    yield entry.content
    yield _padding(len(entry.content))


def _padding(nbytes: int) -> bytes:
    return bytes(-nbytes % 4)
