"""Memory that another process allocated and exported, by an IPC handle or as a descriptor, and that process.

It is a Python of its own, since no child forked after cuInit can use CUDA. It ends when its standard input does, and is
killed when this process ends, however that comes.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory.buffer import Buffer
from dmaproof.cuda.memory.vmm import imported, supports
from dmaproof.errors import DmaproofError, Unsupported
from dmaproof.progress import note

_ANSWER_S, _END_S = 120.0, 10.0
"""It reads CUDA's libraries first, perhaps from a cold disk."""


class ExporterLost(DmaproofError):  # noqa: N818 - an outcome
    """The process that owns the memory ended, or did not answer."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """The process that owns ``nbytes`` of a GPU's memory. It fills them and looks at them by kernels of its own."""

    process: subprocess.Popen[bytes]

    def ask(self, **request: Any) -> dict[str, Any]:
        """One answer to one request (dmaproof.cuda.exporter). Raises ExporterLost after two minutes."""
        assert self.process.stdin is not None  # noqa: S101 - a pipe, as asked for
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise ExporterLost(f"process {self.process.pid} was gone before it was asked for {request}") from error
        return self.answer()

    def offer(self, nbytes: int) -> dict[str, Any]:
        """What it says first. Where its memory is in its own addresses is noted: a fault may tell those."""
        offered = self.answer()
        note("allocation", va=offered["va"], nbytes=nbytes, memory=f"of process {self.process.pid}")
        return offered

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101
        heard, _, _ = select.select([self.process.stdout], [], [], _ANSWER_S)
        line = self.process.stdout.readline() if heard else b""
        if not line.endswith(b"\n"):
            how = f"ended ({self.process.poll()})" if heard else f"did not answer within {_ANSWER_S:g} s"
            raise ExporterLost(f"process {self.process.pid}, which exports memory, {how}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ExporterLost(f"process {self.process.pid}, which exports memory: {answer['error']}")
        return answer


@contextmanager
def from_another_process(owner: Device, users: Sequence[Device], nbytes: int) -> Iterator[tuple[Buffer, Exporter]]:
    """``nbytes`` of ``owner``'s memory that another process allocated, opened by the first of ``users`` (or by
    ``owner``). Raises Unsupported where the GPU cannot share memory so, ExporterLost."""
    _refuse_exclusive(owner)
    opener = users[0] if users else owner
    if not opener.attribute("UNIFIED_ADDRESSING"):
        raise Unsupported(f"{opener.bdf}: CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING is 0: no memory between processes")
    with _exporter(owner.bdf, nbytes) as exporter:
        handle = cu.CUipcMemHandle()
        words = bytes.fromhex(exporter.offer(nbytes)["handle"])
        ctypes.memmove(int(handle.getPtr()), words, len(words))
        opener.use()
        address = int(cu.cuIpcOpenMemHandle(handle, cu.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS.value))
        note("allocation", va=address, nbytes=nbytes, memory=f"device {owner.bdf} (ipc)")
        try:
            yield Buffer(address, nbytes), exporter
        finally:
            opener.use()
            cu.cuIpcCloseMemHandle(address)  # before the owner frees it: else the mapping is undefined


@contextmanager
def from_descriptor(owner: Device, users: Sequence[Device], nbytes: int) -> Iterator[tuple[Buffer, Exporter]]:
    """``nbytes`` of ``owner``'s memory that another process created by handle, imported here for ``users``. Raises
    Unsupported where the GPU has no such memory, ExporterLost."""
    _refuse_exclusive(owner)
    if not supports(owner, "HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED"):
        raise Unsupported(f"{owner.bdf}: CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED is 0")
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(one) for one in socket.socketpair())
        exporter = stack.enter_context(_exporter(owner.bdf, nbytes, theirs.fileno()))
        theirs.close()
        exporter.offer(nbytes)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)  # it was sent before the answer
        try:
            buffer = stack.enter_context(imported(fds[0], users, nbytes))
        finally:
            os.close(fds[0])
        note("allocation", va=buffer.address, nbytes=nbytes, memory=f"device {owner.bdf} (vmm-fd)")
        yield buffer, exporter


def _refuse_exclusive(owner: Device) -> None:
    """A GPU in another compute mode than the default gives no second process a context (CUcomputemode)."""
    mode = owner.attribute("COMPUTE_MODE")
    if mode:
        raise Unsupported(
            f"{owner.bdf}: CU_DEVICE_ATTRIBUTE_COMPUTE_MODE is {mode}, so no second process may use it: "
            "nvidia-smi -c DEFAULT lets it"
        )


@contextmanager
def _exporter(gpu: str, nbytes: int, *channel: int) -> Iterator[Exporter]:
    """The process. One that is given a ``channel`` (a socket) sends a descriptor of its memory there."""
    command = [sys.executable, "-m", "dmaproof.cuda.exporter", gpu, str(nbytes), *map(str, channel)]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, pass_fds=channel
    ) as process:
        note("process", pid=process.pid)
        try:
            yield Exporter(process)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
