"""A guest as a node: made by QEMU on another, with endpoints of that one assigned, for as long as the context lasts.

A worker on the other node keeps it (dmaproof.guest.hosting), so it is the same whether that node is this system or a
lab's. The guest's agent is reached by sockets of the guest's folder here: QEMU's own, or those of the lab host's ports
that the guest's are joined to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dmaproof.errors import DmaproofError, NodeError, WorkloadFailed
from dmaproof.guest import hosting, memory
from dmaproof.guest.audit import bars
from dmaproof.guest.audit.audit import Asked, audit
from dmaproof.guest.audit.finding import Audit
from dmaproof.guest.audit.table import Table
from dmaproof.guest.audit.trace import of_chunks
from dmaproof.guest.fate import Fate, fate
from dmaproof.guest.flood import Spoken
from dmaproof.guest.folder import AGENT, CONSOLE, CONTROL, QEMU_LOG, ROOT, TRACE
from dmaproof.guest.foretell import Foretold, foretell
from dmaproof.guest.held import as_table, holdings
from dmaproof.guest.hosting import End
from dmaproof.guest.kept import kept
from dmaproof.guest.place import Place, machine
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker, hang_up, line
from dmaproof.node.worker import Worker
from dmaproof.rig.guests import assigned
from dmaproof.rig.model import Rig

BOOT_S, BOOT_EMULATED_S = 120.0, 400.0
"""How long a guest may take to come up, before the rig's scale: without KVM, on a lab host, it is emulated by what is
emulated."""
PCI = "query-pci.json"
_MOST_PAGES = 1 << 16
"""The kernel prints the IOMMU's tables a line a page: more take minutes, and hold a lock of the domain meanwhile."""
_START_S, _STOP_S, _TRIAL_S = 90.0, 60.0, 120.0


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that is up: the ``node`` that it is. ``assigned`` are its functions on the node that it is made on, by
    their addresses in the guest."""

    node: Node
    assigned: Mapping[str, str]
    _keeper: Worker | RemoteWorker
    _pages: int

    def fate(self) -> Fate:
        """What has become of it. Raises DmaproofError where nobody answers any more."""
        try:
            return fate(self.node.name, self._keeper.run(hosting.look, deadline=Deadline.after(_STOP_S)))
        except WorkloadFailed as error:
            if error.type_name != hosting.NoGuest.__name__:
                raise
            return Fate("was killed", f"QEMU of {self.node.name} was killed with the process that kept it")

    def console(self) -> Spoken:
        """How much it has put on its console. Raises DmaproofError where nobody answers for it any more."""
        return self._keeper.run(hosting.console, deadline=Deadline.after(_STOP_S))

    def audit(self) -> Audit:
        """What stage 2 holds of its device memory now, by the IOMMU's own tables where the kernel shows them in a
        reasonable time, else by QEMU's trace, against where QEMU says that the guest has its BARs. Raises DmaproofError
        where nobody answers any more."""
        state = self._keeper.run(hosting.look, deadline=Deadline.after(_STOP_S))
        functions = bars.of_query(json.loads(state.pci)) if state.pci else None
        hosts = {guest.removeprefix("0000:"): host for guest, host in self.assigned.items()}
        asked = Asked(functions=functions, hosts=hosts, tables=self._held())
        return audit(of_chunks([state.trace.encode()]), asked)

    def _held(self) -> tuple[Table, ...]:
        """All functions of one guest share an address space: each of the tables is as good as all."""
        if self._pages > _MOST_PAGES:
            return ()
        bdfs = list(self.assigned.values())
        return tuple(map(as_table, self._keeper.run(holdings, deadline=Deadline.after(_STOP_S), bdfs=bdfs)))


@contextmanager
def provision(rig: Rig, place: Place, host: Node, run_id: str, keep: Path) -> Iterator[Guest]:
    """The guest of ``place`` on ``host``, up. Afterwards, what QEMU, its trace and the console said is in folder
    ``keep``, as NODE.FILE.

    Raises NodeError where it does not come up, with what was said last; DmaproofError where a function is refused.
    """
    scale = rig.deadline.scale
    with ExitStack() as stack:
        place.folder.mkdir(parents=True)  # with the last of the files in a folder its keeper takes that too
        stack.callback(shutil.rmtree, place.folder, ignore_errors=True)
        worker = _worker(host, keep, run_id)
        stack.callback(worker.stop)
        accelerated = _accelerated(worker, host, place, scale)
        speed = "with KVM" if accelerated else "processor emulated"
        told = f"{place.node.name}: {place.system} on QEMU {place.qemu.version} on {host.name}, {speed}"
        with Console(stderr=True).status(f"booting {told}"):
            agent = _agent(host, place)
            patience_s = scale * (BOOT_S if accelerated else BOOT_EMULATED_S)
            until = Deadline.after(patience_s)
            ready = stack.enter_context(kept(place.folder, patience_s, ()))
            if host.agent is not None:  # a port that nobody listens to says that its other end is gone, for good
                stack.callback(hang_up, agent)
                line(agent, 0)
            made = machine(rig, place, host, accelerated)
            start_s = scale * (_START_S + made.answers_in_s)
            stack.callback(_end, worker, keep / place.node.name, scale)  # also what a start that hangs has bound
            worker.run(hosting.start, deadline=Deadline.after(start_s), machine=made)
            try:
                if place.disk is not None:
                    _start_agent(worker, until)
                ready()
            except NodeError as error:
                raise NodeError(f"{error}{_last(worker)}; see {keep / place.node.name}.*") from None
        node = Node(place.node.name, place.folder / ROOT, {}, agent, (told,))
        yield Guest(node, {one.bdf: bdf for one, bdf in assigned(rig, place.node)}, worker, memory.npages(place.node))


def foretold(rig: Rig, place: Place, host: Node, run_id: str) -> Foretold:
    """What ``provision`` would change on ``host``, where nothing is changed. Raises NodeError where nobody answers."""
    scale = rig.deadline.scale
    try:
        with _worker(host, place.folder, run_id) as worker:
            made = machine(rig, place, host, _accelerated(worker, host, place, scale))
            return worker.run(foretell, deadline=Deadline.after(_STOP_S * scale), machine=made)
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)


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
        arch=place.node.made_by.arch,
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


def _start_agent(worker: Worker | RemoteWorker, until: Deadline) -> None:
    """Over SSH, by the worker that keeps QEMU: the way in is of the system that it is on."""
    within_s = until.remaining_s
    try:
        worker.run(hosting.start_agent, deadline=Deadline.after(within_s + _STOP_S), within_s=within_s)
    except WorkloadFailed as error:
        if error.type_name != NodeError.__name__:
            raise
        raise NodeError(error.message) from None


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
