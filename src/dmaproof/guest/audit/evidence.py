"""Findings of an audit as evidence, for the timeline."""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import Stage2Finding
from dmaproof.guest.audit.finding import Audit, Finding


def as_evidence(audit: Audit, *, node: str, time_s: float, source: str = "audit") -> tuple[Evidence, ...]:
    """One Evidence a finding, and one for what the audit could not see. ``node`` is the guest's name, ``time_s`` when
    the trace was read, on this process's CLOCK_MONOTONIC."""
    found = (
        Evidence(source=source, node=node, time_s=time_s, kind="stage2-audit", text=one.text, fact=as_fact(one))
        for one in audit.findings
    )
    unseen = (
        Evidence(source=source, node=node, time_s=time_s, kind="blind-spot", text=f"stage 2: {text}")
        for text in audit.blind_spots
    )
    return (*found, *unseen)


def as_fact(finding: Finding) -> Stage2Finding:
    """Guest BDFs get the domain that a guest's PCI has."""
    where = finding.range
    return Stage2Finding(
        why=finding.why,
        guest=f"0000:{finding.guest}" if finding.guest is not None else None,
        host=finding.host,
        bar=finding.bar,
        name=finding.name,
        first=where.first if where is not None else None,
        last=where.last if where is not None else None,
        code=finding.code,
        consequence=finding.consequence,
    )
