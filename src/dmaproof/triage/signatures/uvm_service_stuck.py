"""The thread that serves a GPU's page faults is stuck: it waits in the kernel for ever, or spins without serving any.

Faults are served by a kernel thread for each GPU, ``UVM GPU<n> BH`` (uvm_gpu_isr.c). Counters then stand still while
the GPU waits; only a reboot helps.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import KernelThread
from dmaproof.triage import paging
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_BUSY = 0.5
"""Of the time between two looks. A thread that spins runs all the time or waits for a processor; but not every kernel
counts the waiting, and /proc has the running in ticks."""
_UVM = ("uvm_", "nv_kthread")
_REMEDY = (
    "Save the thread's stack before anything else: `cat /proc/<pid of UVM GPU<n> BH>/{stack,wchan}`, `echo l > "
    "/proc/sysrq-trigger; echo w > /proc/sysrq-trigger; dmesg` (all CPUs and all blocked tasks), then "
    "`nvidia-bug-report.sh`. Processes of that GPU cannot be ended: reboot. Report the driver's version with the "
    "stacks; nvidia-uvm with uvm_enable_debug_procfs=1 shows the fault counters next time."
)


def _match(case: Case) -> Finding | None:
    steps = paging.fault_steps(case)
    still = [one for one in steps if paging.stands_still(one)]
    stuck = [(one, fact) for one, fact in paging.service_threads(case) if _is_stuck(fact, bool(still))]
    blocked = _blocked(case)
    if (steps and not still) or not (blocked or (stuck and case.of_kind("hang"))):
        return None
    told = [_told(fact) for _, fact in stuck] or [_told_line(one) for one in blocked]
    corroborated = stuck and (still or blocked)
    return Finding(
        confidence="certain" if corroborated else "probable",
        summary=f"page faults{_of(case)} are not served: " + "; ".join(dict.fromkeys(told)),
        evidence=(*case.of_kind("hang"), *(one for one, _ in stuck), *blocked, *still),
        explains=(*_waiting_behind(case), *blocked),
    )


def _is_stuck(thread: KernelThread, counters_known: bool) -> bool:
    """Busy alone is no sign: a thread that serves a storm of faults is busy too. Counters that stand still tell."""
    if thread.state == "D":
        return True
    busy = thread.state == "R" and thread.cpu_s + thread.queued_s >= _BUSY * thread.apart_s > 0
    return counters_known and busy


def _blocked(case: Case) -> tuple[Evidence, ...]:
    """The kernel's own complaint (khungtaskd) of such a thread."""
    lines = case.of_kind("hung-task")
    return tuple(one for one in lines if one.event is not None and paging.is_service_thread(one.event.process))


def _waiting_behind(case: Case) -> tuple[Evidence, ...]:
    """Threads that wait for UVM's locks wait for the stuck thread."""
    return tuple(
        one
        for one in case.of_kind("stack")
        if one.data.get("state") == "D" and str(one.data.get("wchan", "")).startswith(_UVM)
    )


def _of(case: Case) -> str:
    """Which GPU: the driver counts them in its own way (``UVM GPU1``), so a test of one GPU says it."""
    return f" of {case.endpoints[0]}" if len(case.endpoints) == 1 else ""


def _told(thread: KernelThread) -> str:
    where = f" in {thread.wchan}" if thread.wchan not in (None, "", "0") else ""
    doing = (
        f"waits{where}" if thread.state == "D" else f"ran {thread.cpu_s:.1f} of {thread.apart_s:.1f} s and served none"
    )
    return f"{thread.comm} (pid {thread.pid}, state {thread.state}) {doing}"


def _told_line(one: Evidence) -> str:
    return one.text


SIGNATURE = Signature(
    id="uvm-service-stuck",
    title="The kernel thread that serves a GPU's page faults is stuck.",
    needs="A hang with a thread `UVM GPU<n> BH` in state D, or ready to run most of the time, while the GPU's fault "
    "counters stand still; or the kernel's own line that this thread is blocked.",
    excludes="Fault counters of the test's GPUs that move.",
    remedy=_REMEDY,
    references=("open-gpu-kernel-modules kernel-open/nvidia-uvm/uvm_gpu_isr.c: replayable_faults_isr_bottom_half",),
    match=_match,
)
