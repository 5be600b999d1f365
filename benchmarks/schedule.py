"""A full matrix of eight GPUs on NVSwitches: pair after pair, and in rounds of pairs that share no link.

Times are the modelled clock's, from what each copy took on it: a sample of a round ends with its last copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.figure import Figure, command
from dmaproof.report.loaded import Record
from dmaproof.report.stream import read
from dmaproof.rig import load
from dmaproof.rig.rounds import Pair, links, rounds

RIG = "virtual:hgx-h100"
NBYTES, COPIES = 64 << 20, 16
LEAST_GAIN, MOST_CHANGE = 3.0, 0.005
ALONE, TOGETHER = "test_peer_copy_reaches_link_rate", "test_matrix_in_rounds"


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        choice = f"{TOGETHER} or ({ALONE} and ce)"
        command("-m", "pytest", "suites/p2p", "-q", f"--rig={RIG}", f"--reports={folder}", "-k", choice)
        record = read(Path(folder, "latest"))
    alone, together = figures(record, ALONE), figures(record, TOGETHER)
    one_by_one, in_rounds = sum(map(seconds, alone.values())), makespan_s(together)
    change = max(abs(together[pair] / alone[pair] - 1) for pair in alone)
    note = f"{len(alone)} pairs"
    return [
        Figure("matrix, pair after pair", "ms", [one_by_one * 1e3], note=f"{note}, one sample each, modelled"),
        Figure("matrix, in rounds", "ms", [in_rounds * 1e3], one_by_one * 1e3 / LEAST_GAIN, f"{note}, modelled"),
        Figure("times less", "", [one_by_one / in_rounds], note=f"at least {LEAST_GAIN:g} are wanted"),
        Figure("largest change of a figure", "%", [change * 100], MOST_CHANGE * 100),
    ]


def figures(record: Record, test: str) -> dict[Pair, float]:
    """GB/s by pair."""
    return {
        (str(line.source), str(line.target)): line.median
        for line in record.measurements
        if f"::{test}[" in line.test and line.path == "ce"
    }


def seconds(bandwidth_GBps: float) -> float:  # noqa: N803 - the unit's own case
    """What one sample takes."""
    return NBYTES * COPIES / (bandwidth_GBps * 1e9)


def makespan_s(measured: Mapping[Pair, float]) -> float:
    """Of all rounds, each as long as its slowest copy."""
    planned = rounds(list(measured), partial(links, load.load(RIG).first))
    return sum(max(seconds(measured[pair]) for pair in one) for one in planned)
