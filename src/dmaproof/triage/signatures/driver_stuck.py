"""A thread waits inside the driver and cannot be interrupted: a lock that is never released (returnn#1480).

State D for the whole of a deadline, seen by the ladder; after two minutes the kernel complains itself
(kernel/hung_task.c). State D in a file system, in FUSE or on a disk is somebody else's.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import paging
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence

_OF_FILES = (
    "io_schedule", "folio_", "wait_on_page", "__lock_page", "lock_page", "blk_", "rq_qos", "wbt_", "bio_", "submit_bio",
    "request_wait", "fuse_", "__fuse", "nfs", "rpc_", "jbd2", "ext4", "xfs", "btrfs", "f2fs", "do_swap", "swap_",
    "cifs", "p9_", "ceph", "balance_dirty", "migration_entry",
)  # fmt: skip
_OF_DRIVER = ("nv_", "nvidia", "uvm", "os_", "rm_", "_nv0", "[nvidia")
_REMEDY = (
    "Save the stacks while it lasts: `cat /proc/<pid>/task/*/stack`, `echo w > /proc/sysrq-trigger; dmesg` (all "
    "blocked tasks: the one that holds the lock is among them, or busy: `echo l > /proc/sysrq-trigger`), then "
    "`nvidia-bug-report.sh --safe-mode`. The process cannot be killed; its GPUs stay held until the machine is "
    "rebooted. Report with the driver's version and whether the open kernel modules are in use "
    "(/proc/driver/nvidia/version)."
)


def _match(case: Case) -> Finding | None:
    stuck = tuple(one for one in case.of_kind("stack") if _waits_in_driver(one)) if _outlived_a_signal(case) else ()
    blocked = tuple(one for one in case.of_kind("hung-task") if _is_of_driver(one, case))
    if not stuck and not blocked:
        return None
    return Finding(
        confidence=_confidence(case, stuck, blocked),
        summary="; ".join(dict.fromkeys(_told(one) for one in (*stuck, *blocked))),
        evidence=(*case.of_kind("hang"), *stuck, *blocked),
    )


def _outlived_a_signal(case: Case) -> bool:
    """A process that SIGTERM ends had no thread in uninterruptible sleep: what looked so was on its way."""
    return any(one.data.get("ended") != "SIGTERM" for one in case.of_kind("hang"))


def _waits_in_driver(one: Evidence) -> bool:
    """A wait whose place cannot be read may be the driver's: the test's threads do little else in the kernel."""
    return one.data.get("state") == "D" and not _wchan(one).startswith(_OF_FILES)


def _wchan(one: Evidence) -> str:
    return str(one.data.get("wchan") or "")


def _is_of_driver(one: Evidence, case: Case) -> bool:
    """Any task of the test's; of other tasks those that the line itself places in the driver."""
    event = one.event
    if event is None or paging.is_service_thread(event.process):
        return False
    tids = {stack.data.get("tid") for stack in case.of_kind("stack")} | case.pids
    if event.pid is not None and event.pid in tids:
        return True
    name = event.process or ""
    return name.startswith(("nv", "UVM", "irq/")) and ("nv" in name or "UVM" in name)


def _confidence(case: Case, stuck: tuple[Evidence, ...], blocked: tuple[Evidence, ...]) -> Confidence:
    if stuck and blocked:
        return "certain"
    unkillable = any(one.data.get("ended") == "unkillable" for one in case.of_kind("hang"))
    in_driver = any(_wchan(one).startswith(_OF_DRIVER) or "[nvidia" in str(one.data.get("stack")) for one in stuck)
    if unkillable and in_driver:
        return "certain"
    return "probable" if unkillable or in_driver or blocked else "possible"


def _told(one: Evidence) -> str:
    if one.event is not None:
        return one.text
    where = _wchan(one)
    place = f" in {where}" if where not in ("", "0") else ""
    return f"thread {one.data.get('tid')} ({one.data.get('comm')}) waits{place} in the kernel and cannot be interrupted"


SIGNATURE = Signature(
    id="driver-stuck",
    title="A thread is stuck inside the driver, in uninterruptible sleep (state D).",
    needs="A hang that outlived SIGTERM with a thread in state D, or the kernel's line that a task of the test's is "
    "blocked.",
    excludes="Waits for files, FUSE or disks, and threads that wait for a stuck page-fault service "
    "(uvm-service-stuck).",
    remedy=_REMEDY,
    references=("https://github.com/rwth-i6/returnn/issues/1480", "Linux kernel/hung_task.c"),
    match=_match,
)
