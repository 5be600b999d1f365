"""A node that ended in the middle of a run, or no longer answers: a guest, a lab host, a remote machine."""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_SILENT = "runs"
_REMEDY = (
    "Read what it said last: NODE.console.txt, NODE.qemu.txt and NODE.trace.txt in the run's evidence folder. A panic "
    "names the code that died; a QEMU that was killed has a line in the kernel log of its host (the out-of-memory "
    "killer's); of one that runs and is silent, `info registers` and `info status` of its monitor say where it stands. "
    "Tests after it on the same node say nothing about its devices."
)


def _match(case: Case) -> Finding | None:
    """What is known of its end says more than that nobody answers."""
    lost = case.of_kind("node-lost")
    if not lost:
        return None
    known = [one for one in lost if _how(one)]
    first = (known or lost)[0]
    return Finding(
        confidence="certain" if _how(first) not in ("", _SILENT) else "probable",
        summary=first.text,
        evidence=lost,
    )


def _how(one: Evidence) -> str:
    return str(one.data.get("how", ""))


SIGNATURE = Signature(
    id="node-lost",
    floor="effect",
    title="The node under test panicked, rebooted, ended or fell silent.",
    needs="Its agent no longer answers; certain where QEMU has ended, and says how.",
    excludes="Workers that died alone, and hangs of single tests on a node that still answers.",
    remedy=_REMEDY,
    references=("QEMU qapi/run-state.json: ShutdownCause",),
    match=_match,
)
