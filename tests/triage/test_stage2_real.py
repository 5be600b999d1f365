"""Real guests with a hole: QEMU's trace audited, the host's log decoded, and what is concluded from both."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.evidence.decode import decode
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.lines import chunks
from dmaproof.guest.audit import bars, trace
from dmaproof.guest.audit.audit import Asked, audit
from dmaproof.guest.audit.evidence import as_evidence
from dmaproof.triage.verdict import Case
from tests.triage.cases import case, named, only

FOLDER = Path(__file__).parents[1] / "guest" / "traces"
EDU0, EDU1 = "0000:01:00.0", "0000:02:00.0"


def audited(name: str) -> tuple[Evidence, ...]:
    functions = bars.read(FOLDER / "edu.pci.json")
    return as_evidence(
        audit(trace.read(FOLDER / f"{name}.trace"), Asked(functions=functions)), node="guest", time_s=3.0
    )


def hosts_log(name: str) -> tuple[Evidence, ...]:
    with (FOLDER / f"{name}.dmesg").open("rb") as file:
        events = decode(chunks(file))
        return tuple(
            Evidence(
                source="kmsg", node="host", time_s=event.time or 0.0, kind=event.kind, text=event.text, event=event
            )
            for event in events
        )


def of(*evidence: Evidence) -> Case:
    """A test between the two edu: the guest and the lab host call them by the same BDFs."""
    return case("lab:vtd-vfio", *evidence, endpoints=(EDU0, EDU1))


@pytest.mark.parametrize("name", ["edu-type1-no-mmap", "edu-iommufd-no-mmap", "edu-iommufd-efault"])
def test_the_hosts_fault_lies_in_the_audited_hole(name: str) -> None:
    log = hosts_log(name)
    (fault,) = [one for one in log if one.kind == "iommu-fault"]
    assert fault.event is not None
    assert (fault.event.bdf, fault.event.address, fault.event.access) == (EDU0, 0xFE200000, "write")
    verdict = only(of(*log, *audited(name)))
    assert (verdict.signature, verdict.confidence) == ("stage2-hole", "certain")
    assert fault in verdict.evidence
    assert "0xfe200000" in verdict.summary


@pytest.mark.parametrize("name", ["edu-type1-no-mmap", "edu-iommufd-no-mmap", "edu-iommufd-efault"])
def test_without_the_audit_the_same_log_is_no_hole(name: str) -> None:
    assert "stage2-hole" not in dict(named(of(*hosts_log(name))))


@pytest.mark.parametrize("name", ["edu-type1", "edu-iommufd"])
def test_a_healthy_guest_is_blamed_for_nothing(name: str) -> None:
    assert named(of(*audited(name))) == [("unattributed", "possible")]
