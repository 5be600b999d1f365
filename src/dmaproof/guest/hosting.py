"""What a worker does on the node that a guest is made on: takes the functions, keeps QEMU, and gives all back.

QEMU is the worker's child and dies with it; the functions stay with vfio-pci then, and the next start on that node puts
them back (dmaproof.vfio.restore).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmaproof.errors import DmaproofError, NodeError
from dmaproof.guest import accel, disk, flood, hugepages, numa
from dmaproof.guest.console import last_words, tail
from dmaproof.guest.flood import Spoken
from dmaproof.guest.folder import CONSOLE, QEMU_LOG, TRACE
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.machine import QMP, Machine, start_qemu
from dmaproof.guest.program import Program
from dmaproof.guest.qmp import Monitor
from dmaproof.node.deadline import Deadline
from dmaproof.vfio.bind import bound, kept_journal
from dmaproof.vfio.journal import FOLDER, Journal
from dmaproof.vfio.restore import replay

_QMP_S, _QUIT_S, _KILL_S, _STEP_S = 20.0, 5.0, 5.0, 0.05
_TEXT_NBYTES = 16 << 20
_NOT_SEEN = " on the lab host: it sees the files of the system it runs on, but not those below /dev, /proc, /run, /sys"


@dataclass(frozen=True, slots=True)
class State:
    """Whether QEMU runs (its exit status where not), what it and the console said last, its answer to query-pci (JSON;
    nothing where it does not answer any more), its trace until then, and the end of the console."""

    status: int | None
    last_words: str
    pci: str
    trace: str
    console: str


@dataclass(frozen=True, slots=True)
class End:
    """What is left of a guest: texts of QEMU, of its trace, of the console, and its last answer to query-pci."""

    said: str
    trace: str
    console: str
    pci: str


class NoGuest(DmaproofError):  # noqa: N818 - an outcome
    """This process keeps no guest: not yet, or not any more, or another did that has been killed."""


class _Kept:
    """The guest of this process."""

    def __init__(self, machine: Machine) -> None:
        self._undo = ExitStack()
        self.disk = machine.disk
        if machine.folder:  # whoever made it removes it
            self.folder = Path(machine.folder)
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="dmaproof-guest-"))
            self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            if machine.functions or machine.pages is not None:  # else nothing here is changed
                ours = self._undo.enter_context(_changes(machine))
                if machine.pages is not None:
                    hugepages.reserve(ours, machine.pages)
            with numa.on(machine.numa_node):
                self.qemu = start_qemu(machine, self.folder)
            self._undo.callback(_kill, self.qemu)
            self._undo.enter_context(flood.thinned(self.folder))
        except BaseException:
            self._undo.close()
            raise

    def pci(self) -> str:
        """QEMU's answer to query-pci as JSON; nothing where it does not answer any more."""
        try:
            with Monitor(self.folder / QMP, _QMP_S) as monitor:
                return json.dumps(monitor.ask("query-pci"))
        except DmaproofError:
            return ""

    def end(self) -> End:
        pci = self.pci()
        with suppress(DmaproofError), Monitor(self.folder / QMP, _QUIT_S) as monitor:
            monitor.ask("quit")
        with suppress(subprocess.TimeoutExpired):
            self.qemu.wait(_QUIT_S)
        said = End(_tail(self.folder / QEMU_LOG), _tail(self.folder / TRACE), _tail(self.folder / CONSOLE), pci)
        self._undo.close()
        return said


def _changes(machine: Machine) -> AbstractContextManager[Journal]:
    if machine.functions:
        return bound(machine.functions, may=machine.may)
    replay()
    return kept_journal()


_kept: list[_Kept] = []


def can_accelerate(kernel: str, release: str, qemu: tuple[str, ...], version: str, arch: str) -> bool:
    """Whether KVM runs the kernel here (dmaproof.guest.accel)."""
    return accel.works(Kernel(Path(kernel), None, release, None), Program(qemu, version), arch)


def start(machine: Machine) -> State:
    """Start the guest, once; it is up to its agent to say that it came up. Raises DmaproofError where a function is
    refused, a disk's files are not there, or QEMU ends at once."""
    if _kept:
        raise DmaproofError("this process keeps a guest already")
    if (lacks := lacking(machine)) is not None:
        raise DmaproofError(lacks)
    _kept.append(kept := _Kept(machine))
    if not _answers(kept, machine.answers_in_s):
        words = last_words(kept.folder)
        _kept.clear()
        kept.end()
        raise DmaproofError(f"QEMU ended at once or does not answer (status {kept.qemu.poll()}){words}")
    return look()


def _guest() -> _Kept:
    if not _kept:
        raise NoGuest("this process keeps no guest: the one that kept it has ended, and QEMU with it")
    return _kept[0]


def look() -> State:
    """How the guest is. Raises NoGuest."""
    kept = _guest()
    pci = kept.pci()
    trace = _tail(kept.folder / TRACE) + _tail(kept.folder / QEMU_LOG)  # what failed is told on standard error
    return State(kept.qemu.poll(), last_words(kept.folder), pci, trace, tail(kept.folder))


def lacking(machine: Machine) -> str | None:
    """What this system lacks for the disk that ``machine`` is filled from; None where it has all, or there is none."""
    lacks = disk.lacking(machine.disk) if machine.disk is not None else None
    return f"{lacks}{_NOT_SEEN}" if lacks is not None and machine.bridged else lacks


def start_agent(within_s: float) -> None:
    """Have the agent of a guest with a disk image run, which takes until its SSH server answers. Raises NoGuest;
    NodeError, after ``within_s`` at the latest, with what ssh said last, or where QEMU has ended meanwhile."""
    from dmaproof.guest import over_ssh  # of no use to other guests: an emulated processor takes its time over it

    kept, until = _guest(), Deadline.after(within_s)
    assert kept.disk is not None  # noqa: S101 - whoever asks has looked

    def still_up() -> None:
        if kept.qemu.poll() is not None:
            raise NodeError("QEMU ended while the machine was booting")

    over_ssh.start_agent(kept.disk, _way_in(kept), kept.folder, until, still_up)


def _way_in(kept: _Kept) -> int:
    """The port of this system that is the SSH server's of the guest. Raises NodeError where QEMU names none."""
    with Monitor(kept.folder / QMP, _QMP_S) as monitor:
        return disk.forwarded(monitor.ask("human-monitor-command", **{"command-line": "info usernet"}))


def console() -> Spoken:
    """How much the guest has put on its console, and puts on it now. Raises NoGuest."""
    return flood.spoken(_guest().folder)


def stop() -> End:
    """End the guest, and give its functions back. Raises DmaproofError naming what could not be given back."""
    if not _kept:  # there was none, or the process that kept it was killed
        if FOLDER.is_dir():
            replay()
        return End("", "", "", "")
    return _kept.pop().end()


def _answers(kept: _Kept, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while kept.qemu.poll() is None and time.monotonic() < until:
        if (kept.folder / QMP).exists() and kept.pci():
            return True
        time.sleep(_STEP_S)
    return False


def _kill(qemu: subprocess.Popen[Any]) -> None:
    qemu.kill()
    with suppress(subprocess.TimeoutExpired):
        qemu.wait(_KILL_S)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TEXT_NBYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
