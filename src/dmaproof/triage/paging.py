"""The driver's paging of managed memory in a case: fault counters of the test's own GPUs, and UVM's kernel threads."""

from __future__ import annotations

import re

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import KernelThread
from dmaproof.triage.verdict import Case

_SERVICE_THREAD = re.compile(r"UVM GPU\d+ BH")
_COUNTERS = ("faults", "duplicates", "replays", "pages_in", "pages_out")


def fault_steps(case: Case) -> tuple[Evidence, ...]:
    """The steps of the fault counters between two looks at a hang. Counters are of all processes: another GPU's say
    nothing of this test; without UUIDs none can be told apart."""
    uuids = {gpu.uuid for gpu in case.node.gpus if case.concerns(gpu.bdf)}
    return tuple(
        one for one in case.of_kind("uvm-fault-stats") if not uuids or None in uuids or one.data.get("gpu") in uuids
    )


def stands_still(steps: Evidence) -> bool:
    return all(steps.data.get(name, 0) == 0 for name in _COUNTERS)


def service_threads(case: Case) -> tuple[tuple[Evidence, KernelThread], ...]:
    """The threads that serve faults (uvm_gpu_isr.c: ``UVM GPU%u BH``; the number is UVM's own)."""
    return tuple((one, fact) for one, fact in case.facts(KernelThread) if is_service_thread(fact.comm))


def is_service_thread(comm: str | None) -> bool:
    return comm is not None and _SERVICE_THREAD.fullmatch(comm) is not None
