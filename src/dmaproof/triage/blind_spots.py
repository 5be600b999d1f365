"""What could not be seen in a case. A verdict without it would claim more than was looked at."""

from __future__ import annotations

from collections.abc import Iterator

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.about import device, times
from dmaproof.triage.verdict import Case

_ATS = "ATS: a translation request that fails is normally not logged by the IOMMU: its silence proves nothing"
HOST_LOG = "kmsg of the host"
"""Among what was watched for a guest: the kernel log of the node that it is made on."""
_GUEST = "guest: IOMMU faults are logged on the host, which was not read"
_NESTED = (
    "SMMUv3: stage-1 faults of a device under a nested guest go to that guest's event queue, not into the host's log"
)
_LOST_LINES = ("dropped", "sequence-gap")
_OVERFLOW = "the IOMMU's fault log overflowed: faults were lost before the kernel saw them"


def blind_spots(case: Case) -> tuple[str, ...]:
    """One sentence a gap, without repeats, in the order they were met."""
    return tuple(dict.fromkeys((*_told(case), *_of_lines(case), *_of_states(case), *_of_the_node(case))))


def _told(case: Case) -> Iterator[str]:
    """What sources themselves say that they cannot see, or have lost."""
    yield from (one.text for one in case.of_kind("blind-spot", "records-lost"))


def _of_lines(case: Case) -> Iterator[str]:
    for one in case.of_kind("suppressed"):
        if is_foreign(one):
            continue
        count = one.event.count if one.event is not None else None
        told = "lines" if count is None else f"{count * times(one)} lines"
        yield f"the kernel suppressed {told}: what they said is lost ({one.text})"
    for one in case.of_kind("fault-status", "overflow"):
        if one.event is not None and one.event.event in _LOST_LINES:
            yield f"kernel messages were lost before the log was written ({one.text})"
        elif one.event is not None and one.event.overflow:
            yield _OVERFLOW


def is_foreign(one: Evidence) -> bool:
    """A rate limit that is nobody's here: other subsystems print such lines on healthy machines."""
    return one.kind == "suppressed" and one.event is not None and one.event.family is None


def _of_states(case: Case) -> Iterator[str]:
    for one in case.of_kind("config-space"):
        if one.data.get("state") == "unreadable":
            yield f"configuration space of {device(one)} could not be read: ACS, ATS and AER are unknown, not off"


def _of_the_node(case: Case) -> Iterator[str]:
    if case.node.addressing == "ats":
        yield _ATS
    if case.node.role == "guest" and HOST_LOG not in case.watched and not _host_was_read(case):
        yield _GUEST
    if case.node.iommu.family == "smmuv3" and any(node.role == "guest" for node in case.rig.nodes):
        yield _NESTED


def _host_was_read(case: Case) -> bool:
    """The log of another node, that is no guest, was read beside this one's."""
    return any(one.node != case.node.name and one.data.get("role") == "host" for one in case.of_kind("kernel-log"))
