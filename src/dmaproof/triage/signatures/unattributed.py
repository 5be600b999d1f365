"""No signature explains the case. It says so, and what was looked at."""

from __future__ import annotations

from dmaproof.evidence.fact import GpuHealth, LinkState, NvlinkState, RouteSeen
from dmaproof.triage.verdict import Case, Verdict

HANG_ID = "unattributed-hang"
ID = "unattributed"
_HANG_REMEDY = (
    "Look at the stacks that were captured: a thread in state D names the kernel function that waits; threads that "
    "move between the two captures are busy, not stuck. Then repeat with the blind spots closed."
)
_REMEDY = "Read the failure and the window's evidence; if they name a cause, it deserves a signature."
HANG_TITLE = "A deadline passed, and nothing that was observed names a cause."
TITLE = "A test failed, and nothing that was observed names a cause."
_IN_ORDER = (
    ("PCIe links", LinkState),
    ("NVLinks", NvlinkState),
    ("the GPUs' health", GpuHealth),
    ("the route", RouteSeen),
)


def conclude(case: Case) -> Verdict:
    """The verdict that there is none: ``unattributed-hang`` where a deadline passed, else ``unattributed``."""
    hangs = case.of_kind("hang")
    stuck = [one for one in case.of_kind("stack") if one.data.get("state") == "D"]
    what = f"{_what(case)} {'hung' if hangs else 'failed'}, and nothing that was observed names a cause"
    where = f"; thread in D state in {stuck[0].data.get('wchan')}" if stuck else ""
    return Verdict(
        signature=HANG_ID if hangs else ID,
        confidence="possible",
        summary=f"{what}{where} (looked at: {_looked_at(case)})",
        evidence=(*hangs, *case.of_kind("stack", "worker-died")),
        blind_spots=(),
        remedy=_HANG_REMEDY if hangs else _REMEDY,
    )


def _what(case: Case) -> str:
    return f"a test of {', '.join(case.endpoints)}" if case.endpoints else "a test"


def _looked_at(case: Case) -> str:
    """Every source that was watched or that said something, the silent ones last: silence of one that was watched is
    an observation, and that a source is blind is none. Then the states that were read, none of which a signature
    objected to."""
    spoke = {one.source for one in case.evidence if one.kind != "blind-spot"}
    silent = sorted({*case.watched} - spoke)
    read = [name for name, fact in _IN_ORDER if case.facts(fact)]
    parts = [", ".join(sorted(spoke))] if spoke else []
    parts += [f"nothing in {', '.join(silent)}"] if silent else []
    parts += [f"no fault found in {', '.join(read)}"] if read else []
    return "; ".join(parts) or "nothing was observed"
