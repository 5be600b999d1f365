"""The health of every GPU, by NVML and by error counters: what is already wrong explains failures elsewhere.

What NVML does not know is no failure: the test is skipped, and the record says what was not seen.
"""

from __future__ import annotations

import time
from collections import Counter as Sums
from collections.abc import Iterable, Iterator

import pytest

from dmaproof.cuda.copies import HOST, Transfer, copy_bandwidth
from dmaproof.evidence.counters import merged, told
from dmaproof.evidence.fact import Counter, CounterStep
from dmaproof.evidence.nvml_query import NvmlGpu, NvmlState
from fixtures.ends import End
from fixtures.evidence import NoteEvidence
from fixtures.watch import Watch, with_ports
from fixtures.worker import Bench

ALLOWED_PER_MINUTE: dict[Counter, int] = {
    "pcie-replay": 8,
    "aer-correctable": 8,
    "nvlink-crc": 6000,
    "ecc-correctable": 10,
}
"""How often errors that hardware repairs may come, a minute's worth at once. The limits are DCGM's
(dcgmlib/src/dcgm_gpu_hardware_limits.h): 8 replays a minute, which a port may count as AER errors too, 100 CRC errors a
second, 10 single-bit errors. Of any other counter one error is too many."""
COUNT_S = 5.0
NBYTES = 64 << 20


@pytest.fixture
def seen(gpu: End, nvml: NvmlState) -> NvmlGpu:
    found = nvml.gpu(gpu.gpu.bdf)
    assert found is not None, f"NVML does not list {gpu.gpu.bdf}"
    return found


def _known(value: object, what: str, gpu: End, note_evidence: NoteEvidence) -> None:
    """Skip where NVML does not say; the record then has it among what was not seen."""
    if value is None:
        reason = f"NVML does not tell of {gpu.gpu.bdf}: {what}"
        note_evidence("nvml", "blind-spot", reason)
        pytest.skip(reason)


@pytest.mark.catches("nvml_blocks")
@pytest.mark.requires(gpus=1)
def test_no_recovery_is_due(gpu: End, seen: NvmlGpu, note_evidence: NoteEvidence) -> None:
    """The driver itself says whether a GPU needs a reset, a drain or a reboot."""
    _known(seen.recovery_action, "recovery action", gpu, note_evidence)
    assert seen.recovery_action == "none", f"the driver of {gpu.gpu.bdf} asks for: {seen.recovery_action}"


@pytest.mark.requires(gpus=1)
def test_no_row_remap_is_due(gpu: End, seen: NvmlGpu, note_evidence: NoteEvidence) -> None:
    """A row of memory that is to be replaced stays in use until the GPU is reset; one that could not be, for ever."""
    _known(seen.remap_pending, "row remapping", gpu, note_evidence)
    assert not seen.remap_failed, f"{gpu.gpu.bdf}: a bad row of memory could not be replaced"
    assert not seen.remap_pending, f"{gpu.gpu.bdf}: a bad row of memory waits for a GPU reset to be replaced"


@pytest.mark.requires(gpus=1)
def test_no_uncorrectable_ecc_error(gpu: End, seen: NvmlGpu, note_evidence: NoteEvidence) -> None:
    _known(seen.ecc_uncorrectable, "uncorrectable ECC errors", gpu, note_evidence)
    count = seen.ecc_uncorrectable
    assert count == 0, f"{gpu.gpu.bdf}: {count} uncorrectable ECC errors since the driver was loaded"


@pytest.mark.catches("links_down")
@pytest.mark.requires(gpus=1)
def test_error_counters_hold_still(
    gpu: End, worker: Bench, watches: dict[str, Watch], note_evidence: NoteEvidence
) -> None:
    """PCIe, NVLink and ECC errors of the GPU and the ports above it, since this session began: by whatever ran before
    this test, and by copies of its own to and from the host, for it may be the only one."""
    watch, bdf = watches[gpu.node.name], gpu.gpu.bdf
    worker.run(copy_bandwidth, transfers=[Transfer(HOST, bdf, "ce", NBYTES)])
    worker.run(copy_bandwidth, transfers=[Transfer(bdf, HOST, "ce", NBYTES)])
    watch.nvml.count_now(COUNT_S)
    watch.poll()
    elapsed_s = time.monotonic() - watch.started_s
    steps = merged(_steps(watch, bdf))
    for step in steps:
        note_evidence("counters", "counter-step", told(step), fact=step)
    over = beyond(steps, elapsed_s)
    assert over == [], "; ".join(over)


def _steps(watch: Watch, gpu: str) -> Iterator[CounterStep]:
    """Of the GPU and the ports above it, in order of time."""
    whose = with_ports(watch.node.root, [gpu])
    session = watch.timeline.window(watch.started_s, time.monotonic())
    for one in (*watch.aer_steps([gpu], watch.aer, watch.started_s), *session):
        if isinstance(one.fact, CounterStep) and one.fact.bdf in whose:
            yield one.fact


def beyond(steps: Iterable[CounterStep], elapsed_s: float) -> list[str]:
    """A sentence for each counter of a device that has counted more than is allowed in ``elapsed_s``."""
    sums: Sums[tuple[str, Counter]] = Sums()
    each: dict[tuple[str, Counter], list[str]] = {}
    for one in steps:
        sums[one.bdf, one.counter] += one.step
        each.setdefault((one.bdf, one.counter), []).append(told(one))
    return [
        f"{bdf}: {count} errors of {counter} in {elapsed_s:.0f} s, {allowed:.0f} are allowed "
        f"({', '.join(each[bdf, counter][:5])})"
        for (bdf, counter), count in sums.items()
        if count > (allowed := ALLOWED_PER_MINUTE.get(counter, 0) * max(elapsed_s / 60, 1.0))
    ]
