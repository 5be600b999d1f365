"""An uncorrectable memory error that the GPU contained: only the process that touched the page ended; the GPU goes on.

Xid 94 (nverror.h: ROBUST_CHANNEL_CONTAINED_ERROR). The page is set aside at once; a row remap waits for the next reset.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep, GpuHealth
from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_REMEDY = (
    "Run the job again: the page is set aside, other work on the GPU was not touched. Look at `nvidia-smi -q -d "
    "ECC,ROW_REMAPPER,PAGE_RETIREMENT -i <GPU>`; reset the GPU at the next pause if a remap is pending. One such error "
    "is wear; several on one GPU within weeks are a reason for `dcgmi diag -r 3 -i <GPU>` and exchange (RMA)."
)


def _match(case: Case) -> Finding | None:
    """What was contained is over when its process has ended, and other processes' are no matter: an earlier one
    explains what NVML has counted, and nothing else."""
    now = [xid for xid in xids.seen(case, xids.CONTAINED) if _is_ours(case, xid)]
    found = now or list(xids.earlier(case, xids.CONTAINED) if about.is_quiet(case) else ())
    counters = _counters(case, found)
    if not found or not (now or counters):
        return None
    sure = now and (counters or any(len(xid.sources) > 1 or xids.is_own(case, xid) for xid in found))
    return Finding(
        confidence="certain" if sure else "probable",
        summary=f"{about.named(xid.bdf for xid in found)} met an uncorrectable memory error and contained it: "
        "only the process that touched the page ended" + ("" if now else " (earlier in this run)"),
        evidence=(*xids.sightings(found), *counters),
        explains=tuple(
            one
            for xid in found
            for one in xids.consequences(case, xid, xids.DOUBLE_BIT, xids.REMAPPED, xids.REMAP_FAILED)
        ),
    )


def _is_ours(case: Case, xid: Xid) -> bool:
    uncontained = xids.of(case.evidence, xids.UNCONTAINED)
    return xids.is_own(case, xid) is not False and all(other.bdf != xid.bdf for other in uncontained)


def _counters(case: Case, found: list[Xid]) -> tuple[Evidence, ...]:
    gpus = {xid.bdf for xid in found}
    steps = [one for one, step in case.facts(CounterStep) if step.bdf in gpus and step.counter == "ecc-uncorrectable"]
    health = [one for one, seen in case.facts(GpuHealth) if seen.bdf in gpus and (seen.ecc_uncorrectable or 0) > 0]
    return (*steps, *health)


SIGNATURE = Signature(
    id="ecc-contained",
    title="A GPU's memory gave data that could not be corrected; the error was contained to one process.",
    needs="Xid 94 of a GPU of the test's that hit the test's process, or a process that the line does not name.",
    excludes="An uncontained error of the same GPU (Xid 95), and other processes' errors.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/",
        "open-gpu-kernel-modules nverror.h: ROBUST_CHANNEL_CONTAINED_ERROR",
    ),
    match=_match,
)
