"""Logs in a form that has to be unpacked first: read as they are they would be noise, and noise reads as health."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

import click

from dmaproof.errors import UsageError

_UNPACKED_BY = {
    b"\x1f\x8b": ("compressed (gzip)", "zcat {}"),
    b"\xfd7zXZ\0": ("compressed (xz)", "xzcat {}"),
    b"\x28\xb5\x2f\xfd": ("compressed (zstd)", "zstdcat {}"),
    b"BZh": ("compressed (bzip2)", "bzcat {}"),
    b"\x04\x22\x4d\x18": ("compressed (lz4)", "lz4 -dc {}"),
    b"PK\x03\x04": ("compressed (zip)", "unzip -p {}"),
    b"LPKSHHRH": ("a journal in its own format", "journalctl -k -o short-monotonic --file {}"),
}
"""How such files begin, what they are, and what makes text of them."""


def plain(stream: Iterable[bytes], log: str) -> Iterator[bytes]:
    """``stream``, the bytes of ``log``. Raises UsageError with the command to use where it begins as no text does."""
    start = True
    for data in stream:
        if start:
            _check(data, log)
            start = False
        yield data


def _check(data: bytes, log: str) -> None:
    for mark, (what, by) in _UNPACKED_BY.items():
        if data.startswith(mark):
            text = by.format("FILE" if log == "-" else shlex.quote(log))
            asked = click.get_current_context().info_name
            raise UsageError(f"cannot read {log}: it is {what}; use: {text} | dmaproof {asked} -")
