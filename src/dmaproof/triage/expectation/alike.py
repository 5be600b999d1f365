"""Which figures of a run are of one kind: the same test and setting, another pair of the same class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dmaproof.rig.model import HOST, Node
from dmaproof.triage.expectation import place
from dmaproof.triage.expectation.figure import UNITS, Figure
from dmaproof.triage.expectation.place import Place

ANY = "*"
_WORD = re.compile(r"[^-\[\]]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """What figures of one kind have in common. ``template`` is the test's id without the places in its parameters."""

    template: str
    node: str
    name: str
    unit: str
    engine: str | None
    peer: bool | None
    direction: str | None
    case: str | None
    nbytes: int | None
    memory: str | None
    method: str
    place: Place


def kind(node: Node, figure: Figure) -> Kind | None:
    """None for a figure that has no class of way, is no rate and no latency, or was not timed by the device."""
    found = place.of(node, figure)
    if found is None or figure.unit not in UNITS or not figure.by_device_clock:
        return None
    return Kind(
        template(figure.test, node), figure.node, figure.name, figure.unit, figure.engine, figure.peer,
        figure.direction, figure.case, figure.nbytes, figure.memory, figure.method, found,
    )  # fmt: skip


def template(test: str, node: Node) -> str:
    """``t.py::test_x[*-*-*-ce]`` for ``t.py::test_x[host-gpu0-gpu3-ce]``."""
    head, bracket, parameters = test.partition("[")
    places = {HOST, node.name, *node.gpu}
    return head + bracket + _WORD.sub(lambda word: ANY if word[0] in places else word[0], parameters)


def by_kind(node: Node, figures: Iterable[Figure]) -> Mapping[Kind, list[Figure]]:
    """``figures`` of ``node``, those alike together."""
    found: dict[Kind, list[Figure]] = {}
    for figure in figures:
        if figure.node == node.name and (one := kind(node, figure)) is not None:
            found.setdefault(one, []).append(figure)
    return found
