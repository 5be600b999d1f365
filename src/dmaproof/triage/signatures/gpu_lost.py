"""A GPU that is no longer on the bus: Xid 79, the driver's own line, or config space that reads all ones."""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_OF_THE_LOST = (
    "xid", "xid-event", "nvml-event", "device-lost", "config-space", "gpu-health", "link-state", "nvlink-state",
    "counter-step", "aer",
)  # fmt: skip
_DYING_S = 60.0
_OWN_STORY = (xids.DOUBLE_BIT, xids.CONTAINED, xids.UNCONTAINED, xids.REMAPPED, xids.REMAP_FAILED)
_REMEDY = (
    "Drain the machine and power it off fully (a warm reset seldom brings the GPU back); then check its power, riser "
    "or cable, the AER counters of its slot before the loss, and temperatures. A GPU that is lost again needs exchange."
)


def _match(case: Case) -> Finding | None:
    """A loss outlasts the test that met it: what the run saw before counts where the test uses that GPU."""
    now = [one for one in _losses(case.evidence) if any(case.concerns(gpu) for gpu in _gpus(case, one))]
    before = [one for one in _losses(case.session) if set(_gpus(case, one)) & set(case.endpoints)]
    signs = now or before
    if not signs:
        return None
    gone = {gpu for one in signs for gpu in _gpus(case, one) if case.concerns(gpu)}
    kinds = {one.kind for one in (*now, *before)}
    return Finding(
        confidence="certain" if len(kinds - {"xid-event"}) > 1 or "config-space" in kinds else "probable",
        summary=f"{about.named(gone)} fell off the bus" + ("" if now else " earlier in this run"),
        evidence=tuple(now + before),
        explains=tuple(one for bdf in gone for one in aftermath(case, bdf, _first(case, bdf, (*before, *now)))),
    )


def _first(case: Case, bdf: str | None, signs: tuple[Evidence, ...]) -> Evidence:
    return next(one for one in signs if bdf in _gpus(case, one))


def _losses(evidence: Iterable[Evidence]) -> Iterable[Evidence]:
    for one in evidence:
        if xids.number(one) == xids.FALLEN_OFF or is_lost_space(one) or one.kind == "device-lost":
            yield one


def _gpus(case: Case, one: Evidence) -> tuple[str | None, ...]:
    """The GPUs that a loss is of. The kernel loses other devices too, which are no GPU's story; in a log, the driver's
    word makes a GPU of one that no rig names."""
    bdf = about.device(one)
    if bdf is None and case.node.gpus:
        return (None,)
    known = about.gpus_at(case.node, bdf)
    if known or (case.node.gpus and case.endpoints):
        return known
    return (bdf,) if one.event is None or one.event.family == "nvidia" else ()


def is_lost_space(one: Evidence) -> bool:
    """Configuration space that reads all ones."""
    return one.kind == "config-space" and one.data.get("state") == "lost"


def aftermath(case: Case, bdf: str | None, first: Evidence) -> tuple[Evidence, ...]:
    """What is said of a GPU, and of its port, once it is gone or about to be: the driver knows of a loss only after
    calls that nobody answered. Errors of its memory, and what was over before then, are another story."""
    ends = {bdf, about.port_of(case.node, bdf)} - {None} if bdf is not None else set()
    since = [one for one in case.session if about.follows(one, first)]
    told = tuple(
        one
        for one in (*since, *case.evidence)
        if about.last_s(one) >= first.time_s - _DYING_S - about.slack_s(one, first)
        and one.kind in _OF_THE_LOST
        and about.device(one) in ends
        and xids.number(one) not in _OWN_STORY
    )
    return (*told, *about.refused_after(case.evidence, bdf, first))


SIGNATURE = Signature(
    id="gpu-lost",
    title="A GPU is no longer on the bus.",
    needs="Xid 79, the driver's or the kernel's line of a lost device, or configuration space that reads all ones.",
    excludes="GPUs that the test does not use, and a port above the GPU that contained an error (dpc-containment).",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS",
    ),
    match=_match,
)
