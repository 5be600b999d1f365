"""The kernel died, whole (a panic) or in one thread (an oops), in a driver's code or in what a driver called.

After an oops the thread is gone with the locks that it held, and its process with it; the rest of the kernel goes on,
for a while. The report says where, in words that its owner can look up: module, function, offset.
"""

from __future__ import annotations

import re

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import about
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence

PANIC = "panic"
_OF_THE_KERNEL = re.compile(r"UVM |nv|irq/|kworker/|ksoftirqd/|migration/|swapper/|khugepaged|kcompactd|kswapd|iou-")
"""Threads that work for whoever is to be served."""
_MET = {
    "null-dereference": "a NULL pointer",
    "page-fault": "a page fault",
    "general-protection": "a general protection fault",
    "bug": "a BUG",
    "invalid-opcode": "an invalid opcode",
    "external-abort": "a synchronous external abort",
    "serror": "an SError",
}
_REMEDY = (
    "Keep the whole report, from its first line to `end trace` (`journalctl -k -b`, the console, /sys/fs/pstore after "
    "a reboot): `scripts/decode_stacktrace.sh vmlinux` of the same kernel makes lines of its offsets. It goes to "
    "whoever owns the function that is named: for [nvidia*] with `nvidia-bug-report.sh` and the driver's version. "
    "Reboot before anything else is tested: a thread that dies does not give back its locks. kdump, or panic_on_oops=1 "
    "with a serial console, keeps what the next one says."
)


def _match(case: Case) -> Finding | None:
    crashes = [(one, one.event) for one in case.of_kind("kernel-crash") if one.event is not None]
    ours = [(one, event) for one, event in crashes if _may_be_ours(case, event)]
    if not ours:
        return None
    events = [event for _, event in ours]
    return Finding(
        confidence=_confidence(case, events),
        summary="; ".join(dict.fromkeys(_told(event) for event in events)),
        evidence=(*case.of_kind("hang"), *(one for one, _ in ours)),
        explains=(*_after(case, ours[0][0]), *(case.of_kind("node-lost") if _is_down(events) else ())),
    )


def _after(case: Case, first: Evidence) -> tuple[Evidence, ...]:
    """Whoever waits for a lock of the thread that died, and its process."""
    return tuple(one for one in case.of_kind("hung-task", "worker-died") if about.follows(one, first))


def _is_down(events: list[Event]) -> bool:
    """A kernel that only lost a thread takes no node down."""
    return any(event.event == PANIC for event in events)


def _may_be_ours(case: Case, event: Event) -> bool:
    """Any crash of the whole kernel, of the test's processes, and of threads that may have worked for them."""
    if event.event == PANIC or event.pid is None or not case.pids or event.pid in case.pids:
        return True
    return _OF_THE_KERNEL.match(event.process or "") is not None


def _confidence(case: Case, events: list[Event]) -> Confidence:
    """A process of the test that the kernel ended, or a kernel that ended with the node, needs no other sign."""
    if (case.of_kind("node-lost") and _is_down(events)) or any(event.pid in case.pids for event in events):
        return "certain"
    return "probable" if _is_down(events) or any(event.driver is not None for event in events) else "possible"


def _told(event: Event) -> str:
    if event.event == PANIC:
        return event.text.partition("\n")[0].strip() + _in(event)  # its own reason, which is all that some say
    at = f" at {event.va:#x}" if event.va is not None else ""
    return f"the kernel met {_MET.get(event.event or '', 'an oops')}{at}{_in(event)}"


def _in(event: Event) -> str:
    where = f" in {event.function}" if event.function is not None else ""
    if event.driver is not None and f"[{event.driver}]" not in where:
        where += f", called by {event.driver}"
    who = f", for {event.process} (pid {event.pid})" if event.process is not None and event.pid else ""
    return where + who


SIGNATURE = Signature(
    id="kernel-crash",
    title="The kernel of the node crashed: a panic, or an oops in a thread that worked for the test.",
    needs="The kernel's report of it, in its log or on the console of a node that is gone.",
    excludes="Oopses in other programs' threads, where the test's own processes are known.",
    remedy=_REMEDY,
    references=(
        "Linux Documentation/admin-guide/bug-hunting.rst",
        "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1082",
    ),
    match=_match,
)
