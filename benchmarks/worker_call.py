"""A warm worker call, beside a warm process pool and a fresh process a call."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.figure import Figure, command, timed
from benchmarks.workloads import echo
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.worker import Worker


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, Worker(Node("bench"), Path(folder), run_id="bench") as worker:

        def call() -> None:
            worker.run(echo, deadline=Deadline.after(10), value=1)

        call()
        warm = timed(call, 300)
        held = timed(
            lambda: worker.run(echo, deadline=Deadline.after(10), devices=("00ff:00:00.0", "00ff:01:00.0"), value=1),
            300,
        )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(echo, 1).result()
        pooled = timed(lambda: pool.submit(echo, 1).result(), 300)
    fresh = timed(lambda: command("-c", "import benchmarks.workloads"), 10)
    return [
        Figure("warm worker call", "ms", [s * 1e3 for s in warm], goal=5),
        Figure("warm worker call holding two GPUs", "ms", [s * 1e3 for s in held], goal=5),
        Figure(
            "ProcessPoolExecutor call", "ms", [s * 1e3 for s in pooled], note="no deadline, no locks, no D-state exit"
        ),
        Figure("a fresh interpreter a call", "ms", [s * 1e3 for s in fresh]),
    ]
