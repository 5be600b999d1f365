"""Workloads that end a context on purpose, and one whose neighbour is killed: an error stays with whoever made it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory import on_device, pinned
from dmaproof.cuda.timing import run_to_end, stream_on
from dmaproof.cuda.unified import regions
from dmaproof.cuda.unified.running import TOLD, await_passes, running
from dmaproof.errors import CudaError, DmaproofError, Unsupported
from dmaproof.progress import note

Nowhere = Literal["no-access", "null", "read-only"]
"""``no-access``: addresses that are taken and that nobody may use. ``read-only``: memory of the process (HMM, ATS)."""
_NBYTES, _THREADS = 64 << 10, 64


class NotContained(DmaproofError):  # noqa: N818 - an outcome
    """An access that is an error was none, or its error did not stay."""


def stray_write(gpu: str, where: Nowhere) -> None:
    """The GPU writes where it may not. Raises CudaError as its context ends with it, NotContained where it does not."""
    one = device(gpu)
    kernels.load_all(one)
    if where == "null":
        _must_end(one, lambda: _write(one, 0), "a write to address 0")
        return
    with regions.mapped(_NBYTES, regions.READ if where == "read-only" else regions.NONE) as region:
        _must_end(one, lambda: _write(one, region.address), f"a write to {region.address:#x}, which is {where},")


def _write(gpu: Device, address: int) -> None:
    run_to_end(gpu, lambda stream: kernels.launch_wide("dmaproof_fill", gpu, stream, address, _NBYTES // 4, 1))


def trap(gpu: str) -> None:
    """A kernel gives itself up. Raises CudaError, or NotContained where nothing comes of it."""
    one = device(gpu)
    kernels.load_all(one)

    def give_up() -> None:
        run_to_end(one, lambda s: kernels.launch("dmaproof_trap", one, s, 1, blocks=1, threads=_THREADS))

    _must_end(one, give_up, "a trap")


def _must_end(gpu: Device, work: Callable[[], None], what: str) -> None:
    """Do ``work``, which ends the context with an error; every later call meets the same error."""
    try:
        work()
    except CudaError as error:
        _must_stick(gpu, error)
        raise
    raise NotContained(f"{what} of {gpu.bdf} ended without an error")


def _must_stick(gpu: Device, first: CudaError) -> None:
    """Raises NotContained where the context goes on after ``first`` as if nothing had been."""
    gpu.use()
    try:
        cu.cuCtxSynchronize()
    except CudaError as error:
        if error.code == first.code:
            return
        raise NotContained(f"after {first.name} of {gpu.bdf} the context says {error.name}") from error
    raise NotContained(f"after {first.name} of {gpu.bdf} the context goes on")


@dataclass(frozen=True, slots=True)
class Survived:
    """``victim`` is the pid of the process that was killed in the middle of its kernel. ``passes_after``: how often the
    bystander's kernel went over its memory after that; ``found`` is what it then had there."""

    victim: int
    passes_after: int
    found: View


def outlive_killed_neighbour(gpu: str, start_s: float = 20.0) -> Survived:
    """A kernel of this process runs while another process with a kernel on the same GPU is killed. ``start_s`` is how
    long that process may take to get there."""
    one, seed = device(gpu), 61
    if one.attribute("COMPUTE_MODE"):  # CU_COMPUTEMODE_DEFAULT is 0
        raise Unsupported(f"{gpu} admits one process at most: nvidia-smi -c DEFAULT")
    kernels.load_all(one)
    with on_device(one, _NBYTES) as buffer, pinned(one, 4096) as control, stream_on(one) as stream:
        fill(one, buffer, seed)
        args = (buffer.address, buffer.nwords, control.address, control.address + TOLD)
        with running("dmaproof_read_until", one, stream, control, *args, threads=_THREADS):
            with _victim(gpu, start_s) as victim:
                note("stage", text=f"process {victim.pid} is killed in the middle of its kernel")
                victim.kill()
                victim.wait(start_s)
            before = int(control.cpu[TOLD // 4])
            await_passes(control, stream, before + 3)
            after = int(control.cpu[TOLD // 4]) - before
        return Survived(victim.pid, after, verify(one, buffer, seed))


@contextmanager
def _victim(gpu: str, start_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a kernel on ``gpu`` that does not end by itself. Raises NotContained where it never gets there."""
    command = [sys.executable, "-m", "dmaproof.cuda.unified.victim", gpu]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
            heard, _, _ = select.select([process.stdout], [], [], start_s)
            if not heard or not os.read(process.stdout.fileno(), 64):
                raise NotContained(f"a second process had no kernel on {gpu} within {start_s:g} s")
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
