"""Rigs of kind ``lab``: every node a real kernel on a machine that QEMU emulates, for as long as the context lasts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from compileall import compile_dir
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

import dmaproof
from dmaproof.errors import RigError, UsageError
from dmaproof.guest import accel, boot, boot_initramfs, kernel, program
from dmaproof.guest.capability import needed
from dmaproof.guest.folder import AGENT, ROOT
from dmaproof.guest.kept import kept
from dmaproof.guest.topology import arguments
from dmaproof.node.node import Node
from dmaproof.rig.model import Node as RigNode
from dmaproof.rig.model import Rig

BOOT_S = 60.0
"""How long a lab host may take to come up, before the rig's scale: 4 s here, ten times that where others compete."""
_PACKAGE = Path(dmaproof.__file__).parent


@contextmanager
def provision(rig: Rig, workdir: Path, plants: tuple[str, ...] = ()) -> Iterator[dict[str, Node]]:
    """Boots every node of ``rig`` that is no guest under ``workdir/<node name>``; yields the nodes by name.

    Raises UsageError for plants (a lab's faults are real ones), for a kernel or a QEMU that has to be supplied first;
    NodeError where a node does not come up, with what its console said.
    """
    if plants:
        raise UsageError(f"--plant={','.join(plants)} needs a virtual rig: the faults of {rig.id} are a kernel's own")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(_booted(node, workdir / name, BOOT_S * rig.deadline.scale, rig))
            for name, node in rig.node.items()
            if node.guest is None
        }


@contextmanager
def _booted(node: RigNode, folder: Path, deadline_s: float, rig: Rig) -> Iterator[Node]:
    if node.qemu is None:
        raise RigError(f"{rig.id}: node.{node.name} has no qemu table: a lab's node is a machine that QEMU makes")
    arch = node.qemu.arch
    image = kernel.choose(node.qemu.kernel, arch)
    qemu = program.choose(node.qemu.program, arch, needed((*arguments(node), *boot.agent_ports())))
    folder, accelerated = folder.absolute(), accel.works(image, qemu, arch)
    runs_on = f"Linux {image.release} on QEMU {qemu.version}, {'with KVM' if accelerated else 'processor emulated'}"
    (folder / AGENT).mkdir(parents=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)  # the keeper does it too, if this process cannot
        compile_dir(_PACKAGE, quiet=2)  # an emulated processor would take seconds, and forget it each time
        maker = boot_initramfs if boot_initramfs.needed(arch) else boot
        guests = any(one.guest is not None and one.guest.on == node.name for one in rig.nodes)
        command = maker.command(node, image, qemu, folder, accelerated, guests)
        with Console(stderr=True).status(f"booting {rig.id}: {runs_on}"):
            stack.enter_context(kept(folder, deadline_s, command))()
        yield Node(node.name, folder / ROOT, {}, folder / AGENT, (f"{node.name}: {runs_on}",))
