"""What is said of NVLinks: Xids 74 and 144 to 150, counters and link counts of NVML."""

from __future__ import annotations

import re

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep, NvlinkState
from dmaproof.triage import shortfall, xids
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

SOME_LINK = "a link"
_LINK = re.compile(r"link \d+")


def is_fatal(xid: Xid) -> bool:
    """``NVLink: fatal error detected on link 14(..)``, ``NETIR_LINK_EVT Fatal ..``. NVML alone tells no severity."""
    return xid.event is not None and xid.event.severity == "fatal"


def is_nonfatal(xid: Xid) -> bool:
    return xid.event is not None and xid.event.severity == "nonfatal"


def link_of(xid: Xid) -> str:
    """``link 14``, ``a link`` where the line does not say."""
    engine = xid.event.engine if xid.event is not None else None
    return engine if engine is not None and _LINK.fullmatch(engine) else SOME_LINK


def counters(case: Case, gpu: str | None) -> tuple[Evidence, ...]:
    """Error counters of ``gpu``'s links that went up."""
    steps = case.facts(CounterStep)
    return tuple(one for one, step in steps if step.bdf == gpu and step.counter.startswith("nvlink-"))


def down(case: Case, gpu: str | None = None) -> tuple[tuple[Evidence, NvlinkState], ...]:
    """The GPUs of the test's (or ``gpu`` alone) that have fewer links up than the rig declares."""
    return tuple(
        (one, state)
        for one, state in case.facts(NvlinkState)
        if case.concerns(state.bdf)
        and gpu in (None, state.bdf)
        and state.declared is not None
        and state.active < state.declared
    )


def consequences(case: Case, gpu: str) -> tuple[Evidence, ...]:
    """What links that are down or err bring with them: link counts, error counters, slow rates, nonfatal Xids."""
    states = [one for one, state in case.facts(NvlinkState) if state.bdf == gpu]
    rates = [rate.evidence for rate in shortfall.over(case, [gpu], "nvlink")]
    told = [xid for xid in xids.of((*case.session, *case.evidence), *xids.NVLINK) if xid.bdf == gpu]
    nonfatal = xids.sightings(xid for xid in told if not is_fatal(xid))
    return (*states, *counters(case, gpu), *rates, *nonfatal)
