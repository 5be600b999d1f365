"""The driver wants the GPU reset, or drained first, and nothing that was seen says why.

NVML field 230 (recovery action) and Xid 154 (``GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)``).
"""

from __future__ import annotations

from dmaproof.evidence.fact import GpuHealth
from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_REMEDY = (
    "`nvidia-smi -q -i <GPU> | grep -iA1 'recovery action'`, then do what it says: GPU Reset: end everything on the "
    "GPU, `nvidia-smi --gpu-reset -i <GPU>`; Drain P2P, Drain and Reset: let running jobs end, start none, then "
    "reset; Node Reboot: reboot; Recover IMEX Domain: restart nvidia-imex on all nodes. `dmesg | grep Xid` from "
    "before this run says why."
)


def _match(case: Case) -> Finding | None:
    wanted = [
        (one, seen) for one, seen in case.facts(GpuHealth) if case.concerns(seen.bdf) and about.wants_recovery(seen)
    ]
    told = [xid for xid in _latest(case) if _names_an_action(xid)]
    gpus = {seen.bdf for _, seen in wanted} | {xid.bdf for xid in told}
    if not gpus or (not wanted and any(not about.wants_recovery(seen) for _, seen in _answers(case, gpus))):
        return None
    actions = {seen.recovery_action for _, seen in wanted} | {_action(xid) for xid in told if not wanted}
    return Finding(
        confidence="certain" if wanted and told else "probable",
        summary=f"the driver wants {about.named(gpus)} recovered: {', '.join(sorted(str(one) for one in actions))}",
        evidence=(*(one for one, _ in wanted), *xids.sightings(told)),
    )


def _answers(case: Case, gpus: set[str | None]) -> list[tuple[object, GpuHealth]]:
    return [(one, seen) for one, seen in case.facts(GpuHealth) if seen.bdf in gpus and seen.recovery_action is not None]


def _latest(case: Case) -> list[Xid]:
    """The last word on each GPU: an action may have been taken back."""
    everything = xids.of((*case.session, *case.evidence), xids.RECOVERY_ACTION)
    return list({xid.bdf: xid for xid in everything if case.concerns(xid.bdf)}.values())


def _names_an_action(xid: Xid) -> bool:
    return xid.event is not None and bool(xid.event.reason)


def _action(xid: Xid) -> str:
    return (xid.event.event if xid.event is not None else None) or "an action that the line does not name"


SIGNATURE = Signature(
    id="gpu-recovery-required",
    floor="effect",
    title="The driver wants the GPU reset or drained, and nothing seen says why.",
    needs="NVML's recovery action, or Xid 154 whose last word is an action.",
    excludes="A cause that asked for it: an error of memory, GSP or links, a lost GPU, a pending remap.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: GPU_RECOVERY_ACTION_CHANGED",
    ),
    match=_match,
)
