"""Managed memory on every rig; malloc memory where the rig addresses it by HMM or ATS."""

from __future__ import annotations

from typing import Literal

import pytest

from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.ping_pong import ping_pong
from dmaproof.cuda.unified.prefetch import prefetch
from dmaproof.cuda.unified.touch import first_touch
from fixtures.ends import End
from fixtures.measure import Measure
from fixtures.worker import Bench

NBYTES = 4 << 20
ROUNDS = 100


@pytest.mark.catches("stage2_hole", "livelock_silent", "lock_wait")
@pytest.mark.requires(gpus=1)
def test_prefetch_there_and_back(gpu: End, memory: SharedKind, worker: Bench, measure: Measure) -> None:
    moved = worker.run(prefetch, gpu=gpu.gpu.bdf, memory=memory, nbytes=NBYTES)
    measure(moved.measurement, source="host", target=gpu.gpu.name)
    assert moved.there.wrong_words == 0, f"the GPU finds {moved.there.wrong_words} wrong words after the prefetch"
    assert moved.back.wrong_words == 0, f"the CPU finds {moved.back.wrong_words} wrong words after the way back"
    if memory == "managed":
        told = (moved.location, moved.location_back)
        assert told == (gpu.gpu.bdf, "host"), f"the driver says that it was sent to {told[0]}, then to {told[1]}"


@pytest.mark.catches("stage2_hole", "livelock_silent", "lock_wait")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("first", ["cpu", "gpu"])
def test_first_touch(gpu: End, memory: SharedKind, first: Literal["cpu", "gpu"], worker: Bench) -> None:
    touched = worker.run(first_touch, gpu=gpu.gpu.bdf, kind=memory, nbytes=NBYTES, first=first)
    other = "GPU" if first == "cpu" else "CPU"
    assert touched.second.wrong_words == 0, f"the {other} finds {touched.second.wrong_words} wrong words"
    assert touched.first.wrong_words == 0, (
        f"the CPU finds {touched.first.wrong_words} wrong words after the GPU's change"
    )


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
def test_ping_pong(gpu: End, memory: SharedKind, worker: Bench, measure: Measure) -> None:
    played = worker.run(ping_pong, gpu=gpu.gpu.bdf, memory=memory, rounds=ROUNDS)
    measure(played.measurement, source="host", target=gpu.gpu.name)
    assert played.rounds == ROUNDS
