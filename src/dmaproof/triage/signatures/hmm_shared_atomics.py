"""A system-scope atomic on shared memory under HMM: a fatal fault by design, told at once.

HMM migrates a page for exclusive access, which works for private anonymous memory only: atomics on MAP_SHARED, shmem,
memfd and hugetlb memory cannot be served (kernel: make_device_exclusive), so UVM makes the fault fatal.
"""

from __future__ import annotations

from dmaproof.triage import xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case
from dmaproof.triage.xids import Xid

_ATOMIC = "ACCESS_TYPE_VIRT_ATOMIC"
_REMEDY = (
    "Keep what GPUs change by atomics in private anonymous memory or in cudaMallocManaged memory: no MAP_SHARED, "
    "memfd, /dev/shm or hugetlb mapping. See what lies at the address: `grep -A25 <start of the range> "
    "/proc/<pid>/smaps` (s in the permissions means shared). A malloc that maps shared memory (LD_PRELOAD of an "
    "allocator on memfd or huge pages) does it behind a program's back. Platforms with ATS serve such atomics."
)


def _match(case: Case) -> Finding | None:
    if case.node.addressing != "hmm":
        return None
    found = [xid for xid in xids.seen(case, xids.MMU_FAULT) if _is_atomic(xid) and xids.is_own(case, xid) is not False]
    inside = [xid for xid in found if xids.in_own_memory(case, xid)]
    if not inside and (case.allocations or not found):
        return None
    known = inside or found
    certain = bool(inside) and all(xids.is_own(case, xid) for xid in inside)
    return Finding(
        confidence="certain" if certain else "probable" if inside else "possible",
        summary="; ".join(dict.fromkeys(_told(xid, bool(inside)) for xid in known)),
        evidence=xids.sightings(known),
        explains=tuple(one for xid in known for one in xids.after(case, xid, *xids.VICTIMS)),
    )


def _is_atomic(xid: Xid) -> bool:
    return xid.event is not None and (xid.event.access_type or "").startswith(_ATOMIC)


def _told(xid: Xid, inside: bool) -> str:
    va = xid.event.va if xid.event is not None else None
    at = f" at {va:#x}" if va is not None else ""
    whose = ", in the test's own memory" if inside else ""
    return f"{_gpu(xid)} met a fatal fault for an atomic{at}{whose}: HMM cannot serve atomics on shared memory"


def _gpu(xid: Xid) -> str:
    return xid.bdf or "a GPU"


SIGNATURE = Signature(
    id="hmm-shared-atomics",
    title="A GPU's system-scope atomic met shared memory under HMM, which cannot serve it.",
    needs="Xid 31 with an atomic access inside the test's own memory, on a node that addresses memory by HMM.",
    excludes="Other processes' faults, faults outside the test's memory, and nodes with ATS.",
    remedy=_REMEDY,
    references=(
        "https://docs.kernel.org/mm/hmm.html (exclusive access memory)",
        "open-gpu-kernel-modules kernel-open/nvidia-uvm/uvm_hmm.c",
    ),
    match=_match,
)
