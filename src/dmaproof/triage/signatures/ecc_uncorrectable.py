"""Memory of a GPU gave data that could not be corrected, and the error was not contained: the GPU needs a reset.

Xid 48 (double-bit error; before Ampere the only word for it), Xid 95 (uncontained). A row remap follows (Xid 63).
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep, GpuHealth
from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_FOLLOW = (xids.REMAPPED, xids.REMAP_FAILED, xids.GSP_TIMEOUT, xids.GSP_EXCEPTION)
_REMEDY = (
    "End everything on the GPU and reset it (`nvidia-smi --gpu-reset -i <GPU>`, or reboot): the bad row is exchanged "
    "only then. Afterwards `nvidia-smi -q -d ROW_REMAPPER,ECC -i <GPU>`: Pending must be No, Remapping Failure "
    "Occurred No. Run DCGM's diagnostic (`dcgmi diag -r 3 -i <GPU>`). Ask for exchange (RMA) if a remap failed (Xid "
    "64), if the same bank errs again, or if uncorrectable SRAM errors count up. Distrust what the failed job wrote."
)


def _match(case: Case) -> Finding | None:
    now = [xid for xid in xids.seen(case, xids.DOUBLE_BIT, xids.UNCONTAINED) if not _is_contained(case, xid)]
    before = [xid for xid in xids.earlier(case, xids.DOUBLE_BIT, xids.UNCONTAINED) if not _is_contained(case, xid)]
    found = now or before
    if not found:
        return _counted_before(case)
    counters = _counters(case, {xid.bdf for xid in found})
    return Finding(
        confidence="certain" if now and (counters or any(len(xid.sources) > 1 for xid in now)) else "probable",
        summary=f"{about.named(xid.bdf for xid in found)} met an uncorrectable memory error that was not contained"
        + ("" if now else " earlier in this run"),
        evidence=(*xids.sightings(found), *counters),
        explains=tuple(one for xid in found for one in xids.consequences(case, xid, *_FOLLOW)),
    )


def _counted_before(case: Case) -> Finding | None:
    """NVML has counted errors since the driver was loaded, and no log says when, or whether they were contained."""
    known = {xid.bdf for xid in xids.of(case.session, xids.CONTAINED)}
    states = [
        (one, seen)
        for one, seen in case.facts(GpuHealth)
        if case.concerns(seen.bdf) and seen.bdf not in known and (seen.ecc_uncorrectable or 0) > 0
    ]
    if not states or not about.is_quiet(case):
        return None
    told = [f"{seen.bdf} has counted {seen.ecc_uncorrectable} uncorrectable memory errors" for _, seen in states]
    return Finding(
        confidence="possible",
        summary=f"{'; '.join(told)} since the driver was loaded; no Xid in sight says whether they were contained",
        evidence=tuple(one for one, _ in states),
    )


def _is_contained(case: Case, xid: Xid) -> bool:
    """Newer drivers add 94 or 95 to a 48: 94 alone says that it was contained."""
    if xid.number == xids.UNCONTAINED:
        return False
    both = xids.of((*case.session, *case.evidence), xids.CONTAINED, xids.UNCONTAINED)
    numbers = {other.number for other in both if other.bdf == xid.bdf}
    return xids.CONTAINED in numbers and xids.UNCONTAINED not in numbers


def _counters(case: Case, gpus: set[str | None]) -> tuple[Evidence, ...]:
    """What NVML counted, and what it wants done."""
    steps = [one for one, step in case.facts(CounterStep) if step.bdf in gpus and step.counter == "ecc-uncorrectable"]
    health = [one for one, seen in case.facts(GpuHealth) if seen.bdf in gpus and (seen.ecc_uncorrectable or 0) > 0]
    wanted = [one for bdf in gpus for one in about.unfit(case, bdf)]
    return about.once((*steps, *health, *wanted))


SIGNATURE = Signature(
    id="ecc-uncorrectable",
    title="A GPU's memory gave data that could not be corrected, and the error was not contained.",
    needs="Xid 48 or 95 of a GPU of the test's; certain where NVML's ECC counters or a probe confirm it. With nothing "
    "else wrong, errors that NVML has counted since the driver was loaded.",
    excludes="Errors that were contained (ecc-contained), and other GPUs.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/",
        "open-gpu-kernel-modules nverror.h: ROBUST_CHANNEL_GPU_ECC_DBE, ROBUST_CHANNEL_UNCONTAINED_ERROR",
    ),
    match=_match,
)
