"""The evidence of a verdict in order of time, told no more precisely than its clock allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dmaproof.report.record import EvidenceLine

_TOLD_S = 1e-3  # an uncertainty that is no larger says nothing to a person


@dataclass(frozen=True, slots=True)
class Seen:
    """A line of evidence. ``after_s`` is seconds since the first evidence of its test, None if not known.

    ``kernel_s`` is the kernel's own stamp of the line, by which it is found in dmesg.
    """

    text: str
    after_s: float | None = None
    uncertainty_s: float = 0.0
    node: str = ""
    source: str = ""
    kernel_s: float | None = None

    def after(self, digits: int = 6) -> str:
        """``+0.310 s ±0.025``, with no digit below the uncertainty and at most ``digits``; empty if not known."""
        if self.after_s is None:
            return ""
        places = min(digits, _places(self.uncertainty_s))
        about = f" ±{self.uncertainty_s:.{places}f}" if self.uncertainty_s > _TOLD_S else ""
        return f"+{self.after_s:.{places}f} s{about}"

    @property
    def stamp(self) -> str:
        """The stamp as dmesg prints it, ``[ 5851.151234]``; empty without one."""
        return "" if self.kernel_s is None else f"[{self.kernel_s:12.6f}]"


def _places(uncertainty_s: float) -> int:
    """Decimal places that leave two digits of the uncertainty."""
    if not uncertainty_s > 1e-6:
        return 6
    if math.isinf(uncertainty_s):
        return 0
    return min(6, max(0, 1 - math.floor(math.log10(uncertainty_s))))


def seen(texts: Sequence[str], evidence: Sequence[EvidenceLine]) -> tuple[Seen, ...]:
    """``texts`` as the test's ``evidence`` knows them, in order of time; what has no time comes last."""
    first = min((line.time_s for line in evidence), default=0.0)
    timed = [line for line in evidence if math.isfinite(line.time_s - first)]
    known = {line.text: line for line in sorted(timed, key=lambda line: line.time_s, reverse=True)}
    lines = [_seen(known[text], first) if text in known else Seen(text) for text in texts]
    return tuple(sorted(lines, key=lambda line: math.inf if line.after_s is None else line.after_s))


def _seen(line: EvidenceLine, first_s: float) -> Seen:
    stamp = line.data.get("kernel_s")
    known = isinstance(stamp, int | float) and math.isfinite(stamp)
    return Seen(
        text=line.text,
        after_s=line.time_s - first_s,
        uncertainty_s=line.uncertainty_s,
        node=line.node,
        source=line.source,
        kernel_s=float(stamp) if known and stamp is not None else None,
    )
