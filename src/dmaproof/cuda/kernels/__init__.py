"""The project's kernels, compiled by NVRTC for the GPU they are to run on.

Launch shapes: ``launch`` takes plain integers and pointers and packs them by the ctypes given in SIGNATURES.
"""

from __future__ import annotations

import ctypes
import functools
from importlib import resources
from typing import Any

import numpy as np

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.errors import CudaError, Unsupported

_POINTER, _U64, _U32 = ctypes.c_void_p, ctypes.c_ulonglong, ctypes.c_uint
THREADS = 512
"""Threads a block, as nvbandwidth's copy kernel uses."""

_NO_PTX = {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "CUDA_ERROR_INVALID_PTX", "CUDA_ERROR_JIT_COMPILER_NOT_FOUND"}
"""A driver that is older than this NVRTC, or that came without its JIT compiler (slim containers)."""

SIGNATURES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "dmaproof_fill": ("memory.cu", (_POINTER, _U64, _U32)),
    "dmaproof_verify": ("memory.cu", (_POINTER, _U64, _U32, _POINTER)),
    "dmaproof_increment": ("memory.cu", (_POINTER, _U64)),
    "dmaproof_copy": ("memory.cu", (_POINTER, _POINTER, _U64)),
    "dmaproof_chase": ("sync.cu", (_POINTER, _U64, _POINTER)),
    "dmaproof_hold": ("sync.cu", (_POINTER, _U64)),
    "dmaproof_pingpong": ("sync.cu", (_POINTER, _U32)),
    "dmaproof_add_until": ("atomics.cu", (_POINTER, _POINTER, _POINTER)),
    "dmaproof_read_until": ("unified.cu", (_POINTER, _U64, _POINTER, _POINTER)),
    "dmaproof_count_until": ("unified.cu", (_POINTER, _POINTER, _POINTER)),
    "dmaproof_trap": ("contain.cu", (_U32,)),
    "dmaproof_copy_rounds": ("bandwidth.cu", (_POINTER, _POINTER, _U64, _U32)),
    "dmaproof_exchange_rounds": ("bandwidth.cu", (_POINTER, _POINTER, _U64, _U32)),
    "dmaproof_read_rounds": ("bandwidth.cu", (_POINTER, _U64, _U32, _POINTER)),
    "dmaproof_write_rounds": ("bandwidth.cu", (_POINTER, _U64, _U32, _U32)),
    "dmaproof_chase_on": ("bandwidth.cu", (_POINTER, _U64, _POINTER, _U32)),
    "dmaproof_tma_copy": ("tma.cu", (_POINTER, _POINTER, _U64, _U32)),
    "dmaproof_tma_chase": ("tma.cu", (_POINTER, _U64, _POINTER, _U32)),
    "dmaproof_copy_bytes": ("peer.cu", (_POINTER, _POINTER, _U64)),
    "dmaproof_red": ("peer.cu", (_POINTER, _U64, _U32)),
    "dmaproof_atom": ("peer.cu", (_POINTER, _U64, _U32, _POINTER)),
    "dmaproof_send": ("peer.cu", (_POINTER, _U64, _POINTER, _POINTER, _U32, _U64, _POINTER)),
    "dmaproof_receive": ("peer.cu", (_POINTER, _U64, _POINTER, _POINTER, _U32, _U64, _POINTER)),
}
NEEDS: dict[str, tuple[int, int]] = {"tma.cu": (9, 0)}
"""The least compute capability that has a file's instructions (PTX ISA: cp.async.bulk)."""


def source(file: str) -> str:
    """The text of a kernel file, with the pattern it is checked against in front."""
    folder = resources.files(__name__)
    return (folder / "pattern.cuh").read_text() + (folder / file).read_text()


@functools.cache
def compiled(file: str, compute_capability: tuple[int, int], form: str) -> bytes:
    """``file`` compiled to ``form`` (``ptx`` or ``cubin``) for a compute capability."""
    from cuda.core import Program, ProgramOptions

    major, minor = compute_capability
    options = ProgramOptions(arch=f"sm_{major}{minor}")
    program = Program(source(file), "c++", options)
    try:
        return bytes(program.compile(form, **_cache()).code)
    except OSError:  # a full disk, say: kept or not, the kernel is wanted
        return bytes(program.compile(form).code)


@functools.cache
def _cache() -> dict[str, Any]:
    """cuda.core's own cache of compiled programs, in the user's cache folder: every worker compiles the same few
    kernels, and it takes as long as all the rest of its start. None in older cuda.core, or where nothing can be kept.
    """
    try:
        from cuda.core.utils import FileStreamProgramCache

        return {"cache": FileStreamProgramCache()}
    except (ImportError, OSError):
        return {}


@functools.cache
def _module(file: str, device: Device) -> Any:
    """PTX first: any driver can name what it cannot read. A driver older than this NVRTC refuses its PTX and takes
    machine code instead (CUDA compatibility guide, minor version compatibility)."""
    device.use()
    try:
        return cu.cuModuleLoadData(compiled(file, device.compute_capability, "ptx") + b"\0")
    except CudaError as error:
        if error.name not in _NO_PTX:
            raise
    return cu.cuModuleLoadData(compiled(file, device.compute_capability, "cubin"))


@functools.cache
def _function(name: str, device: Device) -> Any:
    return cu.cuModuleGetFunction(_module(SIGNATURES[name][0], device), name.encode())


def prepare(compute_capabilities: tuple[str, ...]) -> None:
    """A workload: read the compiler and compile every kernel for ``compute_capabilities`` ("9.0"), which touches no
    GPU. On a cold disk that takes longer than many a workload."""
    for wanted in compute_capabilities:
        major, minor = wanted.split(".")
        for file in dict.fromkeys(file for file, _ in SIGNATURES.values()):
            if has((int(major), int(minor)), file):
                compiled(file, (int(major), int(minor)), "ptx")


def has(compute_capability: tuple[int, int], file: str) -> bool:
    """Whether GPUs of ``compute_capability`` can run the kernels of ``file``."""
    return compute_capability >= NEEDS.get(file, (0, 0))


def require(name: str, device: Device) -> None:
    """Raises Unsupported where ``device`` cannot run kernel ``name``."""
    file = SIGNATURES[name][0]
    if not has(device.compute_capability, file):
        needed, found = (".".join(map(str, one)) for one in (NEEDS[file], device.compute_capability))
        raise Unsupported(f"{device.bdf}: {name} needs compute capability {needed}, this GPU has {found}")


def load_all(device: Device) -> None:
    """Load every kernel for ``device`` now. Loading may wait until the context is idle, which it never gets behind a
    kernel that holds a stream (CUDA C++ Programming Guide, lazy loading, concurrent execution)."""
    for name, (file, _) in SIGNATURES.items():
        if has(device.compute_capability, file):
            _function(name, device)


def launch(name: str, device: Device, stream: Any, *args: int, blocks: int, threads: int = THREADS) -> None:
    """Queue kernel ``name`` on ``stream`` of ``device``. Raises CudaError, or Unsupported where the GPU lacks it."""
    require(name, device)
    kinds = SIGNATURES[name][1]
    device.use()
    if len(args) != len(kinds):
        raise TypeError(f"{name} takes {len(kinds)} arguments, {len(args)} given")
    packed = (tuple(int(arg) for arg in args), kinds)
    cu.cuLaunchKernel(_function(name, device), blocks, 1, 1, threads, 1, 1, 0, stream, packed, 0)


def launch_wide(name: str, device: Device, stream: Any, *args: int) -> None:
    """Queue ``name`` with one block a multiprocessor."""
    launch(name, device, stream, *args, blocks=device.multiprocessors)


def launch_single(name: str, device: Device, stream: Any, *args: int) -> None:
    """Queue ``name`` as one thread."""
    launch(name, device, stream, *args, blocks=1, threads=1)


@functools.lru_cache(maxsize=4)
def pattern(nwords: int, seed: int, first: int = 0) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """``nwords`` words of the fill pattern from the one of index ``first`` on: what pattern.cuh computes, on the CPU.
    Read-only, and kept: a run compares the same few patterns hundreds of times."""
    index = np.arange(first, first + nwords, dtype=np.uint64)
    words = (index & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    words *= np.uint32(2654435761)
    words += (index >> np.uint64(32)).astype(np.uint32)
    words += np.uint32(seed)
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x85EBCA6B)
    words ^= words >> np.uint32(13)
    words.flags.writeable = False
    return words
