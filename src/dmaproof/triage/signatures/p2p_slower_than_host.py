"""Peer access that costs instead of helping: slower than staging the same copy through the host.

1.6-9.9 GB/s with peer access on against 13-22 with it off (nccl#814, stas00/ml-engineering): root complexes move peer
traffic in small completions, or across sockets. An effect: a link that is down explains it better.
"""

from __future__ import annotations

from dmaproof.rig.model import HOST
from dmaproof.triage import shortfall
from dmaproof.triage.shortfall import Rate
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Let the library stage instead: NCCL_P2P_LEVEL=PXB (peer access only under a common switch) or NCCL_P2P_DISABLE=1. "
    "Then see where the traffic goes: `dmaproof route {source} {target}` and `nvidia-smi topo -m`; two GPUs that peer "
    "belong under one switch of one socket. Ask the platform vendor for the peer to peer rate of its root complex, and "
    "for firmware settings of relaxed ordering and of the read request size (lspci -vv: MaxReadReq)."
)
_SURELY_SLOWER = 0.5
"""Staging keeps two thirds of the slower half's rate and more (p2pBandwidthLatencyTest on H100, P2P off: 37 of 55)."""


def _match(case: Case) -> Finding | None:
    found = [(on, off) for on, off in _compared(case) if on.measured.value < off.measured.value * (1 - _margin(on))]
    if not found:
        return _by_declaration(case)
    first = found[0][0].measured
    return Finding(
        confidence="certain" if any(on.is_short for on, _ in found) else "probable",
        summary="; ".join(_told(on, off) for on, off in found),
        evidence=tuple(rate.evidence for both in found for rate in both),
        remedy=_REMEDY.format(source=first.source, target=first.target),
    )


def _by_declaration(case: Case) -> Finding | None:
    """Nothing was staged in this test; what the rig declares between each end and the host says what staging gives."""
    found = [(rate, staged) for rate in _peer_rates(case) if (staged := _staging_GBps(case, rate)) is not None]
    slow = [(rate, staged) for rate, staged in found if rate.measured.value < staged * _SURELY_SLOWER]
    if not slow:
        return None
    (first, staged), one = slow[0], slow[0][0].measured
    return Finding(
        confidence="probable",
        summary=f"peer access moves {first.told}; the rig declares {staged:g} GB/s between these GPUs and the host",
        evidence=tuple(rate.evidence for rate, _ in slow),
        blind_spots=("the same copy was not staged through the host in this test: its rate is the rig's word",),
        remedy=_REMEDY.format(source=one.source, target=one.target),
    )


def _peer_rates(case: Case) -> list[Rate]:
    return [
        rate
        for rate in shortfall.rates(case)
        if rate.measured.peer and rate.measured.unit == "GB/s" and rate.kind == "pcie" and rate.is_short
    ]


def _staging_GBps(case: Case, rate: Rate) -> float | None:  # noqa: N802 - the unit's own case
    """The slower half of the way through the host, as the rig declares it."""
    names = {gpu.bdf: gpu.name for gpu in case.node.gpus}
    source, target = names.get(rate.measured.source), names.get(rate.measured.target)
    if source is None or target is None:
        return None
    halves = [case.node.path_between(source, HOST), case.node.path_between(HOST, target)]
    rates = [path.bandwidth_GBps for path in halves if path is not None and path.bandwidth_GBps is not None]
    return min(rates) if len(rates) == len(halves) else None


def _margin(rate: Rate) -> float:
    return shortfall.tolerance(rate.measured.engine)


def _compared(case: Case) -> list[tuple[Rate, Rate]]:
    """Each copy with peer access beside the same copy without."""
    rates = [rate for rate in shortfall.rates(case) if rate.measured.unit == "GB/s"]
    staged = {_copy(rate): rate for rate in rates if rate.measured.peer is False}
    return [(rate, staged[_copy(rate)]) for rate in rates if rate.measured.peer and _copy(rate) in staged]


def _copy(rate: Rate) -> tuple[str | None, ...]:
    one = rate.measured
    return one.name, one.source, one.target, one.engine, one.direction


def _told(on: Rate, off: Rate) -> str:
    one = on.measured
    return (
        f"peer access from {one.source} to {one.target} moves {one.value:.1f} GB/s; "
        f"staged through the host it is {off.measured.value:.1f} GB/s"
    )


SIGNATURE = Signature(
    id="p2p-slower-than-host",
    floor="effect",
    title="Peer access is slower than staging the same copy through the host.",
    needs="The same copy measured with and without peer access, the first slower by more than the tolerance; or a peer "
    "copy at less than half of what the rig declares between its ends and the host.",
    excludes="A cause of the slow rate that was found: a degraded link, correctable errors, ACS redirect.",
    remedy=_REMEDY.format(source="SOURCE", target="TARGET"),
    references=("https://github.com/NVIDIA/nccl/issues/814", "https://github.com/stas00/ml-engineering/issues/1"),
    match=_match,
)
