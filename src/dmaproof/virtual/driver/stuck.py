"""A call into the kernel driver that does not return."""

from __future__ import annotations

import ctypes
from typing import NoReturn

from dmaproof.virtual.driver.errors import CuResult, DriverError


def wait_in_kernel() -> NoReturn:
    """The calling thread waits in the kernel, uninterruptibly (state D), until its process is killed.

    The interpreter's lock is free meanwhile; the driver's stays held, as a driver library's locks do around an ioctl.
    Raises DriverError OUT_OF_MEMORY where the system refuses the process that it takes.
    """
    stub = ctypes.CDLL("libcuda.so.1")
    stub.dmaproof_wait_in_kernel.restype = None
    stub.dmaproof_wait_in_kernel()
    raise DriverError(CuResult.OUT_OF_MEMORY, "no process could be made to wait for: vfork(2) failed")
