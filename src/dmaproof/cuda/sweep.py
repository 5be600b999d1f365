"""Sets of copies that run at once, drawn by a seed or written down: SRC EXE:ENGINE DST NBYTES, joined by ``+``.

``gpu0 gpu2:sm gpu1 1048576 + host gpu3:ce gpu3 65536``: a kernel of gpu2 moves 1 MiB from gpu0 to gpu1 while the copy
engine of gpu3 fetches 64 KiB from the host. A line that failed can be run again by itself.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dmaproof.cuda.copies import HOST, Engine, Transfer
from dmaproof.errors import UsageError
from dmaproof.nearest import did_you_mean

_LEAST_NBYTES, _MOST_NBYTES = 1 << 10, 64 << 20
_MOST_AT_ONCE = 4
_UNIT = 16
_ENGINES: tuple[Engine, ...] = ("ce", "sm")
_TRIPLE = re.compile(
    r"(?P<source>\S+)\s+(?P<executor>[^\s:]+):(?P<engine>ce|sm|tma)\s+(?P<target>\S+)\s+(?P<nbytes>\d+)"
)


@dataclass(frozen=True, slots=True)
class Triple:
    """One copy: ``executor``'s engine moves ``nbytes`` from ``source`` to ``target``; names of GPUs, or ``host``."""

    source: str
    executor: str
    engine: Engine
    target: str
    nbytes: int

    def __str__(self) -> str:
        return f"{self.source} {self.executor}:{self.engine} {self.target} {self.nbytes}"

    def transfer(self, bdfs: Mapping[str, str]) -> Transfer:
        """By PCI addresses."""
        source, target = (bdfs.get(end, end) for end in (self.source, self.target))
        return Transfer(source, target, self.engine, self.nbytes, executor=bdfs[self.executor])


def line(triples: Sequence[Triple]) -> str:
    return " + ".join(map(str, triples))


def parse(text: str, gpus: Sequence[str]) -> tuple[Triple, ...]:
    """The set that ``text`` names, of ``gpus`` and the host. Raises UsageError."""
    found = []
    for part in text.split("+"):
        match = _TRIPLE.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"sweep {text!r}: {part.strip()!r} is not SRC EXE:ENGINE DST NBYTES, ENGINE one of ce, sm, tma"
            )
        one = Triple(
            match["source"], match["executor"], _engine(match["engine"]), match["target"], int(match["nbytes"])
        )
        _check(one, gpus)
        found.append(one)
    return tuple(found)


def _engine(text: str) -> Engine:
    known: dict[str, Engine] = {"ce": "ce", "sm": "sm", "tma": "tma"}
    return known[text]


def _check(one: Triple, gpus: Sequence[str]) -> None:
    ends = [*gpus, HOST]
    for what, name, known in (("GPU", one.executor, gpus), ("end", one.source, ends), ("end", one.target, ends)):
        if name not in known:
            raise UsageError(f"sweep {one}: no {what} {name!r}: {did_you_mean(name, known)}")
    if one.source == one.target == HOST:
        raise UsageError(f"sweep {one}: one end must be a GPU")
    if one.nbytes < _UNIT or one.nbytes % _UNIT:
        raise UsageError(f"sweep {one}: write a multiple of {_UNIT} bytes")


def draw(seed: int, number: int, gpus: Sequence[str], reaches: Callable[[str, str], bool]) -> tuple[Triple, ...]:
    """Set ``number`` of the sweep by ``seed``: one to four triples, none of which needs a mapping that is not there.

    The same for the same arguments, whatever was drawn before. Sizes are as often small as large.
    """
    chance = random.Random(f"{seed} {number}")  # noqa: S311 - to be drawn again, not to be secret
    return tuple(_triple(chance, gpus, reaches) for _ in range(chance.randint(1, _MOST_AT_ONCE)))


def _triple(chance: random.Random, gpus: Sequence[str], reaches: Callable[[str, str], bool]) -> Triple:
    engine = chance.choice(_ENGINES)
    executor = chance.choice(gpus)
    near = [one for one in gpus if one == executor or (reaches(executor, one) and reaches(one, executor))]
    source = chance.choice([*near, HOST])
    # A copy engine is that of one of its ends: whose engine the driver takes for two others is its own matter.
    ends = [*near, HOST] if engine == "sm" or source == executor else [executor]
    target = chance.choice([one for one in ends if one != HOST or source != HOST] or [executor])
    low, high = math.log2(_LEAST_NBYTES // _UNIT), math.log2(_MOST_NBYTES // _UNIT)
    return Triple(source, executor, engine, target, _UNIT * round(2 ** chance.uniform(low, high)))
