"""A fatal error on an NVLink: the link is down until the GPU is reset, and transfers over it end in errors.

Xid 74 (``NVLink: fatal error detected on link 14``), 144 to 150 with ``Fatal`` in the line (nverror.h: NVLINK_*_ERROR).
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import about, nvlink, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_REMEDY = (
    "`nvidia-smi nvlink -s -i <GPU>` (which links are down) and `nvidia-smi nvlink -e -i <GPU>` (error counters of "
    "each), `nvidia-bug-report.sh`; with NVSwitches also `systemctl status nvidia-fabricmanager` and its log. Reset "
    "the GPU, with NVSwitches all GPUs and switches together (`nvidia-smi --gpu-reset`). A link that fails again: "
    "exchange baseboard or GPU, the link number says which trace or bridge. Until then keep the GPU out of NVLink "
    "jobs (NCCL_P2P_DISABLE=1, or CUDA_VISIBLE_DEVICES without it)."
)


def _match(case: Case) -> Finding | None:
    """A link stays down until the reset: what the run saw before counts where the test uses that GPU."""
    now = _fatal(xids.seen(case, *xids.NVLINK))
    found = now or _fatal(xids.earlier(case, *xids.NVLINK))
    if not found:
        return None
    others = about.once(one for xid in found for one in _others(case, xid))
    seen_twice = any(len(xid.sources) > 1 for xid in found)
    return Finding(
        confidence="certain" if now and (others or seen_twice) else "probable",
        summary="; ".join(dict.fromkeys(_told(xid) for xid in found)) + ("" if now else " (earlier in this run)"),
        evidence=(*xids.sightings(found), *others),
        explains=tuple(one for xid in found for one in _explained(case, xid)),
    )


def _fatal(found: tuple[Xid, ...]) -> list[Xid]:
    return [xid for xid in found if nvlink.is_fatal(xid)]


def _others(case: Case, xid: Xid) -> tuple[Evidence, ...]:
    states = tuple(one for one, _ in nvlink.down(case, xid.bdf)) if xid.bdf is not None else ()
    return (*states, *nvlink.counters(case, xid.bdf), *about.unfit(case, xid.bdf))


def _explained(case: Case, xid: Xid) -> tuple[Evidence, ...]:
    links = nvlink.consequences(case, xid.bdf) if xid.bdf is not None else ()
    return (*xids.consequences(case, xid), *links)


def _told(xid: Xid) -> str:
    link = nvlink.link_of(xid)
    which = "an NVLink" if link == nvlink.SOME_LINK else f"NVLink {link}"
    return f"{which} of {about.named([xid.bdf])} had a fatal error (Xid {xid.number}) and is down"


SIGNATURE = Signature(
    id="nvlink-fatal",
    title="An NVLink had a fatal error and is down.",
    needs="Xid 74 or 144 to 150 whose line says fatal, of a GPU of the test's; certain where NVML confirms it.",
    excludes="Errors that the line calls nonfatal (nvlink-degraded), and other GPUs' links.",
    remedy=_REMEDY,
    references=(
        "https://docs.nvidia.com/deploy/xid-errors/",
        "open-gpu-kernel-modules nverror.h: NVLINK_ERROR, NVLINK_RLW_ERROR .. NVLINK_MSE_ERROR",
    ),
    match=_match,
)
