"""The errors of dmaproof: one root, a small tree, every message naming the thing, the value and the way out.

``UsageError`` is a person's input being wrong: the CLI prints it as one line and exits with 2.
``NodeError`` is work that could not be finished on a node; each kind calls for a different next step.
"""

from __future__ import annotations

import errno
import os
from typing import Any


class DmaproofError(Exception):
    """Root of all errors that dmaproof raises on purpose."""


class UsageError(DmaproofError):
    """What a person gave cannot be used: a file, a value, an option."""


class RigError(UsageError):
    """A rig is unknown, or its file says something that cannot be."""


class ReportError(DmaproofError):
    """A report could not be written or read: no space, no permission, a damaged record."""


class CudaError(DmaproofError):
    """A CUDA driver call failed.

    ``call`` is the driver function, ``name`` and ``code`` are the CUresult (cuda.h).
    """

    def __init__(self, call: str, name: str, code: int, detail: str) -> None:
        super().__init__(f"{call} failed: {name} ({code}): {detail}")
        self.call, self.name, self.code = call, name, code


class IoctlError(DmaproofError):
    """An ioctl failed. ``ioctl`` is its name in the uAPI header, ``subject`` the file or device it was asked of,
    ``argument`` what it was given, ``code`` and ``name`` the errno.
    """

    def __init__(self, ioctl: str, subject: str, argument: str, code: int) -> None:
        name = errno.errorcode.get(code, str(code))
        super().__init__(f"{ioctl}({argument}) on {subject}: {name} ({os.strerror(code)})")
        self.ioctl, self.subject, self.argument, self.code, self.name = ioctl, subject, argument, code, name


class EndpointError(DmaproofError):
    """A DMA engine does not do as its manual says: it does not answer, is not what it should be, or never finishes."""


class Unsupported(DmaproofError):  # noqa: N818 - an answer, not a failure
    """The device says that it cannot do what the workload needs, and no rig claims that it can."""


class NodeError(DmaproofError):
    """Work could not be finished on a node."""


class WorkloadFailed(NodeError):  # noqa: N818 - the tree reads as outcomes: failed, hung, died
    """The workload raised in the worker.

    ``type_name`` is the remote exception's class name, ``remote_traceback`` its formatted traceback.
    """

    def __init__(self, workload: str, type_name: str, message: str, remote_traceback: str) -> None:
        super().__init__(f"{workload}: {type_name}: {message}")
        self.workload, self.type_name, self.message = workload, type_name, message
        self.remote_traceback = remote_traceback


class WorkerDied(NodeError):  # noqa: N818
    """The worker process ended without an answer: a signal, an exit, a crash in native code."""


class Hang(NodeError):  # noqa: N818
    """A deadline passed. ``report`` (dmaproof.node.ladder.HangReport) holds what was captured."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report


class NodeLost(NodeError):  # noqa: N818
    """The operating system of a node does not answer, or has ended: nothing can be run there any more."""


class DeviceBusy(NodeError):  # noqa: N818
    """Another run holds a device."""


class DevicePoisoned(NodeError):  # noqa: N818
    """An earlier failure left a device unfit for use: its probe failed, or an unkillable process holds it."""
