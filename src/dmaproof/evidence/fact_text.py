"""A fact for people, and the kind of evidence that it makes: one sentence each, an unknown said as such."""

from __future__ import annotations

from collections.abc import Mapping

from dmaproof.evidence.fact import (
    AddressingSeen,
    BarConflict,
    Fact,
    GpuHealth,
    LinkState,
    NvlinkState,
    RouteSeen,
)

KINDS: Mapping[type[Fact], str] = {
    LinkState: "link-state",
    NvlinkState: "nvlink-state",
    GpuHealth: "gpu-health",
    AddressingSeen: "addressing",
    BarConflict: "bar-conflict",
    RouteSeen: "route",
}
"""Of the facts that say how a machine stands; those of a moment (a measurement, a step) are told by who saw them."""


def told(fact: Fact) -> str:
    """``fact`` as a sentence."""
    match fact:
        case LinkState():
            return _link(fact)
        case NvlinkState():
            return f"{fact.bdf}: {fact.active} NVLinks are up, {_known(fact.declared)} declared"
        case GpuHealth():
            return _health(fact)
        case AddressingSeen():
            return (
                f"{fact.bdf}: addressing declared {fact.declared}, device attributes say "
                f"{_known(fact.by_attributes)}, NVML says {_known(fact.by_nvml)}"
            )
        case BarConflict():
            return _bar(fact)
        case RouteSeen():
            by = f", decided by {fact.decided_by}" if fact.decided_by else ""
            acs = f" (ACS {', '.join(fact.acs)})" if fact.acs else ""
            return f"route {fact.client} to {fact.provider}: {fact.outcome}{by}{acs}"
        case _:
            return str(fact)


def _link(fact: LinkState) -> str:
    now, offered = (
        f"gen {_known(generation)} x{_known(width)}"
        for generation, width in ((fact.generation, fact.width), (fact.offered_generation, fact.offered_width))
    )
    return f"{fact.bdf}: PCIe link to {fact.port or 'the root'} at {now}, offered {offered}"


def _health(fact: GpuHealth) -> str:
    return (
        f"{fact.bdf}: recovery action {_known(fact.recovery_action)}, row remapping pending "
        f"{_known(fact.remap_pending)}, failed {_known(fact.remap_failed)}, uncorrectable ECC errors "
        f"{_known(fact.ecc_uncorrectable)}"
    )


def _bar(fact: BarConflict) -> str:
    at = f" at {fact.address:#x}" if fact.address is not None else ""
    over = f" ({fact.first:#x}..{fact.last:#x})" if fact.first is not None and fact.last is not None else ""
    return f"{fact.bdf}: BAR{fact.bar}{at} is {fact.why}{over}"


def _known(value: str | int | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)
