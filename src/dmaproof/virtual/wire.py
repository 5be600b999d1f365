"""What a process's driver library asks of the machine it runs on, and what it hears back.

The machine (hardware and kernel: fabric, IOMMU, GPUs, fault buffers, kernel log) is one process; the driver library
(address spaces, streams, memory contents, the modelled clock) lives in every process that opened the GPUs. Between them
is what an ioctl and a doorbell are on a real machine: one JSON object a line, over the socket ``run/machine.sock``
under the machine's root. A connection that ends is a process that is gone: the machine then tears its channels down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

ROOT_VARIABLE = "DMAPROOF_MACHINE"
"""Names the environment variable that holds the machine's root folder."""

HOST = "host"
"""A place that is not a GPU: the node's own memory. Every other place is a GPU's BDF."""


def written(message: Any) -> bytes:
    """``message``, one of the classes below, as its line. Each copy of a program crosses here twice: dataclasses.asdict
    would take as long as all else on the way."""
    return json.dumps({name: getattr(message, name) for name in message.__slots__}).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dma:
    """``requester``'s engine moves ``nbytes`` from ``source`` to ``target`` (places: BDFs or ``host``).

    A write is a transfer whose requester is the source; a read one whose requester is the target. ``va`` is the
    address, in the requester's address space, on the far side: what a fault on it would name.
    """

    op: Literal["dma"] = "dma"
    requester: str
    engine: Literal["ce", "sm"]
    source: str
    target: str
    nbytes: int
    va: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DmaOutcome:
    """``lands``: the data arrives. ``dropped``: the engine completes, the data is gone. ``mirrored``: the engine
    completes, the data sits where only the writer sees it. ``never``: the engine does not complete. ``lost``: the
    device does not answer. ``failed``: the context ends with ``code`` (a CUresult's name without ``CUDA_ERROR_``).
    ``stuck``: the call into the kernel driver does not return; its thread waits there, uninterruptibly (state D).
    ``killed``: the thread dies in the kernel driver, and its process with it (make_task_dead, kernel/exit.c).
    Rates are those of the path taken, for the modelled clock.
    """

    effect: Literal["lands", "dropped", "mirrored", "never", "lost", "failed", "stuck", "killed"]
    code: str = ""
    bandwidth_GBps: float = 0.0
    latency_ns: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFault:
    """``gpu`` touched ``nbytes`` at ``va`` that are not mapped for it; UVM is to bring them ``toward`` a place.

    ``space``: ``managed`` (cuMemAllocManaged), ``system`` (malloc, through HMM or ATS), ``unmapped`` (no memory of the
    process is there, or none that this GPU may touch). ``mapping`` is that of the process's own pages, as its
    /proc/PID/maps says; huge pages of the kernel's pool count as shared.
    """

    op: Literal["fault"] = "fault"
    gpu: str
    va: int
    nbytes: int
    access: Literal["read", "write", "atomic", "prefetch"]
    space: Literal["managed", "system", "unmapped"]
    toward: str
    mapping: Literal["private", "shared"] = "private"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOutcome:
    """``served``: pages are mapped, at the cost of ``duration_ns``. ``replaying``: the fault is replayed without end
    and the channel never goes on. ``fatal``: the channel is torn down. ``lost``: the device does not answer.
    ``unserved``: nobody looks at the fault. ``failed``, ``stuck`` and ``killed`` as in DmaOutcome.
    """

    effect: Literal["served", "replaying", "fatal", "lost", "unserved", "failed", "stuck", "killed"]
    code: str = ""
    duration_ns: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """Is ``gpu`` still there? ``context``: the process is to get one there, for which firmware and driver must work."""

    op: Literal["inquiry"] = "inquiry"
    gpu: str
    context: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """``failed``: there, but no context can be had; ``code`` as in DmaOutcome."""

    state: Literal["present", "lost", "failed"]
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel of the process on ``gpu`` that runs until it is told to stop ``begins`` or ``ends``; one ``traps``: it
    has given itself up. Answered by an empty object."""

    op: Literal["kernel"] = "kernel"
    gpu: str
    event: Literal["begins", "ends", "traps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What does the driver know of ``gpu``'s health and links?"""

    op: Literal["checkup"] = "checkup"
    gpu: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """``recovery_action`` is NVML's number; ``generation`` and ``width`` are the PCIe link's now, None where the rig
    declares no link; ``nvlinks_down`` are link numbers; ``nvlink_errors`` has the counts of crc, replay and recovery by
    link number, links without errors left out; ``rows_remapped`` counts those for uncorrectable errors."""

    recovery_action: int
    remap_pending: bool
    remap_failed: bool
    rows_remapped: int
    ecc_uncorrectable: int
    pcie_replays: int
    generation: int | None
    width: int | None
    nvlinks_down: tuple[int, ...]
    nvlink_errors: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of every connection: the machine keys channels and log lines by it."""

    op: Literal["hello"] = "hello"
    pid: int
    process: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The node (dmaproof.rig.model.Node, as JSON) as its kernel came up: addressing is what the driver brought about,
    whatever the rig declares."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Turns the connection into a stream of GpuEvent lines (what NVML's event sets are fed from)."""

    op: Literal["watch"] = "watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvent:
    """``event_type`` and ``event_data`` as nvmlEventData_t has them (nvml.h): Xid in ``event_data`` for 0x8."""

    gpu: str
    event_type: int
    event_data: int
