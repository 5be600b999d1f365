"""A guest as a node: made by QEMU on another, with endpoints of that one assigned, for as long as the context lasts.

A worker on the other node keeps it (dmaproof.guest.hosting), so it is the same whether that node is this system or a
lab's. The guest's agent is reached by sockets of the guest's folder here: QEMU's own, or those of the lab host's ports
that the guest's are joined to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dmaproof.errors import DmaproofError, NodeError, RigError
from dmaproof.guest import hosting, initramfs, kernel, program, userland
from dmaproof.guest.audit import bars
from dmaproof.guest.audit.audit import Asked, audit
from dmaproof.guest.audit.finding import Audit
from dmaproof.guest.audit.trace import of_chunks
from dmaproof.guest.boot_initramfs import PARAMETERS
from dmaproof.guest.folder import AGENT, CONSOLE, CONTROL, QEMU_LOG, ROOT, TRACE
from dmaproof.guest.hosting import End, Machine
from dmaproof.guest.kept import kept
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program
from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker, hang_up, line
from dmaproof.node.worker import Worker
from dmaproof.rig.hardware import Endpoint, Qemu
from dmaproof.rig.model import Node as RigNode
from dmaproof.rig.model import Rig

BOOT_S = 120.0
"""How long a guest may take to come up, before the rig's scale: in a lab host it is emulated by what is emulated."""
PCI = "query-pci.json"
_START_S, _STOP_S, _TRIAL_S = 90.0, 60.0, 60.0
_INITRD = "initrd"
_CPU, _CPU_IN_A_LAB = "host", "host,tsc-deadline=off"
"""On a processor whose SVM QEMU emulates, a guest's TSC deadline timer never fires: it sleeps, and does not wake."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a guest is made of, on every side of it: ``node`` as the rig has it, ``folder`` its own, ``initrd`` where
    its kernel's first file system is, for both systems."""

    node: RigNode
    folder: Path
    initrd: Path
    image: Kernel
    qemu: Program


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that is up: the ``node`` that it is. ``assigned`` are its functions on the node that it is made on, by
    their addresses in the guest."""

    node: Node
    assigned: Mapping[str, str]
    _keeper: Worker | RemoteWorker

    def audit(self) -> Audit:
        """What stage 2 holds of its device memory now, by QEMU's trace, against where QEMU says that the guest has
        its BARs. Raises DmaproofError where nobody answers any more."""
        state = self._keeper.run(hosting.look, deadline=Deadline.after(_STOP_S))
        functions = bars.of_query(json.loads(state.pci)) if state.pci else None
        hosts = {guest.removeprefix("0000:"): host for guest, host in self.assigned.items()}
        return audit(of_chunks([state.trace.encode()]), Asked(functions=functions, hosts=hosts))


@contextmanager
def prepared(rig: Rig, workdir: Path) -> Iterator[dict[str, Place]]:
    """What the guests of ``rig`` are made of, and what they boot from, written under ``workdir``: before a lab host
    boots, so that its root file system has it.

    Raises UsageError with the command that supplies what is not there.
    """
    made = [node for node in rig.nodes if node.guest is not None]
    with ExitStack() as stack:
        if made:
            workdir.mkdir(parents=True, exist_ok=True)
        yield {node.name: _prepare(node, workdir.absolute(), stack) for node in made}


def _prepare(node: RigNode, workdir: Path, stack: ExitStack) -> Place:
    qemu = node.qemu or Qemu()
    image, by = kernel.choose(qemu.kernel, qemu.arch), program.find(qemu.arch)
    initrd = workdir / f"{_INITRD}-{image.release}"
    if not initrd.exists():
        stack.callback(_remove, initrd)
        initramfs.write(initrd, userland.find(qemu.arch), image)
    return Place(node, workdir / node.name, initrd, image, by)


def _remove(initrd: Path) -> None:
    initrd.unlink(missing_ok=True)
    with suppress(OSError):  # the folders of other nodes are in it
        initrd.parent.rmdir()


@contextmanager
def provision(rig: Rig, place: Place, host: Node, run_id: str, keep: Path) -> Iterator[Guest]:
    """The guest of ``place`` on ``host``, up. Afterwards, what QEMU, its trace and the console said is in folder
    ``keep``, as NODE.FILE.

    Raises NodeError where it does not come up, with what was said last; DmaproofError where a function is refused.
    """
    scale = rig.deadline.scale
    with ExitStack() as stack:
        place.folder.mkdir()
        stack.callback(shutil.rmtree, place.folder, ignore_errors=True)
        worker = _worker(host, keep, run_id)
        stack.callback(worker.stop)
        accelerated = _accelerated(worker, host, place, scale)
        speed = "with KVM" if accelerated else "processor emulated"
        told = f"{place.node.name}: Linux {place.image.release} on QEMU {place.qemu.version} on {host.name}, {speed}"
        with Console(stderr=True).status(f"booting {told}"):
            agent = _agent(host, place)
            ready = stack.enter_context(kept(place.folder, BOOT_S * scale, ()))
            if host.agent is not None:  # a port that nobody listens to says that its other end is gone, for good
                stack.callback(hang_up, agent)
                line(agent, 0)
            machine = _machine(rig, place, host, accelerated)
            worker.run(hosting.start, deadline=Deadline.after(_START_S * scale), machine=machine)
            stack.callback(_end, worker, keep / place.node.name, scale)
            try:
                ready()
            except NodeError as error:
                raise NodeError(f"{error}{_last(worker)}") from None
        node = Node(place.node.name, place.folder / ROOT, {}, agent, (told,))
        yield Guest(node, {one.bdf: bdf for one, bdf in _assigned(rig, place.node)}, worker)


def _worker(host: Node, folder: Path, run_id: str) -> Worker | RemoteWorker:
    kind = Worker if host.agent is None else RemoteWorker
    return kind(host, folder, run_id=run_id)


def _accelerated(worker: Worker | RemoteWorker, host: Node, place: Place, scale: float) -> bool:
    """Never on a lab host where accesses to BARs are trapped: KVM on a processor whose SVM QEMU emulates takes such an
    access for one in the middle of an interrupt, and stops the guest (KVM_INTERNAL_ERROR_DELIVERY_EV)."""
    if host.agent is not None and place.node.guest is not None and place.node.guest.no_mmap:
        return False
    return worker.run(
        hosting.can_accelerate,
        deadline=Deadline.after(_TRIAL_S * scale),
        kernel=str(place.image.path),
        release=place.image.release,
        qemu=place.qemu.argv,
        version=place.qemu.version,
        arch=(place.node.qemu or Qemu()).arch,
    )


def _agent(host: Node, place: Place) -> Path:
    """The folder of the guest's sockets, where those of a lab host's bridged ports are linked into it."""
    agent = place.folder / AGENT
    agent.mkdir()
    if host.agent is not None:
        lab = host.agent.parent
        for link, name in ((agent / "0.sock", "0"), (place.folder / CONTROL, "control")):
            link.symlink_to(lab / AGENT / f"guest-{name}.sock")
    return agent


def _machine(rig: Rig, place: Place, host: Node, accelerated: bool) -> Machine:
    """What the worker starts: all but what only the other node knows."""
    node, assigned = place.node, {one.name: bdf for one, bdf in _assigned(rig, place.node)}
    emulated = () if accelerated else ("no_timer_check",)
    parameters = ("console=ttyS0", *PARAMETERS, *emulated, *kernel_parameters(node), *node.parameters)
    return Machine(
        command=(
            *place.qemu.argv,
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *arguments(node, assigned),
            *("-kernel", str(place.image.path), "-initrd", str(place.initrd), "-append", " ".join(parameters)),
            *(node.guest.arguments if node.guest is not None else ()),
        ),
        functions=tuple(assigned.values()),
        accelerated=accelerated,
        cpu=_CPU if host.agent is None else _CPU_IN_A_LAB,
        bridged=host.agent is not None,
        folder="" if host.agent is not None else str(place.folder),
    )


def _assigned(rig: Rig, node: RigNode) -> Iterator[tuple[Endpoint, str]]:
    """The guest's endpoints, each with its address on the node that the guest is made on."""
    if node.guest is None:
        raise RigError(f"{rig.id}: node.{node.name} has no guest table")
    host = rig.node[node.guest.on]
    yield from ((one, host.endpoint[one.name].bdf) for one in node.endpoints)


def _last(worker: Worker | RemoteWorker) -> str:
    try:
        state = worker.run(hosting.look, deadline=Deadline.after(_STOP_S))
    except DmaproofError as error:
        return f"; {error}"
    return state.last_words if state.status is None else f"; QEMU ended (status {state.status}){state.last_words}"


def _end(worker: Worker | RemoteWorker, keep: Path, scale: float) -> None:
    """Also where the guest, or the node it is on, is gone: then nothing more is told of it."""
    try:
        end = worker.run(hosting.stop, deadline=Deadline.after(_STOP_S * scale))
    except DmaproofError as error:
        end = End(f"{error}\n", "", "", "")
    for name, text in ((QEMU_LOG, end.said), (TRACE, end.trace), (CONSOLE, end.console), (PCI, end.pci)):
        if text:
            keep.with_name(f"{keep.name}.{name}").write_text(text, encoding="utf-8")
