"""Rig kind ``virtual``: a machine a node, switched on for as long as the context lasts."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import IO

from dmaproof.errors import NodeError, UsageError
from dmaproof.node.node import Node
from dmaproof.rig.load import dump
from dmaproof.rig.model import Node as RigNode
from dmaproof.rig.model import Rig
from dmaproof.virtual import plants as known
from dmaproof.virtual.machine.server import SOCKET
from dmaproof.virtual.machine.tree import Folder, write
from dmaproof.virtual.nvml.stub import build_nvml
from dmaproof.virtual.rates import with_rates
from dmaproof.virtual.stub.build import build_cuda
from dmaproof.virtual.wire import ROOT_VARIABLE

_BOOT_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_SOCKET_ADDRESS_NBYTES = 107
_LIBRARIES = "usr/lib"


@contextmanager
def provision(rig: Rig, workdir: Path, plants: tuple[str, ...] = ()) -> Iterator[dict[str, Node]]:
    """Boots every node of ``rig`` under ``workdir/<node name>`` with ``plants`` in it; yields the nodes by name.

    Raises UsageError for a plant that is unknown or fits no node, for a rig that a model cannot be built of, and where
    the root exists already; NodeError where a machine does not boot.
    """
    planted = known.by_node(rig, plants)
    rig = with_rates(rig)
    _check(rig)
    ours = not workdir.exists()
    with ExitStack() as stack:
        if ours:
            stack.callback(_remove_if_empty, workdir)
        yield {
            name: stack.enter_context(_machine(rig, name, workdir / name, tuple(planted[name]), ours))
            for name in rig.node
        }


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # gone already, or somebody else's files are in it
        folder.rmdir()


def _check(rig: Rig) -> None:
    """A model needs what real hardware has by itself: registers in places of their own, and links with rates."""
    for node in rig.nodes:
        if node.endpoints:
            one = node.endpoints[0].name
            raise UsageError(
                f"{rig.id}: node.{node.name}.endpoint.{one}: a virtual rig has no endpoints beside its GPUs"
            )
        _check_overlap(rig, node)
        for gpu in node.gpus:
            if not any(bar.index == 0 for bar in gpu.bars) or not any(bar.index for bar in gpu.bars):
                raise UsageError(
                    f"{rig.id}: node.{node.name}.gpu.{gpu.name}: a virtual GPU needs bars: 0, and one more"
                )
        for number, path in enumerate(node.path):
            if path.bandwidth_GBps is None or path.latency_ns is None:
                raise UsageError(
                    f"{rig.id}: node.{node.name}.path.{number}: a virtual path of kind {path.kind!r} needs "
                    "bandwidth_GBps and latency_ns: what such paths usually have nobody knows"
                )


def _check_overlap(rig: Rig, node: RigNode) -> None:
    placed = sorted((bar.address, bar.nbytes, gpu.name, bar.index) for gpu in node.gpus for bar in gpu.bars)
    for (address, nbytes, name, index), (later, _, other, second) in pairwise(placed):
        if address + nbytes > later:
            raise UsageError(f"{rig.id}: BAR {index} of {name} and BAR {second} of {other} overlap at {later:#x}")


@contextmanager
def _machine(rig: Rig, name: str, root: Path, plants: tuple[str, ...], ours: bool) -> Iterator[Node]:
    """``ours``: the folder that ``root`` is in was made here as well, and goes with the last machine in it."""
    root = root.absolute()
    try:
        root.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(
            f"{root} exists: another run uses it, or left it behind; remove it or choose another"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot make {root} for virtual machine {name}: {error.strerror}") from None
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        write(root, {"run/rig.toml": dump(rig), "run/lock": Folder(0o777)})
        pid = stack.enter_context(_running(root, name, plants, ours))  # from here on somebody is left to remove root
        build_cuda(root / _LIBRARIES)
        build_nvml(root / _LIBRARIES)
        yield Node(name, root, _environment(root, pid))


def _environment(root: Path, pid: int) -> Mapping[str, str]:
    folders = [str(root / _LIBRARIES), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"LD_LIBRARY_PATH": ":".join(filter(None, folders)), ROOT_VARIABLE: str(_reachable(root, pid))}


def _reachable(root: Path, pid: int) -> Path:
    """``root``, or, where the address of the socket would not fit sockaddr_un, its machine's working folder: a name
    that ends with the process, and leaves nothing to clean up.
    """
    return root if len(os.fsencode(root / SOCKET)) <= _SOCKET_ADDRESS_NBYTES else Path(f"/proc/{pid}/cwd")


@contextmanager
def _running(root: Path, name: str, plants: tuple[str, ...], with_parent: bool) -> Iterator[int]:
    """The machine's process; yields its id. It ends when its standard input does, whatever becomes of this process."""
    command = [sys.executable, "-P", "-m", "dmaproof.virtual.machine", str(root), "--node", name]
    command += ["--with-parent"] if with_parent else []
    for one in plants:
        command += ["--plant", one]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, cwd=root
        )
        try:
            _await_ready(process, errors, name)
            yield process.pid
        finally:
            _stop(process)


def _await_ready(process: subprocess.Popen[bytes], errors: IO[bytes], name: str) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    said = select.poll()
    said.register(process.stdout, select.POLLIN)
    if not said.poll(_BOOT_TIMEOUT_S * 1000):
        raise NodeError(f"virtual machine {name} did not boot within {_BOOT_TIMEOUT_S:g} s")
    if process.stdout.readline() != b"ready\n":
        raise NodeError(f"virtual machine {name} died while booting: {_last_words(errors)}")


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it left no word"


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_TIMEOUT_S)
