"""A child that does not outlive its parent, however that ends."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_libc = ctypes.CDLL(
    None
)  # loaded before any fork: afterwards, of several threads, only what is safe in a signal may run


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends: prctl(2). Kept over exec of a program
    that is not set-uid, not by its children.

    A parent that was gone before the call goes unnoticed: where that matters, the child watches a pipe too.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
