"""Some NVLinks of a GPU are down, or err and recover: peers talk on, at the rate of what is left (DCGM#198)."""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import nvlink, shortfall, xids
from dmaproof.triage.shortfall import Rate
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "`nvidia-smi nvlink -s -i <GPU>` names the links that are inactive, `nvidia-smi nvlink -e -i <GPU>` their replay, "
    "recovery and CRC errors; `nvidia-smi topo -m` shows NV<n> for what is left. Reset the GPU, with NVSwitches all of "
    "them (`nvidia-smi --gpu-reset`), and restart nvidia-fabricmanager. Links that stay down: reseat bridge, cable or "
    "GPU; then exchange. If fewer links are right for this machine, correct `nvlinks` in the rig file."
)


def _match(case: Case) -> Finding | None:
    gpus = sorted({state.bdf for _, state in nvlink.down(case)} | _erring(case))
    if not gpus:
        return None
    states = [(one, state) for one, state in nvlink.down(case) if state.bdf in gpus]
    rates = shortfall.short_over(case, gpus, "nvlink")
    signs = tuple(one for gpu in gpus for one in _signs(case, gpu))
    told = [f"{state.active} of {state.declared} NVLinks of {state.bdf} are up" for _, state in states]
    told += [f"NVLinks of {gpu} err and recover" for gpu in gpus if gpu not in {state.bdf for _, state in states}]
    return Finding(
        confidence="certain" if states and (rates or signs) else "probable",
        summary="; ".join((*told, *(rate.told for rate in rates[:1]))),
        evidence=(*(one for one, _ in states), *signs, *(rate.evidence for rate in rates)),
        explains=tuple(one for gpu in gpus for one in nvlink.consequences(case, gpu)),
    )


def _erring(case: Case) -> set[str]:
    """GPUs whose links err, by two signs of three: an error now and then is what replay is for."""
    gpus = {gpu.bdf for gpu in case.node.gpus if case.concerns(gpu.bdf)}
    return {gpu for gpu in gpus if _signs(case, gpu) and _both(case, gpu)}


def _both(case: Case, gpu: str) -> bool:
    short: tuple[Rate, ...] = shortfall.short_over(case, [gpu], "nvlink")
    return bool(short) or (bool(nvlink.counters(case, gpu)) and bool(_nonfatal(case, gpu)))


def _signs(case: Case, gpu: str) -> tuple[Evidence, ...]:
    return (*nvlink.counters(case, gpu), *_nonfatal(case, gpu))


def _nonfatal(case: Case, gpu: str) -> tuple[Evidence, ...]:
    found = xids.seen(case, *xids.NVLINK)
    return xids.sightings(xid for xid in found if xid.bdf == gpu and nvlink.is_nonfatal(xid))


SIGNATURE = Signature(
    id="nvlink-degraded",
    title="Some NVLinks of a GPU are down, or err and recover: peers run at the rate of what is left.",
    needs="Fewer links up than the rig declares; or two of: link error counters that step, a nonfatal link Xid, a rate "
    "below what is declared.",
    excludes="A fatal link error of the same GPU (nvlink-fatal), and rigs that declare no number of links.",
    remedy=_REMEDY,
    references=("https://github.com/NVIDIA/DCGM/issues/198",),
    match=_match,
)
