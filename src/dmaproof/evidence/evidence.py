"""Evidence: a timestamped record of something observed, whoever observed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dmaproof.evidence.event import Event
from dmaproof.evidence.fact import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Something that ``source`` observed on ``node``.

    ``time_s`` is on this process's CLOCK_MONOTONIC, known to ``uncertainty_s``. ``kind`` is an Event's kind for
    decoded lines, else the observation's own: ``kernel-line`` (not decoded), ``kernel-log``, ``records-lost``,
    ``xid-event`` and ``nvml-event`` (NVML), ``nvml-state``, ``iommu-state``, ``pci-path``, ``config-space``,
    ``uvm-fault-stats``, ``stack``, ``probe``, ``hang``, ``worker-died``, ``node-lost``, ``console-flood``,
    ``blind-spot``; and one kind for each class of ``fact``: ``counter-step``, ``link-state``, ``nvlink-state``,
    ``gpu-health``, ``addressing``, ``kernel-thread``, ``peer-write``, ``measured``, ``route``, ``bar-conflict``,
    ``stage2-audit``. A storm of one event
    is one Evidence of the event's kind whose fact is a Storm. ``text`` is for people; ``data`` is JSON-able detail,
    documented by its source.
    """

    source: str
    node: str
    time_s: float
    kind: str
    text: str
    event: Event | None = None
    fact: Fact | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    uncertainty_s: float = 0.0
