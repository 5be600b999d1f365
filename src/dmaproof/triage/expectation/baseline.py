"""A figure beside what the same GPU, driver branch and class of way gave before.

What is compared must be alike in all that makes a Key; a figure with no such entry has no baseline, which is said, and
never a near one instead. A virtual rig's figures are a model's: they are no baseline of a machine, nor it of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dmaproof.rig.model import Node, RigKind
from dmaproof.triage.expectation import alike, peers
from dmaproof.triage.expectation.figure import Figure, Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """``product`` is that of the GPUs (of both ends one), ``branch`` the driver's major version, ``template`` the test
    without the places in its parameters. The rest is as in Figure."""

    rig_kind: RigKind
    product: str
    branch: str
    topology: str
    template: str
    name: str
    unit: str
    engine: str | None = None
    peer: bool | None = None
    direction: str | None = None
    case: str | None = None
    nbytes: int | None = None
    memory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """``median`` and ``least`` to ``most`` of ``n`` figures (each the median of its samples), in the key's unit; how
    they were measured, when, and with which versions."""

    key: Key
    median: float
    least: float
    most: float
    n: int
    method: str
    when: str
    versions: Mapping[str, str]

    @property
    def spread(self) -> float:
        return self.most - self.least


Baselines = Mapping[Key, Entry]


@dataclass(frozen=True, slots=True)
class Setting:
    """What of a run's surroundings belongs to a baseline; ``driver`` is its whole version, None where there is none."""

    rig_kind: RigKind
    driver: str | None

    @property
    def branch(self) -> str | None:
        return self.driver.partition(".")[0] if self.driver else None


def key(node: Node, figure: Figure, setting: Setting) -> Key | None:
    """None for a figure that can have no baseline: GPUs whose product is not known or differs, no driver."""
    kind = alike.kind(node, figure)
    products = {node.gpu[name].product for name in figure.gpus if name in node.gpu}
    product = products.pop() if len(products) == 1 else None
    if kind is None or not product or not setting.branch:
        return None
    return Key(
        rig_kind=setting.rig_kind, product=product, branch=setting.branch, topology=kind.place.text,
        template=kind.template, name=kind.name, unit=kind.unit, engine=kind.engine, peer=kind.peer,
        direction=kind.direction, case=kind.case, nbytes=kind.nbytes, memory=kind.memory,
    )  # fmt: skip


def entries(
    node: Node, figures: Iterable[Figure], setting: Setting, when: str, versions: Mapping[str, str]
) -> list[Entry]:
    """What ``figures`` of a healthy run are as baselines."""
    found: dict[Key, list[Figure]] = {}
    for figure in figures:
        if figure.node == node.name and figure.value > 0 and (one := key(node, figure, setting)) is not None:
            found.setdefault(one, []).append(figure)
    return [_entry(one, same, when, versions) for one, same in found.items()]


def _entry(key: Key, figures: list[Figure], when: str, versions: Mapping[str, str]) -> Entry:
    values = [figure.value for figure in figures]
    samples = [sample for figure in figures for sample in figure.samples] or values
    return Entry(
        key=key, median=statistics.median(values), least=min(samples), most=max(samples), n=len(values),
        method=figures[0].method, when=when, versions=versions,
    )  # fmt: skip


def judge(node: Node, figure: Figure, setting: Setting, known: Baselines) -> Judgement | None:
    """None without a baseline. Low is a figure whose best sample is worse than the baseline by more than the
    baseline's own spread, and than what figures may differ by anyway."""
    one, kind = key(node, figure, setting), alike.kind(node, figure)
    entry = known.get(one) if one is not None else None
    if entry is None or kind is None:
        return None
    away = max(entry.spread, peers.floor(kind) * entry.median)
    bound = entry.median + away if figure.lower_is_better else entry.median - away
    low = figure.misses(bound)
    text = f"{figure.told}; the baseline of {entry.key.product}, driver {entry.key.branch}, is {entry.median:.4g}"
    return Judgement(
        figure=figure, by="baseline", standing="low" if low else "fine", topology=kind.place.text, among=entry.n,
        certain=low, against=entry.median, bound=bound,
        text=f"{text} {figure.unit} ({entry.least:.4g} to {entry.most:.4g} in {entry.n}, {entry.when[:10]})",
    )  # fmt: skip
