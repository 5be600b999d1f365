"""What a worker does on the node that a guest is made on: takes the functions, keeps QEMU, and gives all back.

QEMU is the worker's child and dies with it; the functions stay with vfio-pci then, and the next start on that node puts
them back (dmaproof.vfio.restore).
"""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmaproof.errors import DmaproofError
from dmaproof.guest import accel, port
from dmaproof.guest.console import last_words
from dmaproof.guest.folder import AGENT, CONSOLE, CONTROL, QEMU_LOG, TRACE
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program
from dmaproof.guest.qmp import Monitor
from dmaproof.vfio.bind import bound

EVENTS = ("vfio_device_*", "vfio_listener_*", "vfio_region_*", "vfio_msix_*", "iommufd_*", "pci_update_mappings_*")
"""What QEMU is asked to trace (dmaproof.guest.audit.trace). A pattern that a QEMU has no event for is no error."""
_BY_IO_PORTS = ",modern-pio-notify=on"
"""Virtio that is rung by I/O ports. A ring by MMIO has to be emulated, and QEMU's own SVM leaves the type of a guest's
last exception in EXITINTINFO (handle_even_inj, target/i386/tcg), by which KVM takes the ring for one in the midst of an
event, and stops the guest: KVM_INTERNAL_ERROR_DELIVERY_EV."""
_QMP = "qmp.sock"
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_QMP_S, _QUIT_S, _KILL_S, _STEP_S = 20.0, 5.0, 5.0, 0.05
_TEXT_NBYTES = 16 << 20
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What to start: ``command`` is QEMU's, complete but for accelerator and agent ports; ``cpu`` is for KVM.
    ``bridged``: the guest's ports are to be joined to ports of the same name that this system has itself."""

    command: tuple[str, ...]
    functions: tuple[str, ...]
    accelerated: bool
    cpu: str
    bridged: bool
    folder: str


@dataclass(frozen=True, slots=True)
class State:
    """Whether QEMU runs (its exit status where not), what it and the console said last, its answer to query-pci (JSON;
    nothing where it does not answer any more), and its trace until then."""

    status: int | None
    last_words: str
    pci: str
    trace: str


@dataclass(frozen=True, slots=True)
class End:
    """What is left of a guest: texts of QEMU, of its trace, of the console, and its last answer to query-pci."""

    said: str
    trace: str
    console: str
    pci: str


class _Kept:
    """The guest of this process."""

    def __init__(self, machine: Machine) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dmaproof-guest-", dir=machine.folder or None))
        self._undo = ExitStack()
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self._undo.enter_context(bound(machine.functions))
            self.qemu = _start(machine, self.folder)
            self._undo.callback(_kill, self.qemu)
        except BaseException:
            self._undo.close()
            raise

    def pci(self) -> str:
        """QEMU's answer to query-pci as JSON; nothing where it does not answer any more."""
        try:
            with Monitor(self.folder / _QMP, _QMP_S) as monitor:
                return json.dumps(monitor.ask("query-pci"))
        except DmaproofError:
            return ""

    def end(self) -> End:
        pci = self.pci()
        with suppress(DmaproofError), Monitor(self.folder / _QMP, _QUIT_S) as monitor:
            monitor.ask("quit")
        with suppress(subprocess.TimeoutExpired):
            self.qemu.wait(_QUIT_S)
        said = End(_tail(self.folder / QEMU_LOG), _tail(self.folder / TRACE), _tail(self.folder / CONSOLE), pci)
        self._undo.close()
        return said


_kept: list[_Kept] = []


def can_accelerate(kernel: str, release: str, qemu: tuple[str, ...], version: str, arch: str) -> bool:
    """Whether KVM runs the kernel here (dmaproof.guest.accel)."""
    return accel.works(Kernel(Path(kernel), None, release, None), Program(qemu, version), arch)


def start(machine: Machine) -> State:
    """Start the guest, once; it is up to its agent to say that it came up. Raises DmaproofError where a function is
    refused, or QEMU ends at once."""
    if _kept:
        raise DmaproofError("this process keeps a guest already")
    _kept.append(kept := _Kept(machine))
    if not _answers(kept):
        words = last_words(kept.folder)
        _kept.clear()
        kept.end()
        raise DmaproofError(f"QEMU ended at once or does not answer (status {kept.qemu.poll()}){words}")
    return look()


def look() -> State:
    """How the guest is. Raises DmaproofError where there is none."""
    if not _kept:
        raise DmaproofError("this process keeps no guest")
    kept = _kept[0]
    pci = kept.pci()
    trace = _tail(kept.folder / TRACE) + _tail(kept.folder / QEMU_LOG)  # what failed is told on standard error
    return State(kept.qemu.poll(), last_words(kept.folder), pci, trace)


def stop() -> End:
    """End the guest, and give its functions back. Raises DmaproofError naming what could not be given back."""
    if not _kept:
        return End("", "", "", "")
    return _kept.pop().end()


def _answers(kept: _Kept) -> bool:
    until = time.monotonic() + _QMP_S
    while kept.qemu.poll() is None and time.monotonic() < until:
        if (kept.folder / _QMP).exists() and kept.pci():
            return True
        time.sleep(_STEP_S)
    return False


def _start(machine: Machine, folder: Path) -> subprocess.Popen[bytes]:
    (folder / AGENT).mkdir()
    (folder / "events").write_text("".join(f"{one}\n" for one in EVENTS), encoding="utf-8")
    speed = ("-accel", "kvm", "-cpu", machine.cpu) if machine.accelerated else ("-accel", "tcg")
    command = [
        *machine.command,
        *speed,
        *_agent_ports(machine),
        *("-qmp", f"unix:{_QMP},server=on,wait=off", "-serial", f"file:{CONSOLE}"),
        *("-trace", "events=events", "-D", TRACE),
    ]
    with (folder / QEMU_LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - no other thread forks
        )


def _agent_ports(machine: Machine) -> Sequence[str]:
    """One for the run's process, one for the keeper's listener: by sockets, or joined to this system's own ports."""
    bridged = machine.bridged
    modern = _BY_IO_PORTS if bridged and machine.accelerated else ""
    options = ["-device", f"virtio-serial-pci,id=dmaproof,bus=pcie.0,max_ports=16{modern}"]
    here = port.named(port.BRIDGED) if bridged else {}
    for name, file in ((f"{port.PREFIX}0", f"{AGENT}/0.sock"), (port.CONTROL, CONTROL)):
        bridge = here.get(name.replace(port.PREFIX, port.BRIDGED, 1))
        if bridged and bridge is None:
            raise DmaproofError(f"this system has no virtio-serial port to join a guest's {name} to")
        end = f"pipe,path={bridge}" if bridge else f"socket,path={file},server=on,wait=off"
        options += ["-chardev", f"{end},id={name}"]
        options += ["-device", f"virtserialport,bus=dmaproof.0,chardev={name},name={name}"]
    return options


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
