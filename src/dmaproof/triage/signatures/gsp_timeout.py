"""The GPU's system processor (GSP) does not answer the driver: every call that needs it fails or waits.

Xid 119 after six seconds without an answer, Xid 120 where the GSP itself reports an exception (nverror.h).
"""

from __future__ import annotations

from dmaproof.triage import about, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Save `nvidia-bug-report.sh` first: the GSP's own log is in it and lost with the next reset. Then "
    "`nvidia-smi --gpu-reset -i <GPU>` with nothing using the GPU; if it is refused, power the machine off fully. Note "
    "which RPC function the first Xid 119 names and what ran. If it comes back, try another driver branch, or on GPUs "
    "that can, the driver without GSP (NVreg_EnableGpuFirmware=0; not with the open kernel modules); one GPU of many "
    "that repeats it needs exchange."
)


def _match(case: Case) -> Finding | None:
    """A GSP that is gone stays so until the reset: what the run saw before counts where the test uses that GPU."""
    now = list(xids.seen(case, xids.GSP_TIMEOUT, xids.GSP_EXCEPTION))
    found = now or list(xids.earlier(case, xids.GSP_TIMEOUT, xids.GSP_EXCEPTION))
    if not found:
        return None
    gpus = {xid.bdf for xid in found}
    others = tuple(one for bdf in gpus for one in about.unfit(case, bdf))
    seen_twice = any(len(xid.sources) > 1 for xid in found)
    return Finding(
        confidence="certain" if now and (others or seen_twice) else "probable",
        summary=f"the GSP of {about.named(gpus)} {_what(found)}" + ("" if now else " earlier in this run"),
        evidence=(*xids.sightings(found), *others),
        explains=tuple(one for xid in found for one in xids.consequences(case, xid)),
    )


def _what(found: list[xids.Xid]) -> str:
    return "raised an exception" if found[0].number == xids.GSP_EXCEPTION else "does not answer the driver"


SIGNATURE = Signature(
    id="gsp-timeout",
    title="A GPU's system processor (GSP) does not answer the driver.",
    needs="Xid 119 or 120 of a GPU of the test's; certain where NVML or a probe by a fresh process confirms it.",
    excludes="A GPU that fell off the bus: nothing on it answers then (gpu-lost, dpc-containment).",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: GSP_RPC_TIMEOUT, GSP_ERROR",
    ),
    match=_match,
)
