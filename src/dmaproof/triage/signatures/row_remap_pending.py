"""A row of a GPU's memory is marked for exchange, and waits for a reset. Until then the bad row is in use.

Xid 63 (row remapper), 64 where it failed; NVML tells the state (nvmlDeviceGetRemappedRows).
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import GpuHealth
from dmaproof.triage import about, shortfall, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_REMEDY = (
    "Reset the GPU with nothing using it (`nvidia-smi --gpu-reset -i <GPU>`), or reboot, then `nvidia-smi -q -d "
    "ROW_REMAPPER -i <GPU>`: Pending must be No. If Remapping Failure Occurred is Yes (Xid 64), no spare row is left "
    "in that bank: ask for exchange (RMA)."
)

_PAGE = "Page Retirement"
_REMEDY_OF_PAGES = (
    "Reset the GPU with nothing using it (`nvidia-smi --gpu-reset -i <GPU>`), load the driver anew, or reboot, then "
    "`nvidia-smi -q -d PAGE_RETIREMENT -i <GPU>`: Pending Page Blacklist must be No. If a page could not be retired "
    "(Xid 64), or the list nears its 64 pages, ask for exchange (RMA)."
)


def _match(case: Case) -> Finding | None:
    """A state of the whole session, said once when it came to be. It neither hangs nor slows anything."""
    if case.of_kind("hang") or any(rate.is_short for rate in shortfall.rates(case)):
        return None
    states = [(one, seen) for one, seen in case.facts(GpuHealth) if case.concerns(seen.bdf) and _waits(seen)]
    marked = [xid for xid in _marked(case) if not _is_known_done(case, xid)]
    gpus: set[str | None] = {seen.bdf for _, seen in states}
    gpus = gpus or {xid.bdf for xid in marked}
    lines = xids.sightings(xid for xid in marked if xid.bdf in gpus)
    if not gpus:
        return None
    failed = any(seen.remap_failed for _, seen in states) or any(xid.number == xids.REMAP_FAILED for xid in marked)
    if not states and all(_PAGE in xid.text for xid in marked):
        return _retired(gpus, lines, failed=failed)
    what = "could not be remapped" if failed else "is marked for remapping, which a reset of the GPU carries out"
    return Finding(
        confidence="certain" if states and lines else "probable",
        summary=f"a memory row of {about.named(gpus)} {what}",
        evidence=(*(one for one, _ in states), *lines),
        explains=_asked_for(case, gpus),
    )


def _retired(gpus: set[str | None], lines: tuple[Evidence, ...], *, failed: bool) -> Finding:
    """GPUs before Ampere have no spare rows: the driver leaves the page out when it starts the GPU next."""
    what = "could not be retired" if failed else "is retired from the next reset of the GPU or load of the driver on"
    return Finding(
        confidence="probable",
        summary=f"a memory page of {about.named(gpus)} {what}",
        evidence=lines,
        remedy=_REMEDY_OF_PAGES,
    )


def _waits(seen: GpuHealth) -> bool:
    return bool(seen.remap_pending or seen.remap_failed)


def _marked(case: Case) -> list[Xid]:
    everything = (*case.session, *case.evidence)
    return [xid for xid in xids.of(everything, xids.REMAPPED, xids.REMAP_FAILED) if case.concerns(xid.bdf)]


def _is_known_done(case: Case, xid: Xid) -> bool:
    """NVML says that nothing is pending: a reset since has carried it out."""
    return any(seen.bdf == xid.bdf and seen.remap_pending is False for _, seen in case.facts(GpuHealth))


def _asked_for(case: Case, gpus: set[str | None]) -> tuple[Evidence, ...]:
    """The reset that the driver then wants."""
    health = [one for one, seen in case.facts(GpuHealth) if seen.bdf in gpus]
    wanted = [xid for xid in xids.of((*case.session, *case.evidence), xids.RECOVERY_ACTION) if xid.bdf in gpus]
    return (*health, *xids.sightings(wanted))


SIGNATURE = Signature(
    id="row-remap-pending",
    title="A row of a GPU's memory waits to be remapped: a reset is needed.",
    needs="NVML's word that a remap is pending or has failed, or Xid 63 or 64 that no answer of NVML's contradicts.",
    excludes="The memory error itself in the same run (ecc-uncorrectable, ecc-contained), hangs and slow rates.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/",
        "open-gpu-kernel-modules nverror.h: INFOROM_PAGE_RETIREMENT_EVENT, INFOROM_PAGE_RETIREMENT_FAILURE",
    ),
    match=_match,
)
