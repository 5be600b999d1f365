"""The command that boots a lab host on a root file system of ours: for a processor that is not this system's, or a
kernel that cannot mount this system's root.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from dmaproof.guest import fault_trace, initramfs, userland
from dmaproof.guest.boot import agent_ports, whole
from dmaproof.guest.folder import CONSOLE
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program
from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.rig.model import Node

_INITRD = "initrd"
_CONSOLES = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
_WITH_SHARED_ROOT = ("x86_64",)
"""Where the kernels of the lab mount 9p. Debian's for arm64 clouds has no such file system, not even as a module."""
PARAMETERS = (
    "loglevel=3",  # the console is for last words: the agent reads the log
    "log_buf_len=4M",
    "panic=-1",  # at once: then QEMU ends, and the console is read
)
BARE = ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none")
"""QEMU's options for a machine that has what is said and nothing else, and ends where it would boot again."""
_EMULATED = ("nokaslr", "mitigations=off")
"""A processor that is emulated leaks nothing by speculation, and page tables changed at each system call, which a
kernel at a random address would do (kaslr_requires_kpti, arch/arm64/kernel/cpufeature.c), take a third of its time."""


def needed(arch: str) -> bool:
    """Whether a lab host of ``arch`` cannot have this system's root file system."""
    return arch != platform.machine() or arch not in _WITH_SHARED_ROOT


def command(
    node: Node, kernel: Kernel, program: Program, folder: Path, accelerated: bool, guests: bool = False
) -> tuple[str, ...]:
    """What starts QEMU in ``folder``, where it makes its sockets and finds the initramfs that is written here.

    Raises UsageError where the userland has to be supplied first, DmaproofError where the project does not compile,
    NodeError for a command line that the kernel would cut.
    """
    arch = node.made_by.arch
    initramfs.write(folder / _INITRD, userland.find(arch), kernel)
    emulated = () if accelerated else _EMULATED
    parameters = (f"console={_CONSOLES[arch]}", *PARAMETERS, *emulated, *kernel_parameters(node), *node.parameters)
    options = (
        *("-accel", "kvm" if accelerated else "tcg"),
        *arguments(node),
        *agent_ports(guests),
        *fault_trace.options(),
        *("-serial", f"file:{CONSOLE}"),
    )
    return started(program, kernel, _INITRD, parameters, options)


def started(
    program: Program, kernel: Kernel, initrd: str, parameters: Iterable[str], options: Iterable[str]
) -> tuple[str, ...]:
    """QEMU's command for ``kernel`` on the root file system of ``initrd``. Raises NodeError for ``parameters`` that the
    kernel would cut."""
    return (
        *program.argv,
        *BARE,
        *options,
        *("-kernel", str(kernel.path), "-initrd", initrd, "-append", whole(" ".join(parameters))),
    )
