"""ACS redirect: a switch port sends peer traffic up to the root complex and back, instead of straight to its neighbour.

With an IOMMU on, Linux sets source validation and request and completion redirect on every port that has ACS, even
under iommu=pt (pci_std_enable_acs, drivers/pci/pci.c): slow, or hung (nccl#257, nccl-tests#115).
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import RouteSeen
from dmaproof.triage import about, shortfall
from dmaproof.triage.shortfall import Rate
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Boot with pci=disable_acs_redir={ports} (from 6.11 on also pci=config_acs=), or try at once, until the next boot: "
    "`setpci -s {port} ECAP_ACS+6.w=0:2c` (clears RR, CR and EC); do so for every downstream port of the switch that "
    "redirects (`dmaproof route {client} {provider}` names them). Firmware may have a switch called ACS control. GPUs "
    "under one switch without redirect share an IOMMU group: they can then no longer be given to different guests."
)

Found = list[tuple[Evidence, RouteSeen, list[Rate]]]


def _match(case: Case) -> Finding | None:
    found = [(one, fact, _short(case, fact)) for one, fact in _redirected(case) if _matters(case, fact)]
    if not found:
        return None
    _, route, _ = found[0]
    ports = list(dict.fromkeys(fact.decided_by for _, fact, _ in found if fact.decided_by is not None))
    rates = [rate for _, _, short in found for rate in short]
    return Finding(
        confidence="certain" if rates else "probable",
        summary="; ".join(_told(pair, found) for pair in _pairs(found)),
        evidence=about.once((*(one for one, _, _ in found), *(rate.evidence for rate in rates))),
        explains=_rates(case, [fact for _, fact, _ in found]),
        remedy=_REMEDY.format(ports=";".join(ports), port=ports[0], client=route.client, provider=route.provider),
    )


def _matters(case: Case, route: RouteSeen) -> bool:
    """A rate that falls short; or, where nothing was measured and nothing else is wrong, a switch that the rig declares
    for both and that their traffic does not stay under."""
    if _short(case, route):
        return True
    return about.is_quiet(case) and _under_one_switch(case, route)


def _under_one_switch(case: Case, route: RouteSeen) -> bool:
    above = [case.node.switch_above(gpu) for gpu in case.node.gpus if gpu.bdf in (route.client, route.provider)]
    return len(above) == 2 and above[0] is not None and above[0] == above[1]


def _redirected(case: Case) -> tuple[tuple[Evidence, RouteSeen], ...]:
    """Routes that go over the host bridge because of a port's setting, not for want of a common switch."""
    return tuple(
        (one, route)
        for one, route in case.facts(RouteSeen)
        if route.outcome == "host-bridge" and route.acs and route.decided_by is not None
    )


def _short(case: Case, route: RouteSeen) -> list[Rate]:
    """Peer rates of the pair below what is declared: without one, redirect is this machine's known way."""
    return [
        rate
        for rate in shortfall.rates(case)
        if rate.ends == {route.client, route.provider} and rate.measured.peer and rate.kind == "pcie" and rate.is_short
    ]


def _rates(case: Case, routes: list[RouteSeen]) -> tuple[Evidence, ...]:
    pairs = [{route.client, route.provider} for route in routes]
    return tuple(rate.evidence for rate in shortfall.rates(case) if rate.ends in pairs and rate.measured.peer)


def _pairs(found: Found) -> tuple[tuple[str, str], ...]:
    """Each two GPUs once, however many ways between them are redirected."""
    both = ((one.client, one.provider) for _, one, _ in found)
    return tuple(dict.fromkeys((min(pair), max(pair)) for pair in both))


def _told(pair: tuple[str, str], found: Found) -> str:
    """Both ways between two GPUs in one sentence: a rate is told once."""
    here = [(route, short) for _, route, short in found if {route.client, route.provider} == set(pair)]
    ports = dict.fromkeys(f"{route.decided_by} (ACS {'+'.join(route.acs)})" for route, _ in here)
    shown = next((f": {short[0].told}" for _, short in here if short), ", past the switch above both")
    verb = "redirects" if len(ports) == 1 else "redirect"
    return f"{' and '.join(ports)} {verb} peer traffic of {' and '.join(pair)} to the root complex{shown}"


SIGNATURE = Signature(
    id="acs-redirects-p2p",
    title="ACS redirect on a switch port sends peer traffic through the root complex.",
    needs="A route that a redirecting port between the two GPUs decides, and a peer rate below what is declared; or, "
    "with nothing measured and nothing else wrong, a switch that the rig declares above both.",
    excludes="GPUs without a common switch, rates that are reached, and pairs one of whose links is degraded.",
    remedy=_REMEDY.format(ports="PORT;PORT", port="PORT", client="CLIENT", provider="PROVIDER"),
    references=(
        "https://github.com/NVIDIA/nccl/issues/257",
        "https://github.com/NVIDIA/nccl-tests/issues/115",
        "Linux drivers/pci/p2pdma.c: calc_map_type_and_dist",
        "Linux Documentation/admin-guide/kernel-parameters.txt: pci=disable_acs_redir",
    ),
    match=_match,
)
