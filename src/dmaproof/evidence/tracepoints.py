"""Tracepoints that tell of faults, read from a trace instance of one's own; the global buffer is never touched.

``iommu:io_page_fault`` (include/trace/events/iommu.h) fires where a driver calls report_iommu_fault: AMD-Vi and
SMMUv2, never VT-d or SMMUv3. ``ras:aer_event`` (include/ras/ras_event.h) fires before the log's rate limit.
``nvidia:nvidia_dev_xid`` (kernel-open/nvidia/nv-tracepoint.h) fires also where the driver prints no line.

Instances are Documentation/trace/ftrace.rst. One that a killed process left behind is removed by the next: the kernel
refuses that (EBUSY) while somebody holds its trace_pipe open. Its clock is set to CLOCK_MONOTONIC, so times are exact.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.trace_lines import parse

SOURCE = "tracepoints"
EVENTS = ("iommu:io_page_fault", "ras:aer_event", "nvidia:nvidia_dev_xid")
NEVER = "the tracepoint iommu:io_page_fault never fires for VT-d or SMMUv3"
_INSTANCES = Path("sys/kernel/tracing/instances")
_PREFIX = "dmaproof-"
_READ_NBYTES = 1 << 16
_LONGEST_POLL_S = 1.0
_LONGEST_LINE_NBYTES = 1 << 16
_STAMP_S = 1e-6  # what a printed time stamp resolves
_LOST = re.compile(r"^CPU:\d+ \[LOST (?P<count>\d+) EVENTS\]$")


class Tracepoints:
    """Reads EVENTS of ``root`` from now on, without ever waiting.

    ``poll`` gives Evidence of the event's own kind, and ``records-lost`` where the buffer was too small. ``time_s`` is
    exact where the instance's clock could be set, else it lies between two polls. What hinders reading becomes one
    sentence in ``blind_spots``, never an exception.
    """

    def __init__(self, root: Path, node: str) -> None:
        self.node = node
        self.blind_spots: tuple[str, ...] = ()
        self._folder = root / _INSTANCES / f"{_PREFIX}{os.getpid()}"
        self._pipe: int | None = None
        self._kept, self._exact, self._polled_s = b"", False, time.monotonic()
        self._made = False
        try:
            self._open()
        except OSError as error:
            self._go_blind(_missing(root, error))
            self.close()

    def _open(self) -> None:
        _remove_left_behind(self._folder.parent)
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir()
        self._made = True
        self._exact = _write(self._folder / "trace_clock", "mono")
        _write(self._folder / "buffer_size_kb", "64")  # a CPU; the default is over a megabyte
        absent = [
            name for name in EVENTS if not _write(self._folder / "events" / name.replace(":", "/") / "enable", "1")
        ]
        if len(absent) == len(EVENTS):
            raise FileNotFoundError(errno.ENOENT, f"none of {', '.join(EVENTS)}")
        self._pipe = os.open(self._folder / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if absent:
            self._go_blind(f"no such tracepoint here, or not for this user: {', '.join(absent)}; {NEVER}")

    def _go_blind(self, sentence: str) -> None:
        self.blind_spots += (sentence,)

    def close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._made:
            self._made = False
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def poll(self) -> list[Evidence]:
        """All that was traced since the last poll; of a flood, what a second's reading brings."""
        found: list[Evidence] = []
        until = time.monotonic() + _LONGEST_POLL_S
        while self._pipe is not None and time.monotonic() < until and (data := self._read()):
            *whole, kept = (self._kept + data).split(b"\n")
            self._kept = kept[:_LONGEST_LINE_NBYTES]
            found += [one for line in whole for one in self._of_line(line.decode("utf-8", "replace"))]
        self._polled_s = time.monotonic()
        return found

    def _read(self) -> bytes:
        if self._pipe is None:
            return b""
        try:
            return os.read(self._pipe, _READ_NBYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._go_blind(f"tracepoints are no longer read: {error.strerror}")
            self.close()
            return b""

    def _of_line(self, line: str) -> Iterator[Evidence]:
        lost = _LOST.match(line)
        if lost is not None:
            text = f"{lost['count']} traced events were lost before they could be read"
            yield self._evidence(None, "records-lost", text, None, count=int(lost["count"]))
        found = parse(line)
        if found is not None:
            yield self._evidence(found[0], found[1].kind, found[1].text, found[1])

    def _evidence(self, stamp_s: float | None, kind: str, text: str, event: Event | None, **data: int) -> Evidence:
        now = time.monotonic()
        exact = stamp_s is not None and self._exact
        return Evidence(
            source=SOURCE,
            node=self.node,
            time_s=stamp_s if exact and stamp_s is not None else (self._polled_s + now) / 2,
            uncertainty_s=_STAMP_S if exact else (now - self._polled_s) / 2,
            kind=kind,
            text=text,
            event=event,
            data=data,
        )


def _missing(root: Path, error: OSError) -> str:
    """What is missing, and who could supply it."""
    reason = error.strerror or type(error).__name__
    if not (root / _INSTANCES).is_dir():
        reason = "no tracefs at /sys/kernel/tracing"
        if root == Path("/"):  # elsewhere it is a model of a machine: there is nothing to mount
            reason += "; as root: mount -t tracefs nodev /sys/kernel/tracing"
    elif isinstance(error, PermissionError):
        reason += "; run as root"
    return f"tracepoints are not read ({reason}); {NEVER}"


def _write(path: Path, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never O_CREAT: a folder that is no tracefs stays as it is
    except OSError:
        return False
    try:
        return os.write(fd, text.encode()) > 0
    except OSError:
        return False
    finally:
        os.close(fd)


def _remove_left_behind(instances: Path) -> None:
    """Instances of processes that were killed."""
    for folder in instances.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX)
        if pid.isdecimal() and not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
