"""A marginal PCIe link: packets arrive damaged and are sent again, so nothing is lost and everything is slower.

Correctable errors (BadTLP, BadDLLP, RxErr, Timeout, Rollover) in aer_dev_correctable, AER lines, and the GPU's replay
counter (drivers/pci/pcie/aer.c; nvmlDeviceGetPcieReplayCounter). One now and then is what replay is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep
from dmaproof.triage import about, shortfall
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_STORM = 10
_COUNTERS = ("aer-correctable", "pcie-replay")
_REMEDY = (
    "Watch it under load: `grep . /sys/bus/pci/devices/{{{gpu},{port}}}/aer_dev_correctable` and `nvidia-smi -q -i "
    "{gpu} | grep -i replay`. Reseat GPU, riser and cable; compare another slot. Errors on the port's side (BadTLP, "
    "RxErr there) are the GPU's transmitter or the trace, on the GPU's side the port's. Update the firmware of "
    "retimers and switch. To run on meanwhile, train the link one generation lower in firmware. Do not hide it with "
    "pci=noaer."
)


def _match(case: Case) -> Finding | None:
    gpus = [gpu.bdf for gpu in case.node.gpus if case.concerns(gpu.bdf)]
    signs: dict[str | None, tuple[Evidence, ...]] = {gpu: _signs(case, _ends(case, gpu)) for gpu in gpus}
    signs = signs or {None: _signs(case, None)}
    storms = {gpu: found for gpu, found in signs.items() if _weight(found) >= _STORM}
    if not storms:
        return None
    hit = [gpu for gpu in storms if gpu is not None]
    rates = shortfall.short_over(case, hit, "pcie")
    found = about.once(one for signs in storms.values() for one in signs)
    kinds = {(one.kind, one.fact.counter if isinstance(one.fact, CounterStep) else None) for one in found}
    gpu = hit[0] if hit else None
    return Finding(
        confidence="certain" if len(kinds) > 1 or rates else "probable",
        summary="; ".join(
            (*(_told(case, signs, gpu) for gpu, signs in storms.items()), *(rate.told for rate in rates[:1]))
        ),
        evidence=(*found, *(rate.evidence for rate in rates)),
        explains=(*found, *(rate.evidence for rate in shortfall.over(case, hit, "pcie"))),
        remedy=_remedy(case, gpu),
    )


def _ends(case: Case, gpu: str) -> set[str | None]:
    return {gpu, about.port_of(case.node, gpu) or gpu}


def _signs(case: Case, ends: set[str | None] | None) -> tuple[Evidence, ...]:
    """Correctable errors at either end of a link; of any device where no GPU is known."""
    return tuple(one for one in case.evidence if _is_correctable(one) and (ends is None or about.device(one) in ends))


def _is_correctable(one: Evidence) -> bool:
    if isinstance(one.fact, CounterStep):
        return one.fact.counter in _COUNTERS
    return one.kind == "aer" and one.event is not None and one.event.severity == "correctable"


def _weight(found: tuple[Evidence, ...]) -> int:
    """The most that any one observer counted: the same error is in several counters and in the log."""
    lines = sum(about.times(one) for one in found if one.kind == "aer")
    return max((*_counted(found).values(), lines), default=0)


def _counted(found: tuple[Evidence, ...]) -> Counter[tuple[str, str, str]]:
    """How far each counter went in the window, by device, counter and who read it: it may be read several times."""
    went: Counter[tuple[str, str, str]] = Counter()
    for one in found:
        if isinstance(one.fact, CounterStep):
            went[one.fact.bdf, one.fact.counter, one.source] += one.fact.step
    return went


def _told(case: Case, found: tuple[Evidence, ...], gpu: str | None) -> str:
    link = about.named([gpu, about.port_of(case.node, gpu)] if gpu else [about.device(one) for one in found])
    return f"the PCIe link of {link} damages packets: {', '.join(_numbers(found))}"


def _numbers(found: tuple[Evidence, ...]) -> Iterator[str]:
    """AER and the GPU's replay counter count apart: AER once an interrupt, the GPU every packet that was sent again."""
    which = {one.fact.which for one in found if isinstance(one.fact, CounterStep) and one.fact.which}
    named = {one.event.event for one in found if one.event is not None and one.event.event}
    kinds = f" ({', '.join(sorted(which | named))})" if which | named else ""
    went = _counted(found)
    lines = sum(about.times(one) for one in found if one.kind == "aer")
    if errors := sum(steps for (_, counter, _), steps in went.items() if counter == "aer-correctable") or lines:
        yield f"{errors} correctable errors{kinds}"
    if replays := sum(steps for (_, counter, _), steps in went.items() if counter == "pcie-replay"):
        yield f"{replays} replays"


def _remedy(case: Case, gpu: str | None) -> str:
    return _REMEDY.format(gpu=gpu or "<GPU>", port=(about.port_of(case.node, gpu) if gpu else None) or "<port>")


SIGNATURE = Signature(
    id="pcie-aer-storm",
    title="A marginal PCIe link damages packets: they are sent again, and everything over it is slower.",
    needs=f"At least {_STORM} correctable errors or replays in the window at either end of a GPU's link.",
    excludes="A few corrected errors, errors that were not corrected (dpc-containment), and other devices' links.",
    remedy=_REMEDY.format(gpu="<GPU>", port="<port>"),
    references=(
        "Linux Documentation/PCI/pcieaer-howto.rst",
        "Linux Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats",
    ),
    match=_match,
)
