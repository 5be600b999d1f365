"""A log of QEMU's trace events (``-trace .. -D FILE``, or stderr), read into the state that it ends with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dmaproof import inputs
from dmaproof.errors import UsageError
from dmaproof.guest.audit.acts import Match
from dmaproof.guest.audit.forms import BEGINNINGS, FORMS, OF_NO_MATTER, REFUSED, Form
from dmaproof.guest.audit.state import State
from dmaproof.guest.events import MAPS

_LONGEST_LINE = 1 << 16
_BY_NAME = {name.encode(): form for name, form in FORMS.items()}
_ANY = re.compile(
    b"|".join([rb"\b(" + name + rb")(?= )" for name in sorted(_BY_NAME, key=len, reverse=True)])
    + rb"|(vfio_(?:container_)?dma_map\(0x)"
)
_OTHERS = (b"vfio_", b"iommufd_", b"pci_")  # every event has one of these; a line of such an event holds no other
_SETUP = "vfio_region_setup"
WHAT_TO_TRACE = " ".join([*(f"-trace '{one}'" for one in MAPS), "2> FILE"])


@dataclass(slots=True)
class Trace:
    """``lines`` in all; ``names`` counts the events that were read. ``odd`` are lines of such events that are not as
    QEMU writes them (cut, or mixed with others); ``cut`` says that the last line has no end, and was left out.

    ``runs`` counts those of QEMU that the log holds; ``state`` is the last one's.
    """

    state: State = field(default_factory=State)
    lines: int = 0
    names: dict[str, int] = field(default_factory=dict)
    odd: int = 0
    cut: bool = False
    runs: int = 1

    def has(self, *prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in self.names)


def read(path: str | Path) -> Trace:
    """The trace in the file ``path``. Raises UsageError where it cannot be read, or holds none of these events."""
    try:
        found = of_chunks(inputs.chunks(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if not found.names:
        raise UsageError(
            f"{path} holds no trace event of QEMU's VFIO in {found.lines} lines: have QEMU write them with "
            f"{WHAT_TO_TRACE}"
        )
    return found


def of_chunks(chunks: Iterable[bytes]) -> Trace:
    """The trace in ``chunks`` of any size; any bytes will do."""
    trace = Trace()
    for line in _lines(chunks, trace):
        trace.lines += 1
        _take(trace, line)
    return trace


def _lines(chunks: Iterable[bytes], trace: Trace) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST_LINE:  # no event is so long; what comes of it is no event either
            trace.odd += _first_event(rest) is not None
            rest = rest[-1:]
    trace.cut = bool(rest)


def _take(trace: Trace, line: bytes) -> None:
    name = line.partition(b" ")[0].rpartition(b":")[2]
    form, at = _BY_NAME.get(name), len(line)
    if form is not None:
        at = line.index(b" ") if b" " in line else at
    elif name.startswith(_OTHERS) and b"(" not in name:
        return
    else:
        found = _first_event(line)
        if found is None:
            return
        form, name, at = found
    _apply(trace, form, name.decode(), line[at + 1 :].decode(errors="backslashreplace").rstrip("\r"))


def _first_event(line: bytes) -> tuple[Form, bytes, int] | None:
    """The first event in ``line``, whatever stands before it (a service's prefix): form, name, where the name ends."""
    match = _ANY.search(line) if any(word in line for word in _OTHERS) else None
    if match is None:
        return None
    name = match[0]
    if name in _BY_NAME:
        return _BY_NAME[name], name, match.end()
    return REFUSED, b"dma_map", match.start() - 1


def _apply(trace: Trace, form: Form, name: str, text: str) -> None:
    match = form.pattern.match(text) if form is REFUSED else form.pattern.fullmatch(text)
    if match is None:
        trace.odd += name not in OF_NO_MATTER and form is not REFUSED
        return
    if _is_of_another_run(trace.state, name, match):
        trace.state = State()
        trace.runs += 1
    trace.names[name] = trace.names.get(name, 0) + 1
    form.act(trace.state, match)


def _is_of_another_run(state: State, name: str, match: Match) -> bool:
    """Whether a device begins that is there already: QEMU was run again, and wrote into the same log."""
    if name == _SETUP:
        return (match["host"], int(match["index"])) in state.regions
    return name in BEGINNINGS and match["host"] in state.attached
