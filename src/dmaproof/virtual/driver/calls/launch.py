"""Launching kernels."""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver.abi import call, put_int
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.modules import Kernel, launch

_THREADS_PER_MULTIPROCESSOR, _BLOCKS_PER_MULTIPROCESSOR = 2048, 32


class _Config(ctypes.Structure):
    """CUlaunchConfig (cuda.h)."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_nbytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("nattributes", ctypes.c_uint),
    )


@call("cuLaunchKernel", "pIIIIIIIppp")
def cu_launch_kernel(kernel: int, *arguments: int) -> None:
    gx, gy, gz, bx, by, bz, _shared, stream, parameters, extra = arguments
    if extra:
        raise not_supported("cuLaunchKernel with extra options: pass kernelParams")
    state = driver()
    launch(state, state.stream(stream), state.handles.get(kernel, Kernel), gx * gy * gz, bx * by * bz, parameters)


@call("cuLaunchKernelEx", "pppp")
def cu_launch_kernel_ex(config: int, kernel: int, parameters: int, extra: int) -> None:
    if not config:
        raise DriverError(CuResult.INVALID_VALUE)
    asked = _Config.from_address(config)
    if asked.nattributes:
        raise not_supported(f"cuLaunchKernelEx with {asked.nattributes} launch attributes")
    arguments = (*asked.grid, *asked.block, asked.shared_nbytes, asked.stream or 0, parameters, extra)
    cu_launch_kernel(kernel, *arguments)


@call("cuOccupancyMaxActiveBlocksPerMultiprocessor", "ppiz")
def cu_occupancy_max_active_blocks(target: int, kernel: int, block: int, _shared_nbytes: int) -> None:
    driver().handles.get(kernel, Kernel)
    if block < 1:
        raise DriverError(CuResult.INVALID_VALUE)
    put_int(target, min(_THREADS_PER_MULTIPROCESSOR // block, _BLOCKS_PER_MULTIPROCESSOR))
