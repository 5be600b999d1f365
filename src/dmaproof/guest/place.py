"""What a guest is made of, and how: computed before anything is started (dmaproof.guest.guests does that)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.guest import boot, boot_initramfs, disk, initramfs, kernel, memory, program, userland
from dmaproof.guest.capability import needed
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.machine import Machine, virtio
from dmaproof.guest.program import Program
from dmaproof.guest.scratch import scratch
from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.node.node import Node
from dmaproof.rig.guests import lent
from dmaproof.rig.hardware import Disk
from dmaproof.rig.model import Node as RigNode
from dmaproof.rig.model import Rig
from dmaproof.vfio.plan import Permission

_INITRD = "initrd"
_ANSWERS_S, _PINNED_A_SECOND_NBYTES = 20.0, 1e9
"""QEMU answers once memory is pinned, and filled where it is of huge pages: several GB/s on a machine that is idle."""
_CPU, _CPU_IN_A_LAB = "host", "host,tsc-deadline=off"
"""On a processor whose SVM QEMU emulates, a guest's TSC deadline timer never fires: it sleeps, and does not wake."""
_CPU_EMULATED = "max,la57=off"
"""With RDRAND: without it an emulated guest waits a minute for the random numbers that Python begins with."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a guest is made of, on every side of it: ``node`` as the rig has it, ``folder`` its own, ``initrd`` where
    its kernel's first file system is, for both systems (None: it has this system's own root, which is a lab host's too,
    or ``disk``). ``image`` is its kernel; where that is on ``disk``, the one by which it is tried whether KVM works."""

    node: RigNode
    folder: Path
    initrd: Path | None
    image: Kernel
    qemu: Program
    disk: Disk | None = None

    @property
    def system(self) -> str:
        """What boots there, for people."""
        return f"Linux {self.image.release}" if self.disk is None else Path(self.disk.path).name


@contextmanager
def prepared(rig: Rig, names: Collection[str], workdir: Path) -> Iterator[dict[str, Place]]:
    """What those guests of ``rig`` are made of that ``names`` has, and what they boot from, written under ``workdir``:
    before a lab host boots, so that its root file system has it. ``workdir`` is removed afterwards, however this
    process ends.

    Raises UsageError with the command that supplies what is not there.
    """
    made = [node for node in rig.nodes if node.guest is not None and node.name in names]
    with ExitStack() as stack:
        if made:
            stack.enter_context(scratch(workdir.absolute()))
        yield {node.name: _prepare(rig, node, workdir.absolute()) for node in made}


def _prepare(rig: Rig, node: RigNode, workdir: Path) -> Place:
    qemu, on = node.made_by, node.guest.disk if node.guest is not None else None
    _check_host(rig, node)
    if on is not None:
        on = disk.found(node.name, on)
    image = kernel.choose(qemu.kernel, qemu.arch) if on is None else _any_kernel(rig, node)
    by = program.choose(qemu.program, qemu.arch, needed((*arguments(node, lent(rig, node)), *_of_disk(on))))
    if node.guest is not None and node.guest.fill != "initramfs":
        return Place(node, workdir / node.name, None, image, by, on)
    initrd = workdir / f"{_INITRD}-{image.release}"
    if not initrd.exists():
        initramfs.write(initrd, userland.find(qemu.arch), image)
    return Place(node, workdir / node.name, initrd, image, by)


def _check_host(rig: Rig, node: RigNode) -> None:
    assert node.guest is not None  # noqa: S101 - whoever asks has looked
    on = rig.node[node.guest.on]
    if on.qemu is not None and boot_initramfs.needed(on.qemu.arch):
        raise UsageError(
            f"node.{node.name}.guest.on = {on.name!r}: a lab host of {on.qemu.arch} boots from an initramfs here, and "
            f"no QEMU is in it: guests are made on lab hosts of x86_64, by a system of x86_64"
        )


def machine(rig: Rig, place: Place, host: Node, accelerated: bool) -> Machine:
    """What the worker starts: all but what only the other node knows. Raises NodeError where virtme-ng cannot say how
    a guest comes up on this system's root."""
    node, functions = place.node, lent(rig, place.node)
    booted = _from_disk if place.disk is not None else _from_root if place.initrd is None else _from_initrd
    return Machine(
        command=(
            *booted(place, host, arguments(node, functions), accelerated),
            *(node.guest.arguments if node.guest is not None else ()),
        ),
        functions=tuple(one.bdf for one in functions.values()),
        accelerated=accelerated,
        cpu=_cpu(node, host, accelerated),
        bridged=host.agent is not None,
        folder="" if host.agent is not None else str(place.folder),
        may=_permission(node),
        pages=memory.pages(node),
        numa_node=node.guest.numa_node if node.guest is not None else None,
        answers_in_s=_ANSWERS_S + node.made_by.memory_nbytes / _PINNED_A_SECOND_NBYTES,
        disk=place.disk,
    )


def _any_kernel(rig: Rig, node: RigNode) -> Kernel:
    """By which KVM is tried: a lab host's own, which is small, where a stock one takes half a minute. Else this
    system's, where it can be read, as the likeliest to be like the image's."""
    arch, on = node.made_by.arch, rig.node[node.guest.on].qemu if node.guest is not None else None
    if on is not None:
        return kernel.choose(on.kernel, arch)
    for wanted in (kernel.HOST, kernel.STOCK):
        with suppress(UsageError):
            return kernel.choose(wanted, arch)
    return kernel.choose(kernel.OWN, arch)


def _of_disk(on: Disk | None, rung: str = "") -> tuple[str, ...]:
    return tuple(disk.options(on, rung)) if on is not None else ()


def _from_initrd(place: Place, _host: Node, options: Sequence[str], accelerated: bool) -> tuple[str, ...]:
    emulated = () if accelerated else ("no_timer_check",)
    parameters = (
        "console=ttyS0",
        *boot_initramfs.PARAMETERS,
        *emulated,
        *kernel_parameters(place.node),
        *place.node.parameters,
    )
    return boot_initramfs.started(place.qemu, place.image, str(place.initrd), parameters, options)


def _from_disk(place: Place, host: Node, options: Sequence[str], accelerated: bool) -> tuple[str, ...]:
    rung = virtio(bridged=host.agent is not None, accelerated=accelerated)
    return (*place.qemu.argv, *boot_initramfs.BARE, *options, *_of_disk(place.disk, rung))


def _from_root(place: Place, host: Node, options: Sequence[str], accelerated: bool) -> tuple[str, ...]:
    place.folder.mkdir(parents=True, exist_ok=True)
    rung = virtio(bridged=host.agent is not None, accelerated=accelerated)
    return boot.guest_command(place.node, place.image, place.qemu, place.folder, accelerated, options, rung)


def _permission(node: RigNode) -> Permission:
    words = node.guest.may if node.guest is not None else ()
    return Permission(**{word.replace("-", "_"): True for word in words})


def _cpu(node: RigNode, host: Node, accelerated: bool) -> str:
    if node.made_by.cpu is not None:
        return node.made_by.cpu
    if not accelerated:
        return _CPU_EMULATED
    return _CPU if host.agent is None else _CPU_IN_A_LAB
