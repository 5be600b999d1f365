"""Somebody else's fault took the process along: another process on the GPU faulted, and the engine's reset ended both.

Xid 45 (preemptive removal) is a victim's, ``caused by previous Xid 13``. A process that is killed gets one too, without
a cause: alone it says nothing.
"""

from __future__ import annotations

from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_FAULTS = (xids.ENGINE_EXCEPTION, xids.MMU_FAULT, xids.RESET_CHANNEL)
_REMEDY = (
    "Run the test again with the GPU to itself: `nvidia-smi --query-compute-apps=pid,name,gpu_uuid --format=csv` shows "
    "who else uses it; `nvidia-smi -i <GPU> -c EXCLUSIVE_PROCESS` keeps others out, MIG keeps them apart. The fault to "
    "look into is the other process's: its Xid names pid and name."
)


def _match(case: Case) -> Finding | None:
    victims = [xid for xid in xids.seen(case, xids.PREEMPTIVE_REMOVAL) if xids.is_own(case, xid) is not False]
    pairs = [(victim, _culprit(case, victim)) for victim in victims]
    found = [(victim, culprit) for victim, culprit in pairs if culprit is not None or _names_a_cause(victim)]
    if not found:
        return None
    culprits = [culprit for _, culprit in found if culprit is not None]
    own = all(xids.is_own(case, victim) for victim, _ in found)
    return Finding(
        confidence="certain" if own and culprits else "probable" if own or culprits else "possible",
        summary="; ".join(dict.fromkeys(_told(victim, culprit) for victim, culprit in found)),
        evidence=about.once(xids.sightings((*(victim for victim, _ in found), *culprits))),
    )


def _names_a_cause(victim: Xid) -> bool:
    return victim.event is not None and victim.event.caused_by is not None


def _culprit(case: Case, victim: Xid) -> Xid | None:
    """The fault of another process on the same GPU that came before, of the number that the victim's line names."""
    cause = victim.event.caused_by if victim.event is not None else None
    others = [
        xid
        for xid in xids.of(case.evidence, *((cause,) if cause is not None else _FAULTS))
        if xid.bdf == victim.bdf and xid.pid is not None and xid.pid != victim.pid and xid.pid not in case.pids
    ]
    return next((xid for xid in reversed(others) if about.follows(victim.first, xid.first)), None)


def _told(victim: Xid, culprit: Xid | None) -> str:
    cause = victim.event.caused_by if victim.event is not None else None
    why = f"after an earlier Xid {cause}, as the line says"
    if culprit is not None:
        why = f"because {xids.who(culprit)} faulted there (Xid {culprit.number})"
    return f"{xids.who(victim)} on {about.named([victim.bdf])} was a bystander: its channel was removed {why}"


SIGNATURE = Signature(
    id="bystander",
    floor="bystander",
    title="Another process on the GPU faulted, and its reset took this one along.",
    needs="Xid 45 of the test's process that names a cause, or follows the fault of another process on that GPU.",
    excludes="Xid 45 alone (a process that was ended gets one), and faults of the test's own process.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: ROBUST_CHANNEL_PREEMPTIVE_REMOVAL",
    ),
    match=_match,
)
