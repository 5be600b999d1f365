"""Which device a piece of evidence is about, how often it was seen, and what follows from a GPU that broke."""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import (
    AddressingSeen,
    BarConflict,
    CounterStep,
    GpuHealth,
    LinkState,
    NvlinkState,
    Storm,
)
from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import Node
from dmaproof.triage.verdict import Case

_OF_ONE_DEVICE = (AddressingSeen, BarConflict, CounterStep, GpuHealth, LinkState, NvlinkState)


def device(one: Evidence) -> str | None:
    """The BDF that ``one`` is about: a GPU, or a port above one."""
    if one.event is not None:
        return one.event.bdf
    if isinstance(one.fact, _OF_ONE_DEVICE):
        return one.fact.bdf
    bdf = one.data.get("bdf")
    return bdf if isinstance(bdf, str) else None


def times(one: Evidence) -> int:
    """How often it was seen: a storm is one Evidence."""
    return one.fact.count if isinstance(one.fact, Storm) else 1


def last_s(one: Evidence) -> float:
    """When it was seen last, on the clock of its ``time_s``."""
    storm = one.fact
    return one.time_s + (storm.last_s - storm.first_s if isinstance(storm, Storm) else 0.0)


def told(one: Evidence) -> str:
    """Its text; of a storm also how often, for how long, and over which addresses."""
    storm = one.fact
    if not isinstance(storm, Storm) or storm.count == 1:
        return one.text
    lasted = f" in {storm.last_s - storm.first_s:.3g} s" if storm.last_s > storm.first_s else ""
    first, last = storm.first_address, storm.last_address
    where = f", addresses {first:#x}-{last:#x}" if first is not None and last is not None and first != last else ""
    return f"{one.text} ({storm.count} times{lasted}{where})"


def of_device(evidence: Iterable[Evidence], bdf: str | None, *kinds: str) -> tuple[Evidence, ...]:
    """The evidence of ``kinds`` about ``bdf``; nothing where no device is known."""
    return tuple(one for one in evidence if bdf is not None and one.kind in kinds and device(one) == bdf)


def follows(one: Evidence, first: Evidence) -> bool:
    """Whether ``one`` may have come after ``first``."""
    return one.time_s >= first.time_s - slack_s(one, first)


def refused_after(evidence: Iterable[Evidence], bdf: str | None, first: Evidence) -> tuple[Evidence, ...]:
    """What an IOMMU refused to ``bdf`` later than ``first``, its end: mappings are taken away under engines that run.
    What it refused before may be what the device died of."""
    faults = of_device(evidence, bdf, "iommu-fault")
    return tuple(one for one in faults if one.time_s > first.time_s + slack_s(one, first))


def slack_s(one: Evidence, other: Evidence) -> float:
    """How far the times of two may be off each other. Within one source they are exact; across sources, as known."""
    return 0.0 if one.source == other.source else one.uncertainty_s + other.uncertainty_s


def gpus_at(node: Node, bdf: str | None) -> tuple[str, ...]:
    """The GPU that ``bdf`` is, or those below it: of the ports, those that the rig names."""
    return tuple(gpu.bdf for gpu in node.gpus if bdf is not None and bdf in (gpu.bdf, *_above(node, gpu)))


def _above(node: Node, gpu: Gpu) -> tuple[str | None, ...]:
    switch = node.switch_above(gpu)
    return (gpu.port,) if switch is None else (gpu.port, switch.upstream, switch.port)


def port_of(node: Node, gpu: str) -> str | None:
    """The port above ``gpu``, where the rig says it."""
    return next((one.port for one in node.gpus if one.bdf == gpu), None)


def once(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Each Evidence once, in order. Its data is a mapping, so it has no hash of its own."""
    return tuple({id(one): one for one in evidence}.values())


def named(bdfs: Iterable[str | None]) -> str:
    """``0000:04:00.0, 0000:82:00.0``; ``a GPU`` where no source says which."""
    known = sorted({bdf for bdf in bdfs if bdf is not None})
    return ", ".join(known) or "a GPU"


def is_quiet(case: Case) -> bool:
    """Whether nothing went wrong in the window itself: a state that was there before may then be what a test objects
    to."""
    return not case.of_kind(
        "hang",
        "xid",
        "xid-event",
        "peer-write",
        "peer-read",
        "iommu-fault",
        "worker-died",
        "measured",
        "kernel-crash",
    )


def unfit(case: Case, bdf: str | None) -> tuple[Evidence, ...]:
    """What others than the kernel log say against ``bdf``: NVML wants it recovered, a fresh process cannot use it."""
    health = [one for one, fact in case.facts(GpuHealth) if fact.bdf == bdf and wants_recovery(fact)]
    probes = [one for one in of_device(case.evidence, bdf, "probe") if one.data.get("state") == "poisoned"]
    return (*health, *probes)


def wants_recovery(health: GpuHealth) -> bool:
    return health.recovery_action not in (None, "none")
