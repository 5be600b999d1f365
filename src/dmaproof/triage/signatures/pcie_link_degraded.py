"""A GPU's PCIe link trained narrower or slower than both its ends can: every copy over it is slow.

A low generation at rest is power saving and comes back under load; lanes do not (drivers/pci/pci.c:
__pcie_print_link_status says so at boot: ``15.752 Gb/s available PCIe bandwidth, limited by 8.0 GT/s PCIe x2 link``).
"""

from __future__ import annotations

import re

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import LinkState
from dmaproof.rig.hardware import Gpu
from dmaproof.triage import about, shortfall
from dmaproof.triage.shortfall import Rate
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_LIMITED = re.compile(
    r"limited by .*?\bx(?P<width>\d+) link at (?P<port>[0-9a-f:.]+).*?capable of .*?\bx(?P<can>\d+) link"
)
_REMEDY = (
    "`lspci -vvs {gpu} | grep -E 'LnkCap|LnkSta'` and the same of the port above it ({port}): LnkSta below LnkCap with "
    "`(downgraded)` is this. Power the machine off, reseat GPU, riser and cable, clean the contacts; try the GPU in "
    "another slot: if the fault stays with the slot, check lane bifurcation and the slot's speed in firmware, else "
    "exchange the GPU. `setpci -s {port} CAP_EXP+10.w=20:20` retrains the link without a reboot, with nothing using it."
)


def _match(case: Case) -> Finding | None:
    found = [(one, state) for one, state in case.facts(LinkState) if case.concerns(state.bdf) and _is_down(case, state)]
    lines = _lines(case, {state.bdf for _, state in found})
    gpus = {state.bdf for _, state in found} | {gpu for one in lines for gpu in _gpus(case, one)}
    if not gpus and not lines:
        return None
    rates = shortfall.short_over(case, gpus, "pcie")
    first = found[0][1] if found else None
    gpu = first.bdf if first is not None else next(iter(sorted(gpus)), "<GPU>")
    told = [_told(state) for _, state in found] or [one.text for one in lines]
    return Finding(
        confidence="certain" if found and (rates or lines) else "probable",
        summary="; ".join((*dict.fromkeys(told), *(rate.told for rate in rates[:1]))),
        evidence=(*(one for one, _ in found), *lines, *(rate.evidence for rate in rates)),
        explains=(*_all_rates(case, gpus), *lines),
        remedy=_REMEDY.format(gpu=gpu, port=about.port_of(case.node, gpu) or "<port>"),
    )


def _declared(case: Case, bdf: str) -> Gpu | None:
    return next((gpu for gpu in case.node.gpus if gpu.bdf == bdf), None)


def _is_down(case: Case, state: LinkState) -> bool:
    """Lanes always count; a low generation only with a slow copy over the link, or one that is not even offered."""
    gpu = _declared(case, state.bdf)
    declared = gpu.pcie if gpu is not None else None
    if _below(state.width, state.offered_width) or (declared and _below(state.width, declared.width)):
        return True
    if declared and _below(state.offered_generation, declared.generation):
        return True
    slow = bool(shortfall.short_over(case, [state.bdf], "pcie"))
    return slow and _below(state.generation, declared.generation if declared else state.offered_generation)


def _below(seen: int | None, wanted: int | None) -> bool:
    return seen is not None and wanted is not None and 0 < seen < wanted


def _lines(case: Case, known: set[str]) -> tuple[Evidence, ...]:
    """The kernel's lines of links that lack lanes. A link said to be slow only was at rest, unless it is slow now."""
    found = [one for one in (*case.session, *case.evidence) if one.kind == "link" and _is_ours(case, one)]
    return tuple(one for one in found if _lacks_lanes(one) or set(_gpus(case, one)) & known)


def _is_ours(case: Case, one: Evidence) -> bool:
    gpus = _gpus(case, one)
    return any(case.concerns(gpu) for gpu in gpus) or not case.node.gpus


def _gpus(case: Case, one: Evidence) -> tuple[str, ...]:
    return about.gpus_at(case.node, about.device(one))


def _lacks_lanes(one: Evidence) -> bool:
    match = _LIMITED.search(one.text)
    return match is not None and int(match["width"]) < int(match["can"])


def _all_rates(case: Case, gpus: set[str]) -> tuple[Evidence, ...]:
    rates: tuple[Rate, ...] = shortfall.over(case, gpus, "pcie")
    return tuple(rate.evidence for rate in rates)


def _told(state: LinkState) -> str:
    port = f" to {state.port}" if state.port else ""
    return (
        f"the PCIe link of {state.bdf}{port} runs at generation {state.generation} x{state.width}, "
        f"where generation {state.offered_generation} x{state.offered_width} is offered"
    )


SIGNATURE = Signature(
    id="pcie-link-degraded",
    title="A GPU's PCIe link trained narrower or slower than both its ends can.",
    needs="Fewer lanes than offered or declared; or a generation below it together with a slow copy over the link; or "
    "the kernel's boot line of a link that lacks lanes.",
    excludes="A low generation at rest (power saving), and other GPUs' links.",
    remedy=_REMEDY.format(gpu="<GPU>", port="<port>"),
    references=("Linux drivers/pci/pci.c: __pcie_print_link_status", "https://github.com/NVIDIA/DCGM/issues/198"),
    match=_match,
)
