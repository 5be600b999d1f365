"""Tests that provoke faults on purpose, for whole-run tests: what each should come to is in tests/run/test_expect.py.

Not collected by name: a run is given this file.
"""

from __future__ import annotations

import time

import pytest

from dmaproof.cuda import kernels
from dmaproof.cuda.device import device
from dmaproof.cuda.timing import run_to_end
from dmaproof.errors import WorkloadFailed
from fixtures.ends import End
from fixtures.evidence import Expectations
from fixtures.state import Run
from fixtures.worker import Bench

NWORDS = 1 << 16
IOMMU_FAULT = (
    "DMAR: [DMA Write NO_PASID] Request device [04:00.0] fault addr 0xdead0000 [fault reason 0x05] "
    "PTE Write access is not set"
)


def follow_a_wild_pointer(gpu: str) -> None:
    """A workload: a kernel writes where nothing is mapped."""
    one = device(gpu)
    run_to_end(one, lambda s: kernels.launch_wide("dmaproof_fill", one, s, 0xDEAD0000000, NWORDS, 1))


def provoke(gpu: End, worker: Bench) -> None:
    with pytest.raises(WorkloadFailed, match="ILLEGAL_ADDRESS"):
        worker.run(follow_a_wild_pointer, gpu=gpu.gpu.bdf)


def log(run: Run, gpu: End, text: str, times: int = 1) -> None:
    """As the kernel logs it."""
    with (run.nodes[gpu.node.name].root / "dev/kmsg").open("a") as file:
        for _ in range(times):
            file.write(f"4,100000,{time.monotonic_ns() // 1000},-;{text}\n")


@pytest.mark.requires(gpus=1)
def test_present_as_expected(gpu: End, worker: Bench, evidence: Expectations) -> None:
    evidence.expect(xid=31)
    provoke(gpu, worker)


@pytest.mark.requires(gpus=1)
def test_by_more_than_its_number(gpu: End, worker: Bench, evidence: Expectations) -> None:
    evidence.expect(xid=31, kind="xid", fault_type="FAULT_PDE", bdf=gpu.gpu.bdf)
    provoke(gpu, worker)


@pytest.mark.requires(gpus=1)
def test_absent(gpu: End, evidence: Expectations) -> None:
    evidence.expect(xid=31)


@pytest.mark.requires(gpus=1)
def test_another_came(gpu: End, worker: Bench, evidence: Expectations) -> None:
    evidence.expect(xid=94)
    provoke(gpu, worker)


@pytest.mark.requires(gpus=1)
def test_one_too_many(gpu: End, run: Run, evidence: Expectations) -> None:
    evidence.expect(kind="iommu-fault", bdf="0000:04:00.0", count=2)
    log(run, gpu, IOMMU_FAULT, times=3)


@pytest.mark.requires(gpus=1)
def test_any_number(gpu: End, run: Run, evidence: Expectations) -> None:
    evidence.expect(kind="iommu-fault", access="write", count=None)
    log(run, gpu, IOMMU_FAULT, times=3)


@pytest.mark.requires(gpus=1)
def test_expected_and_yet_failing(gpu: End, run: Run, evidence: Expectations) -> None:
    evidence.expect(kind="iommu-fault")
    log(run, gpu, IOMMU_FAULT.replace("0xdead0000", "0xf8139000"))
    assert gpu is None, "for a reason of its own"


@pytest.mark.requires(gpus=1)
def test_not_expected_at_all(gpu: End, worker: Bench) -> None:
    provoke(gpu, worker)


@pytest.mark.requires(gpus=1)
def test_no_such_field(gpu: End, evidence: Expectations) -> None:
    evidence.expect(xdi=31)
