"""Logs as commands read them: a file or standard input, as bytes arrive, and events as one readable line each."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dmaproof.errors import UsageError
from dmaproof.evidence.event import Event
from dmaproof.report.text import counted, printable
from dmaproof.rig.archive import opened
from dmaproof.rig.contents import LOG
from dmaproof.rig.unpack import is_archive

_CHUNK_NBYTES = 1 << 16

log_argument = click.argument("log", metavar="LOG|-")
"""The path of a log, or ``-`` for standard input."""


@contextmanager
def reading(log: str) -> Iterator[Iterator[bytes]]:
    """The bytes of ``log`` as they come: a pipe that is still being written (``dmesg -w``) is decoded live. Of a saved
    machine (``dmaproof doctor --save``), its kernel log.

    Raises UsageError, from the iterator too, where the log cannot be opened or read.
    """
    if log == "-":
        if sys.stdin is None:
            raise UsageError("cannot read -: standard input is closed")
        yield _chunks(sys.stdin.fileno(), log)
        return
    if is_archive(Path(log)):
        with opened(Path(log)) as root:
            if not (root / LOG).is_file():
                raise UsageError(f"cannot read {log}: there is no kernel log in it (`dmaproof doctor --archive {log}`)")
            with reading(str(root / LOG)) as chunks:
                yield chunks
        return
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot read {log}: {error.strerror}") from None
    try:
        yield _chunks(fd, log)
    finally:
        os.close(fd)


def _chunks(fd: int, log: str) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(fd, _CHUNK_NBYTES)
        except OSError as error:
            raise UsageError(f"cannot read {log}: {error.strerror}") from None
        if not data:
            return
        yield data


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
