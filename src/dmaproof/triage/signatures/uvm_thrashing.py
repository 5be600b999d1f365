"""Thrashing: pages are fetched and taken away again before the access that wanted them goes on.

Both directions climb (fault_stats: num_pages_in and num_pages_out); nothing is stuck, nothing gets done.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import paging
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Two processors want the same pages at once: split what they write by page (4 KiB; 64 KiB and 2 MiB on GPUs), or "
    "pin it: cuMemAdvise SET_PREFERRED_LOCATION with SET_ACCESSED_BY for the other side, READ_MOSTLY for what is only "
    "read. With memory oversubscribed, use less of it. `nsys profile --cuda-um-gpu-page-faults=true "
    "--cuda-um-cpu-page-faults=true` names the addresses; the driver's own throttle is "
    "uvm_perf_thrashing_enable (`grep . /sys/module/nvidia_uvm/parameters/uvm_perf_thrashing_*`)."
)


def _match(case: Case) -> Finding | None:
    hangs = case.of_kind("hang")
    moving = tuple(one for one in paging.fault_steps(case) if _goes_both_ways(one))
    if not hangs or not moving:
        return None
    return Finding(
        confidence="probable",
        summary=f"pages move in and out without end: {'; '.join(one.text for one in moving)}",
        evidence=(*hangs, *moving),
    )


def _goes_both_ways(one: Evidence) -> bool:
    return bool(one.data.get("pages_in", 0) > 0 and one.data.get("pages_out", 0) > 0)


SIGNATURE = Signature(
    id="uvm-thrashing",
    floor="effect",
    title="Pages of managed memory move to and fro without end: the accesses that want them never go on.",
    needs="A hang during which the GPU's pages-in and pages-out counters both climb.",
    excludes="Counters of other GPUs, counters that climb while no page moves (ats-stage2-hole), and any cause that "
    "explains the hang.",
    remedy=_REMEDY,
    references=("open-gpu-kernel-modules kernel-open/nvidia-uvm/uvm_perf_thrashing.c",),
    match=_match,
)
