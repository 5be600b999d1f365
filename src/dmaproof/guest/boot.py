"""The command that boots a lab host: virtme-ng says how a kernel comes up on this system's own root file system, the
rig says what hangs on its bus.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from dmaproof.errors import NodeError
from dmaproof.guest import fault_trace, port
from dmaproof.guest.folder import AGENT, CONSOLE, CONTROL
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program
from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.node.remote import SOCKETS
from dmaproof.rig.model import Node

_WRAPPER, _INITRD = "qemu", "initramfs"
_ASK_S = 30.0
_MOST_NBYTES = 2047
"""COMMAND_LINE_SIZE less the zero that ends it: arch/x86/include/asm/setup.h, arch/arm64/include/uapi/asm/setup.h."""
_NO_CONSOLE = "file,id=console,path=/dev/null"  # as virtme-run writes it
_WRITABLE = ("/etc", "/home", "/lib", "/opt", "/root", "/srv", "/tmp", "/usr", "/var")  # noqa: S108 - as the host has them
_PARAMETERS = (
    "rootflags=version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose",  # without a cache, imports crawl
    "loglevel=3",  # the console is for last words: the agent reads the log
    "log_buf_len=4M",
)
_WITHOUT_KVM = "initcall_blacklist=svm_init,vmx_init"
"""Where no guest is made: KVM sets a processor up for them, on an emulated one for a third of a second."""


def command(
    node: Node, kernel: Kernel, program: Program, folder: Path, accelerated: bool, guests: bool = False
) -> tuple[str, ...]:
    """What starts QEMU in ``folder``, where it makes its sockets; ``guests``: also those of guests on the lab host.
    Raises NodeError where virtme-ng cannot say."""
    options = (*arguments(node), *agent_ports(guests), *fault_trace.options())
    parameters = _parameters(node, accelerated) if guests or accelerated else (*_parameters(node, False), _WITHOUT_KVM)
    words = on_own_root(kernel, program, folder, parameters, options, accelerated)
    return tuple(f"file,id=console,path={CONSOLE}" if word == _NO_CONSOLE else word for word in words)


def guest_command(
    node: Node,
    kernel: Kernel,
    program: Program,
    folder: Path,
    accelerated: bool,
    options: Sequence[str],
    virtio: str = "",
) -> tuple[str, ...]:
    """The same for a guest, here or on a lab host that has this system's root: without console, agent ports and
    accelerator, which its keeper adds, and to be started in any folder. ``virtio`` ends the options of its virtio
    devices."""
    words = on_own_root(kernel, program, folder, _parameters(node, accelerated), options, accelerated=False)
    words = _without(_without(words, "-serial", "chardev:console"), "-chardev", _NO_CONSOLE)
    return (*program.argv, *_anywhere(words, folder, virtio))


def _anywhere(words: Sequence[str], folder: Path, virtio: str) -> Iterator[str]:
    """What follows the program in ``words``: what QEMU makes in ``folder`` it makes in the one that it starts in."""
    for option, word in pairwise(words):
        if option == "-chardev":
            yield word.replace(f"path={folder}/", "path=")
        else:
            yield f"{word}{virtio}" if option == "-device" and word.startswith("virtio-") else word


def _without(words: tuple[str, ...], option: str, value: str) -> tuple[str, ...]:
    at = next((at for at, pair in enumerate(pairwise(words)) if pair == (option, value)), None)
    if at is None:
        raise NodeError(f"virtme-ng writes no {option} {value}: this dmaproof does not know its version")
    return (*words[:at], *words[at + 2 :])


def on_own_root(
    kernel: Kernel,
    program: Program,
    folder: Path,
    parameters: Sequence[str],
    options: Sequence[str],
    accelerated: bool,
) -> tuple[str, ...]:
    """QEMU's command for ``kernel`` on this system's own root file system, as virtme-ng says it, with ``options``;
    files that it takes are made in ``folder``. Raises NodeError where virtme-ng cannot say."""
    wrapper = folder / _WRAPPER
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(program.argv)} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o700)
    initrd = folder / _INITRD
    initrd.unlink(missing_ok=True)
    words = shlex.split(_ask_virtme(_virtme(wrapper, initrd, kernel, parameters, options, accelerated), folder))
    at = words.index("-append") + 1
    if kernel.modules is None:  # else virtme's own init loads them
        words[at] = with_our_init(words[at])
    words[at] = whole(words[at])
    return tuple(words)


def whole(parameters: str) -> str:
    """``parameters``, which the kernel takes as they are: it would cut longer ones without a word, and init's are last.

    Raises NodeError, which names the longest.
    """
    if len(os.fsencode(parameters)) <= _MOST_NBYTES:
        return parameters
    longest = max(parameters.split(), key=len)
    raise NodeError(
        f"the kernel's command line would be {len(os.fsencode(parameters))} bytes, and it takes {_MOST_NBYTES}: "
        f"shorten {longest.partition('=')[0]}, which has {len(os.fsencode(longest))} of them"
        + (" (it lists the folders of Python's sys.path)" if longest.startswith("PYTHONPATH=") else "")
    )


def with_our_init(parameters: str) -> str:
    """The kernel's command line with dmaproof.guest.init for virtme's. What follows ``--`` are init's arguments, and
    names that the kernel does not know become its environment (Documentation/admin-guide/kernel-parameters.rst)."""
    kept = [one for one in parameters.split() if not one.startswith(("init=", "virtme"))]
    own = (_setting("PYTHONPATH", _python_path()), _setting("init", sys.executable))
    return " ".join((*kept, *own, "--", "-S", "-P", "-m", "dmaproof.guest.init"))


def _setting(name: str, value: str) -> str:
    """Blanks are quoted for next_arg (lib/cmdline.c)."""
    return f'{name}="{value}"' if " " in value else f"{name}={value}"


def _parameters(node: Node, accelerated: bool) -> tuple[str, ...]:
    """Emulated, timer ticks come too late for the kernel's own check of the timer, and it would panic."""
    emulated = () if accelerated else ("no_timer_check",)
    return (*_PARAMETERS, *emulated, *kernel_parameters(node), *node.parameters)


def agent_ports(guests: bool = False) -> tuple[str, ...]:
    """The virtio-serial ports of the agent: one for each process of a run, and last, as ``port.names`` has it, the
    keeper's. Before them, with ``guests``, those that a guest's are joined to.
    """
    bridged = {f"{port.BRIDGED}{name}": f"{AGENT}/guest-{name}.sock" for name in ("0", "control") if guests}
    named = {f"{port.PREFIX}{n}": f"{AGENT}/{n}.sock" for n in range(SOCKETS)}
    named = bridged | named | {port.CONTROL: CONTROL}
    options = ["-device", "virtio-serial-pci,id=dmaproof,bus=pcie.0,max_ports=16"]
    for name, file in named.items():
        options += ["-chardev", f"socket,id={name},path={file},server=on,wait=off"]
        options += ["-device", f"virtserialport,bus=dmaproof.0,chardev={name},name={name}"]
    return tuple(options)


def _virtme(
    wrapper: Path,
    initrd: Path,
    kernel: Kernel,
    parameters: Sequence[str],
    options: Sequence[str],
    accelerated: bool,
) -> list[str]:
    """With modules it makes an initramfs to load them, which is gone when it ends where it is not told to save it."""
    agent = ["env", f"PYTHONPATH={_python_path()}", sys.executable, "-S", "-P", "-m", "dmaproof.guest.agent"]
    return [
        *(sys.executable, "-m", "virtme.commands.run", "--dry-run", "--show-command"),
        *("--kimg", str(kernel.path)),
        *(("--mods=auto", "--save-initramfs", str(initrd)) if kernel.modules else ("--mods=none",)),
        *("--force-9p", "--disable-microvm", "--disable-monitor"),
        *([] if accelerated else ["--disable-kvm"]),
        *(word for folder in _WRITABLE if Path(folder).is_dir() for word in ("--overlay-rwdir", folder)),
        *("--qemu-bin", str(wrapper), "--script-sh", f"exec {shlex.join(agent)}"),
        *(word for parameter in parameters for word in ("-a", parameter)),
        *("--qemu-opts", *options),
    ]


def _python_path() -> str:
    """What this process imports from, all of it said, so that Python need not look for it: 1 s on an emulated one."""
    return ":".join(folder for folder in sys.path if folder and Path(folder).is_dir())


def _ask_virtme(question: Sequence[str], folder: Path) -> str:
    try:
        answer = subprocess.run(
            question,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            env={**os.environ, "TMPDIR": str(folder)},  # it makes a file for an exit status there
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"virtme-ng did not say within {_ASK_S:g} s how to boot {question[6]}") from None
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or [f"exit status {answer.returncode}"]
        raise NodeError(f"virtme-ng cannot boot {question[6]}: {last[0]}; see `dmaproof doctor`")
    return answer.stdout
