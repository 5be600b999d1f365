"""A node whose kernel prints without end."""

from __future__ import annotations

from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Read NODE.console.txt in the run's evidence folder: the line that comes again and again names what is wrong. To "
    "go on meanwhile, print less there (loglevel=3, or quiet, on the kernel's command line; `dmesg -n 3`): the log "
    "itself, which is read by another way, keeps everything."
)


def _match(case: Case) -> Finding | None:
    floods = case.of_kind("console-flood")
    if not floods:
        return None
    return Finding(confidence="probable", summary=floods[-1].text, evidence=floods)


SIGNATURE = Signature(
    id="console-flood",
    floor="effect",
    title="The node prints on its serial console without end, and waits for each byte.",
    needs="A console that took 1 MiB, or takes 4 KiB/s for two seconds as the test has failed.",
    excludes="Nothing: what the kernel prints has a cause of its own, which is named beside it where it is known.",
    remedy=_REMEDY,
    references=("drivers/tty/serial/8250/8250_port.c: serial8250_console_write",),
    match=_match,
)
