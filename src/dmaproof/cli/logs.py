"""Logs as commands read them: a file or standard input, as bytes arrive, and events as one readable line each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from dmaproof.cli.compressed import plain
from dmaproof.errors import UsageError
from dmaproof.evidence.event import Event
from dmaproof.inputs import chunks, chunks_of
from dmaproof.report.text import counted, printable
from dmaproof.rig.archive import opened
from dmaproof.rig.contents import LOG
from dmaproof.rig.unpack import is_archive

log_argument = click.argument("log", metavar="LOG|-")
"""The path of a log, or ``-`` for standard input."""


@contextmanager
def reading(log: str, *, follow: bool = False) -> Iterator[Iterator[bytes]]:
    """The bytes of ``log`` as they come: a pipe that is still being written (``dmesg -w``) is decoded live, and with
    ``follow`` /dev/kmsg is too. Of a saved machine (``dmaproof doctor --save``), its kernel log.

    Raises UsageError, from the iterator too, where the log cannot be read as one.
    """
    if log != "-" and is_archive(Path(log)):
        with opened(Path(log)) as root, reading(str(log_in(root, log))) as stream:
            yield stream
        return
    with closing(_named(log, follow=follow)) as stream:
        yield stream


def log_in(root: Path, archive: str) -> Path:
    """The kernel log of the saved machine ``archive``, unpacked at ``root``. Raises UsageError where it has none."""
    if not (root / LOG).is_file():
        raise UsageError(f"cannot read {archive}: there is no kernel log in it (`dmaproof doctor --archive {archive}`)")
    return root / LOG


def _named(log: str, *, follow: bool) -> Generator[bytes]:
    if log == "-" and sys.stdin is None:
        raise UsageError("cannot read -: standard input is closed")
    try:
        yield from plain(chunks_of(sys.stdin.fileno(), log) if log == "-" else chunks(log, follow=follow), log)
    except OSError as error:
        raise UsageError(f"cannot read {log}: {error.strerror}") from None


def readable(event: Event) -> str:
    """``event`` as one line: when, what, who, where, and the text it was decoded from."""
    when = f"[{event.time:12.6f}]" if event.time is not None else "[           ?]"
    where = f"at {event.address:#x}" if event.address is not None else None
    number = str(event.xid) if event.xid is not None else None
    what = " ".join(word for word in (event.kind, number, event.bdf, event.access, where) if word)
    return f"{when} {what}: {one_line(event.text)}"


def one_line(text: str) -> str:
    """``text`` on one line, with what a terminal would obey written out: a log is anyone's input."""
    return " | ".join(printable(text).splitlines())


def tally(kinds: Counter[str], lines: int, unknown: int) -> str:
    """``3 events (2 iommu-fault, 1 xid) in 120 lines, 117 of them unknown``."""
    each = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    events = counted(kinds.total(), "event") + (f" ({each})" if each else "")
    return f"{events} in {counted(lines, 'line')}, {unknown} of them unknown"
