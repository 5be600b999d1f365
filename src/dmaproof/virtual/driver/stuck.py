"""Calls into the kernel driver that do not return."""

from __future__ import annotations

import ctypes
import os
import signal
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


def die_in_kernel() -> NoReturn:
    """The thread dies in the kernel driver, and takes its process along as the kernel would: by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit  # the signal is there before kill(2) returns
