"""What has become of a guest that does not answer: by QEMU's exit status, its trace, and the console."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dmaproof.guest.events import SHUTDOWN
from dmaproof.guest.hosting import State

How = Literal["runs", "panicked", "rebooted", "was shut down", "was killed", "ended"]
_REASON = re.compile(rf"{SHUTDOWN} reason=(\d+)")
_SHUT_DOWN_BY_ITSELF = "6"
_PANIC, _KILLED = "Kernel panic", "terminating on signal"


@dataclass(frozen=True, slots=True)
class Fate:
    """``how`` the guest ended (``runs``: it did not, and only falls silent), ``text`` for people, with what QEMU and
    the console said last, and the end of the ``console``."""

    how: How
    text: str
    console: str = ""


def fate(name: str, state: State) -> Fate:
    """Of guest ``name``, whose QEMU was found in ``state``."""
    how = _how(state)
    told = {
        "runs": f"{name} does not answer, and its QEMU runs",
        "ended": f"QEMU of {name} has ended (status {state.status})",
        "was killed": f"QEMU of {name} was killed (status {state.status})",
    }.get(how, f"{name} {how}")
    return Fate(how, f"{told}{state.last_words}", state.console)


def _how(state: State) -> How:
    if state.status is None:
        return "runs"
    if state.status < 0 or _KILLED in state.last_words:
        return "was killed"
    if _PANIC in state.last_words:  # which ends with a reset (panic=-1)
        return "panicked"
    reasons = _REASON.findall(state.trace)
    if reasons:
        return "was shut down" if reasons[-1] == _SHUT_DOWN_BY_ITSELF else "ended"
    # A reset is turned into an end by -no-reboot, with no event (qemu_system_reset_request, system/runstate.c).
    return "rebooted" if state.status == 0 else "ended"
