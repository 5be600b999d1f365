"""A guest's QEMU, on the node that it is made on: what to start, and its start in a folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import DmaproofError
from dmaproof.guest import port
from dmaproof.guest.events import MAPS, SHUTDOWN
from dmaproof.guest.folder import AGENT, CONSOLE, CONTROL, QEMU_LOG, TRACE
from dmaproof.guest.memory import Pages
from dmaproof.parent import die_with_parent
from dmaproof.rig.hardware import Disk
from dmaproof.vfio.plan import NOTHING, Permission

_BY_IO_PORTS = ",modern-pio-notify=on"
"""Virtio that is rung by I/O ports. A ring by MMIO has to be emulated, and QEMU's own SVM leaves the type of a guest's
last exception in EXITINTINFO (handle_even_inj, target/i386/tcg), by which KVM takes the ring for one in the midst of an
event, and stops the guest: KVM_INTERNAL_ERROR_DELIVERY_EV."""
QMP, EVENTS = "qmp.sock", "events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What to start: ``command`` is QEMU's, complete but for accelerator, processor and agent ports. ``bridged``: the
    guest's ports are to be joined to ports of the same name that this system has itself. ``folder`` is where QEMU is to
    work (nothing: a new one). ``may``: what may be taken for ``functions`` although that system seems to need it.
    ``pages`` are the huge pages that its memory takes, ``numa_node`` is where its processors are; QEMU answers within
    ``answers_in_s`` seconds. ``disk`` is what it is filled from, if it is, its files' names complete."""

    command: tuple[str, ...]
    functions: tuple[str, ...]
    accelerated: bool
    cpu: str
    bridged: bool
    folder: str
    may: Permission = NOTHING
    pages: Pages | None = None
    numa_node: int | None = None
    answers_in_s: float
    disk: Disk | None = None


def virtio(*, bridged: bool, accelerated: bool) -> str:
    """What the options of a guest's virtio devices end with."""
    return _BY_IO_PORTS if bridged and accelerated else ""


def command(machine: Machine) -> list[str]:
    """QEMU's, complete: file names in it are of the folder that it is to be started in. Raises DmaproofError where this
    system has not the ports that ``machine``'s are to be joined to."""
    return [
        *machine.command,
        *("-accel", "kvm" if machine.accelerated else "tcg", "-cpu", machine.cpu),
        *_agent_ports(machine),
        *("-qmp", f"unix:{QMP},server=on,wait=off", "-serial", f"file:{CONSOLE}"),
        *("-trace", f"events={EVENTS}", "-D", TRACE),
    ]


def start_qemu(machine: Machine, folder: Path) -> subprocess.Popen[bytes]:
    """QEMU in ``folder``, a child of this process that does not outlive it. Raises as ``command`` does."""
    (folder / AGENT).mkdir(exist_ok=True)
    (folder / EVENTS).write_text("".join(f"{one}\n" for one in (*MAPS, SHUTDOWN)), encoding="utf-8")
    with (folder / QEMU_LOG).open("wb") as log:
        return subprocess.Popen(
            command(machine),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A disk's temporary file goes to /var/tmp where this names no other (block.c, create_tmp_file), which a
            # lab host has read-only.
            env={**os.environ, "TMPDIR": os.fspath(folder)} if machine.bridged else None,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no other thread forks
        )


def _agent_ports(machine: Machine) -> Sequence[str]:
    """One for the run's process, one for the keeper's listener: by sockets, or joined to this system's own ports."""
    bridged = machine.bridged
    modern = virtio(bridged=bridged, accelerated=machine.accelerated)
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
