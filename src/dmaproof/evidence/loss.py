"""What a log itself says is missing from it: ratelimiters (___ratelimit of lib/ratelimit.c names the function that it
spared), printk's and journald's dropped messages, and gaps in the sequence numbers of /dev/kmsg records."""

from __future__ import annotations

import re

from dmaproof.evidence.decoder import Form, FormsDecoder
from dmaproof.evidence.event import Event, Family
from dmaproof.evidence.lines import Line

_SUPPRESSED = re.compile(r"(?P<function>[A-Za-z_][\w.]{0,80}): (?P<count>\d{1,12}) callbacks suppressed")
_DROPPED = re.compile(r"\*\* (?P<count>\d{1,12}) printk messages dropped")
_MISSED = re.compile(r"\bMissed (?P<count>\d{1,12}) kernel messages")

# Whose lines a ratelimiter spares: by the function that holds it.
_FAMILIES: tuple[tuple[str, Family], ...] = (
    ("dmar_", "vtd"),
    ("qi_", "vtd"),
    ("amd_iommu_", "amdvi"),
    ("iommu_print_event", "amdvi"),
    ("arm_smmu_evtq", "smmuv3"),
    ("arm_smmu_priq", "smmuv3"),
    ("arm_smmu_dump_event", "smmuv3"),
    ("arm_smmu_handle_event", "smmuv3"),
    ("arm_smmu_context_fault", "smmuv2"),
    ("arm_smmu_global_fault", "smmuv2"),
    ("arm_smmu_print_context_fault", "smmuv2"),
    ("nvidia_smmu_", "smmuv2"),
    ("viommu_", "virtio-iommu"),
    ("aer_", "pcie"),
    ("pci_print_aer", "pcie"),
    ("pci_dev_aer", "pcie"),
    ("nv_", "nvidia"),
    ("nvidia_", "nvidia"),
    ("uvm_", "nvidia"),
    ("os_", "nvidia"),
)


def _suppressed(match: re.Match[str], line: Line) -> Event:
    function = match["function"]
    return Event(
        kind="suppressed",
        family=next((family for start, family in _FAMILIES if function.startswith(start)), None),
        text=line.text,
        time=line.time,
        count=int(match["count"]),
        event=function,
    )


def _lost(match: re.Match[str], line: Line) -> Event:
    return Event(
        kind="overflow", text=line.text, time=line.time, count=int(match["count"]), overflow=True, event="dropped"
    )


def gap(before: int, after: int, time: float | None) -> Event:
    """The event for the records between ``before`` and ``after``, two neighbours in a saved /dev/kmsg."""
    count = after - before - 1
    return Event(
        kind="overflow",
        text=f"{count} records between sequence {before} and {after} of /dev/kmsg are not in this log: overwritten "
        "before they were read, or left out of it",
        time=time,
        count=count,
        overflow=True,
        event="sequence-gap",
    )


FORMS = (
    Form("callbacks suppressed", _SUPPRESSED, _suppressed),
    Form("printk messages dropped", _DROPPED, _lost),
    Form("kernel messages", _MISSED, _lost),
)


class LossDecoder(FormsDecoder):
    """Decodes lines about lines that are not there; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS)
