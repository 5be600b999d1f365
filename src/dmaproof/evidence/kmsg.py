"""The live kernel log: ``/dev/kmsg`` (Documentation/ABI/testing/dev-kmsg), or a regular file that grows like it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dmaproof import bdf
from dmaproof.errors import UsageError
from dmaproof.evidence.decode import LogDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.kernel_clock import KernelClock
from dmaproof.evidence.lines import Line, record

SOURCE = "kmsg"
_READ_NBYTES = 1 << 16  # a record that does not fit into a read is EINVAL
_KEEP_NBYTES = 1 << 16  # of a record whose end does not come
_SILENCE_S = 0.1  # after which a report of several lines has no more to come
_LONGEST_POLL_S = 1.0  # a log that is flooded must not hold the caller
_TELLING = re.compile(r"NVRM|nvidia|DMAR|AMD-Vi|smmu|pcieport|\bAER\b|vfio", re.IGNORECASE)
_RECORD_END = re.compile(rb"\n(?! )")  # continuation lines begin with a space


class KmsgReader:
    """Reads from ``path`` what is logged from now on, without ever waiting.

    ``poll`` gives Evidence: a decoded event under the event's own kind; ``kernel-line`` for a line that nobody decodes
    but that speaks of GPUs, IOMMUs or PCIe errors; ``records-lost`` with ``data["count"]`` (None: unknown). Other lines
    are only counted (``lines``, ``ignored``). ``time_s`` lies on CLOCK_MONOTONIC with its uncertainty, as
    dmaproof.evidence.kernel_clock.KernelClock places it: the fewer the moments between polls, the better.
    ``data`` holds ``kernel_s`` (the record's own stamp), ``arrival_s`` (CLOCK_MONOTONIC of the read), ``sequence``,
    ``priority``, and a record's continuation lines (``SUBSYSTEM``, ``DEVICE``; ``bdf`` where the device is a PCI one).

    What hinders reading becomes a sentence in ``blind_spots``, never an exception.
    """

    def __init__(self, path: Path, node: str) -> None:
        self.path, self.node = path, node
        self.lines = self.ignored = 0
        self.blind_spots: tuple[str, ...] = ()
        self._decoder, self._clock = LogDecoder(), KernelClock()
        self._kept = b""
        self._expected: int | None = None
        self._overrun = False
        self._seen_empty_s = self._empty_s = time.monotonic()  # as of the last poll, and in the poll going on
        self._last, self._last_s = Line(text="", raw=""), 0.0
        self._fd: int | None = None
        self._open()

    def _open(self) -> None:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self._go_blind(error)

    def _go_blind(self, error: OSError) -> None:
        way_out = ": run as root, or give CAP_SYSLOG" if isinstance(error, PermissionError) else ""
        reason = error.strerror or type(error).__name__
        self.blind_spots += (f"{self.path} cannot be read ({reason}), no kernel line is seen{way_out}",)
        self.close()

    def withhold(self, reason: str) -> None:
        """See nothing from now on; ``reason`` is a blind spot."""
        self.blind_spots += (reason,)
        self.close()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def settles_in_s(self) -> float:
        """How long until a report of several lines that has begun is given, should nothing more come."""
        return max(0.0, self._last_s + _SILENCE_S - time.monotonic())

    def poll(self) -> list[Evidence]:
        """All that was logged since the last poll; when the log is flooded, what a second's reading brings. A report of
        several lines is given when it is whole, or after a silence."""
        found: list[Evidence] = []
        if self._fd is None:
            return found
        started = time.monotonic()
        for data in self._reads(started + _LONGEST_POLL_S):
            arrival = time.monotonic()
            for piece in self._records(data):
                found += self._of_record(piece, arrival)
        found += self._end_of_poll()
        self._seen_empty_s = self._empty_s
        return found

    def _reads(self, until_s: float) -> Iterator[bytes]:
        while self._fd is not None and time.monotonic() < until_s:
            asked = time.monotonic()
            try:
                data = os.read(self._fd, _READ_NBYTES)
            except BlockingIOError:
                data = b""
            except BrokenPipeError:  # EPIPE: the record that came next has been overwritten
                self._overrun = True
                continue
            except OSError as error:
                self._go_blind(error)
                return
            if not data:
                self._empty_s = asked
                self._rewind_if_cut()
                return
            yield data

    def _rewind_if_cut(self) -> None:
        """A regular file that is shorter than what was read of it was written anew: read it from its start."""
        if self._fd is None:
            return
        nbytes = os.fstat(self._fd).st_size
        if 0 < nbytes < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._overrun, self._expected, self._kept = True, None, b""

    def _records(self, data: bytes) -> list[bytes]:
        """Whole records in what was kept and ``data``. The last one counts as whole when its line is: its writer
        writes it at once, and the device gives one record a read."""
        *whole, last = _RECORD_END.split(self._kept + data)
        self._kept = last[:_KEEP_NBYTES]
        return [piece for piece in whole if piece and not piece.startswith(b" ")]

    def _of_record(self, piece: bytes, arrival: float) -> list[Evidence]:
        found: list[Evidence] = []
        for line in record(piece):
            if line.sequence is not None:
                found += self._loss_before(line.sequence, arrival)
            found += self._of_line(line, arrival)
        return found

    def _loss_before(self, sequence: int, arrival: float) -> list[Evidence]:
        expected, self._expected = self._expected, sequence + 1
        if expected == sequence + 1:  # a further line of the same record
            return []
        count = None if expected is None or sequence < expected else sequence - expected
        lost = self._overrun or (count is not None and count > 0)
        self._overrun = False
        return [self._lost(count, arrival)] if lost else []

    def _of_line(self, line: Line, arrival: float) -> list[Evidence]:
        self.lines += 1
        events = self._decoder.feed(line)
        self._last, self._last_s = line, arrival
        if events is None and _TELLING.search(line.text):
            return [self._evidence("kernel-line", line, arrival)]
        self.ignored += events is None
        return [self._evidence(event.kind, line, arrival, event) for event in events or ()]

    def _end_of_poll(self) -> list[Evidence]:
        now = time.monotonic()
        waiting = self._decoder.finish() if now - self._last_s >= _SILENCE_S else ()
        found = [self._evidence(event.kind, self._last, now, event) for event in waiting]
        if self._overrun:
            self._overrun, self._expected = False, None
            found.append(self._lost(None, now))
        return found

    def _evidence(self, kind: str, line: Line, arrival: float, event: Event | None = None) -> Evidence:
        time_s, uncertainty_s = self._when(line.time, arrival)
        return Evidence(
            source=SOURCE,
            node=self.node,
            kind=kind,
            text=event.text if event is not None else line.text,
            event=event,
            data=_data(line, arrival),
            time_s=time_s,
            uncertainty_s=uncertainty_s,
        )

    def _lost(self, count: int | None, arrival: float) -> Evidence:
        time_s, uncertainty_s = self._when(None, arrival)
        how_many = "an unknown number of" if count is None else str(count)
        return Evidence(
            source=SOURCE,
            node=self.node,
            kind="records-lost",
            text=f"{how_many} kernel log records were lost before they could be read",
            data={"count": count, "arrival_s": arrival},
            time_s=time_s,
            uncertainty_s=uncertainty_s,
        )

    def _when(self, kernel_s: float | None, arrival: float) -> tuple[float, float]:
        if kernel_s is None:
            return (self._seen_empty_s + arrival) / 2, (arrival - self._seen_empty_s) / 2
        return self._clock.place(kernel_s, self._seen_empty_s, arrival)


def _data(line: Line, arrival: float) -> dict[str, Any]:
    data: dict[str, Any] = {
        **line.data,
        "kernel_s": line.time,
        "arrival_s": arrival,
        "sequence": line.sequence,
        "priority": line.priority,
    }
    subsystem, _, device = line.data.get("DEVICE", "").partition(":")
    if subsystem == "+pci":
        try:
            data["bdf"] = bdf.parse(device)
        except UsageError:  # no address: the line says so as it stands
            pass
    return data
