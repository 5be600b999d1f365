"""A GPU that is no longer on the bus: Xid 79, the driver's own line, or config space that reads all ones."""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_FALLEN_OFF = 79
_REMEDY = (
    "Drain the machine and power it off fully (a warm reset seldom brings the GPU back); then check its power, riser "
    "or cable, the AER counters of its slot before the loss, and temperatures. A GPU that is lost again needs exchange."
)


def _match(case: Case) -> Finding | None:
    """A loss outlasts the test that met it: what the run saw before counts where the test uses that GPU."""
    now = list(_losses(case.evidence))
    before = [one for one in _losses(case.session) if _bdf(one) in case.endpoints]
    signs = now or before
    if not signs:
        return None
    gone = sorted({_bdf(one) or "a GPU" for one in signs})
    kinds = {one.kind for one in (*now, *before)}
    return Finding(
        confidence="certain" if len(kinds) > 1 or "config-space" in kinds else "probable",
        summary=f"{', '.join(gone)} fell off the bus" + ("" if now else " earlier in this run"),
        evidence=tuple(now + before),
    )


def _losses(evidence: Iterable[Evidence]) -> Iterable[Evidence]:
    for one in evidence:
        xid = (
            one.event.xid if one.event is not None else one.data.get("event_data") if one.kind == "xid-event" else None
        )
        if (
            xid == _FALLEN_OFF
            or one.kind == "device-lost"
            or (one.kind == "config-space" and one.data.get("state") == "lost")
        ):
            yield one


def _bdf(one: Evidence) -> str | None:
    bdf = one.event.bdf if one.event is not None else one.data.get("bdf")
    return bdf if isinstance(bdf, str) else None


SIGNATURE = Signature(
    id="gpu-lost",
    title="A GPU is no longer on the bus.",
    needs="Xid 79, the kernel's line of a lost device, or configuration space that reads all ones.",
    excludes="nothing",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS",
    ),
    match=_match,
)
