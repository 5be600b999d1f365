"""Error counters as readings, and what became more between two of them.

The PCI core counts every AER error of a function, also those whose log lines are rate limited:
``/sys/bus/pci/devices/<bdf>/aer_dev_{correctable,nonfatal,fatal}`` (Documentation/ABI/testing/sysfs-bus-pci-devices-
aer_stats; drivers/pci/pcie/aer.c). They are the kernel's memory: reading them asks the device nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import Counter, CounterStep

AER_SOURCE = "aer"
_DEVICES = Path("sys/bus/pci/devices")
_FILES: tuple[tuple[str, Counter], ...] = (
    ("aer_dev_correctable", "aer-correctable"),
    ("aer_dev_nonfatal", "aer-nonfatal"),
    ("aer_dev_fatal", "aer-fatal"),
)
_SUM = "TOTAL_ERR"


@dataclass(frozen=True, slots=True)
class Key:
    """Which counter: see CounterStep."""

    bdf: str
    counter: Counter
    which: str | None = None


Readings = Mapping[Key, int]


def parse_aer(text: str) -> dict[str, int]:
    """Errors by their name (``RxErr``; up to Linux 5.0 ``Receiver Error``), without their sum; other lines are left
    out."""
    rows = (line.strip().rpartition(" ") for line in text.splitlines())
    return {name: int(count) for name, _, count in rows if name and count.isdecimal() and not name.startswith(_SUM)}


def read_aer(root: Path, bdfs: Iterable[str]) -> Readings:
    """The AER counters of the functions ``bdfs``; one without AER, or that is gone, has none."""
    return {
        Key(bdf, counter, which): count
        for bdf in bdfs
        for name, counter in _FILES
        for which, count in parse_aer(_text(root / _DEVICES / bdf / name)).items()
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def steps(before: Readings, after: Readings) -> Iterator[CounterStep]:
    """What became more. A counter that was not read before, or that began anew (a device that was reset), tells
    nothing."""
    for key, count in after.items():
        then = before.get(key)
        if then is not None and count > then:
            yield CounterStep(bdf=key.bdf, counter=key.counter, which=key.which, before=then, after=count)


def merged(found: Iterable[CounterStep]) -> tuple[CounterStep, ...]:
    """Steps of one counter that follow each other as one."""
    whole: dict[Key, CounterStep] = {}
    for one in found:
        key = Key(one.bdf, one.counter, one.which)
        whole[key] = replace(one, before=whole[key].before) if key in whole else one
    return tuple(whole.values())


def as_evidence(
    found: Iterable[CounterStep], *, source: str, node: str, after_s: float, before_s: float
) -> list[Evidence]:
    """One Evidence a step, kind ``counter-step``: each came about between ``after_s`` and ``before_s``
    (CLOCK_MONOTONIC), when the two readings were taken."""
    return [
        Evidence(
            source=source,
            node=node,
            time_s=(after_s + before_s) / 2,
            uncertainty_s=(before_s - after_s) / 2,
            kind="counter-step",
            text=told(one),
            fact=one,
        )
        for one in found
    ]


def told(one: CounterStep) -> str:
    """For people: ``0000:04:00.0: aer-correctable BadTLP went from 3 to 17 (+14)``."""
    which = f" {one.which}" if one.which else ""
    return f"{one.bdf}: {one.counter}{which} went from {one.before} to {one.after} (+{one.step})"
