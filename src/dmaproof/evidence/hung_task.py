"""Threads that do not get on: check_hung_task of kernel/hung_task.c (blocked in state D), watchdog_timer_fn and
watchdog_hardlockup_check of kernel/watchdog.c (running in the kernel without a pause, as a driver's bottom half that
never ends), and processors that RCU waits for in vain (kernel/rcu/tree_stall.h, tree_exp.h)."""

from __future__ import annotations

import re
from collections.abc import Callable

from dmaproof.evidence.decoder import Form, FormsDecoder, context
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_BLOCKED = re.compile(
    r"INFO: task (?P<name>.{1,64}):(?P<pid>\d{1,10}) blocked (?:in I/O wait )?"
    r"for more than (?P<seconds>\d{1,9}) seconds"
)
_LOCKUP = re.compile(
    r"BUG: soft lockup - CPU#\d{1,5} stuck for (?P<seconds>\d{1,9})s! \[(?P<name>.{1,64}):(?P<pid>\d{1,10})\]"
)
_HARD = re.compile(r"Watchdog detected hard LOCKUP on cpu ?\d{1,5}")
_RCU = re.compile(r"INFO: rcu\w{0,20} (?:self-detected stall on CPU|detected (?:expedited )?stalls on CPUs/tasks)")
_OWNER = re.compile(r"INFO: task .{1,64}:\d{1,10}(?:<[\w -]+>)? (?:is )?blocked on an? ")


def _hung(match: re.Match[str], line: Line, name: str) -> Event:
    return Event(
        kind="hung-task",
        text=line.text,
        time=line.time,
        event=name,
        pid=int(match["pid"]),
        process=match["name"],
        duration_s=float(match["seconds"]),
    )


def _blocked(match: re.Match[str], line: Line) -> Event:
    return _hung(match, line, "blocked")


def _lockup(match: re.Match[str], line: Line) -> Event:
    return _hung(match, line, "soft-lockup")


def _processor(name: str) -> Callable[[re.Match[str], Line], Event]:
    """The line names no thread: whichever ran there."""
    return lambda _match, line: Event(kind="hung-task", text=line.text, time=line.time, event=name)


FORMS = (
    Form("for more than ", _BLOCKED, _blocked),
    Form("soft lockup", _LOCKUP, _lockup),
    Form("hard LOCKUP", _HARD, _processor("hard-lockup")),
    Form("INFO: rcu", _RCU, _processor("rcu-stall")),
    Form("blocked on a", _OWNER, context),
)


class HungTaskDecoder(FormsDecoder):
    """Decodes reports of stuck threads and processors; the stack that follows one is not read."""

    def __init__(self) -> None:
        super().__init__(FORMS, ("INFO: task ", "soft lockup", "hard LOCKUP", "INFO: rcu"))
