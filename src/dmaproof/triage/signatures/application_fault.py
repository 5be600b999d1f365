"""The program's own fault: a wild pointer or a trap in a kernel, with nothing wrong around it.

Xids 13, 31 and 43 are usually the application's; they blame the machine only with corroboration, which is what every
other signature looks for first.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence
from dmaproof.triage.xids import Xid

_NUMBERS = (xids.ENGINE_EXCEPTION, xids.MMU_FAULT, xids.RESET_CHANNEL)
_REMEDY = (
    "Look in the program first: `compute-sanitizer --tool memcheck <program>` names kernel and line; "
    "CUDA_LAUNCH_BLOCKING=1 names the launch; cuda-gdb or a core dump (CUDA_ENABLE_COREDUMP_ON_EXCEPTION=1) the "
    "thread. Compare the fault address with what the program allocated. If the same program runs clean on another GPU"
    " of the same kind, run dmaproof's integrity tests on this one."
)


def _match(case: Case) -> Finding | None:
    found = [xid for xid in xids.seen(case, *_NUMBERS) if _is_the_programs(case, xid)]
    if not found:
        return None
    return Finding(
        confidence=_confidence(case, found),
        summary="; ".join((*dict.fromkeys(_told(xid) for xid in found), "nothing else explains it")),
        evidence=xids.sightings(found),
        explains=tuple(one for xid in found for one in _own_removals(case, xid)),
    )


def _is_the_programs(case: Case, xid: Xid) -> bool:
    """A fault inside the test's own memory is no wild pointer; one with a cause of its own is a victim's."""
    caused = xid.event is not None and xid.event.caused_by is not None
    return xids.is_own(case, xid) is not False and not xids.in_own_memory(case, xid) and not caused


def _own_removals(case: Case, xid: Xid) -> tuple[Evidence, ...]:
    """The same fault told again, and channels of the program that are removed with the one that faulted."""
    removed = [
        one
        for one in xids.after(case, xid, xids.PREEMPTIVE_REMOVAL)
        if xid.pid is not None and one.event is not None and one.event.pid == xid.pid
    ]
    return (*xids.after(case, xid, *_NUMBERS), *removed)


def _confidence(case: Case, found: list[Xid]) -> Confidence:
    """Certain where both pid and address tell: the test's own process, outside everything that it allocated."""
    own = [xid for xid in found if xids.is_own(case, xid)]
    outside = [xid for xid in own if xid.event is not None and xid.event.va is not None and case.allocations]
    return "certain" if outside else "probable" if own else "possible"


def _told(xid: Xid) -> str:
    at = f" at {xid.event.va:#x}" if xid.event is not None and xid.event.va is not None else ""
    return f"{xids.who(xid)} on {about.named([xid.bdf])} {_met(xid)}{at} (Xid {xid.number})"


def _met(xid: Xid) -> str:
    """Fault types are those of the MMU: only an entry that is not there means an address that is not mapped."""
    if xid.number == xids.RESET_CHANNEL:
        return "had a channel stopped"
    if xid.number != xids.MMU_FAULT:
        return "met an exception in its kernel"
    kind = xid.event.fault_type if xid.event is not None else None
    unmapped = kind is not None and kind.startswith(("FAULT_PDE", "FAULT_PTE"))
    return "met an address that is not mapped" if unmapped else f"met an MMU fault ({kind or 'of an unknown type'})"


SIGNATURE = Signature(
    id="application-fault",
    floor="effect",
    title="The program's own fault: a wild pointer or a trap, with nothing wrong around it.",
    needs="Xid 13, 31 or 43 of the test's process, or of one that is not known, outside the test's own memory.",
    excludes="Other processes' Xids, faults inside the test's own memory, and any cause that explains them.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: ROBUST_CHANNEL_GR_EXCEPTION, ROBUST_CHANNEL_FIFO_ERROR_MMU_ERR_FLT",
    ),
    match=_match,
)
