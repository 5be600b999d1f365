"""The audit of a trace of 100,000 lines, beside ``grep -c`` counting the lines of the events that it reads.

Two traces: one as ``-trace 'vfio_*'`` writes it, most of it accesses of registers; one of map calls alone, of a guest
that moves its BARs without end. Both end as a real guest of tests/guest/traces did, so that the answer is known.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from benchmarks.figure import ROOT, Figure, command, timed
from dmaproof.guest.audit import trace
from dmaproof.guest.audit.audit import audit

LINES = 100_000
GOAL_S = 2.0
REPEAT = 5
REAL = ROOT / "tests/guest/traces/edu-iommufd.trace"
_ACCESSES = (
    "vfio_region_read  (0000:01:00.0:region0+0x{n:x}, 4) = 0x10000ed",
    "vfio_region_write  (0000:01:00.0:region0+0x{n:x}, 0x{n:x}, 4)",
    "vfio_pci_read_config  (0000:01:00.0, @0x4, len=0x2) 0x{n:x}",
    "vfio_pci_write_config  (0000:01:00.0, @0x4, 0x{n:x}, len=0x2)",
)
_MOVES = (
    "vfio_listener_region_add_ram region_add [ram] 0x{at:x} - 0x{last:x} [0x7f0000000000]",
    "iommufd_backend_map_file_dma  iommufd=13 ioas=2 iova=0x{at:x} size=0x100000 fd=15 start=0 readonly=0 (0)",
    "vfio_listener_region_del region_del 0x{at:x} - 0x{last:x}",
    "iommufd_backend_unmap_dma  iommufd=13 ioas=2 iova=0x{at:x} size=0x100000 (0)",
)


def accesses() -> Iterator[str]:
    for n, line in enumerate(islice(cycle(_ACCESSES), LINES)):
        yield line.format(n=n & 0xFFFC)


def moves() -> Iterator[str]:
    for n, line in enumerate(islice(cycle(_MOVES), LINES)):
        at = 0x80_0000_0000 + (n // 4 << 20)
        yield line.format(at=at, last=at + 0xFFFFF)


def run() -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in (("all of vfio_*", accesses()), ("maps alone", moves())):
            path = Path(folder, "trace")
            real = REAL.read_text().splitlines()
            some = enumerate(islice(lines, LINES - len(real)))
            begun = [f"90@1763745600.{n % 1_000_000:06}:{one}" for n, one in some]
            path.write_text("\n".join([*real[:40], *begun, *real[40:], ""]))
            figures += _figures(name, path)
    return figures


def _figures(name: str, path: Path) -> list[Figure]:
    runs = [json.loads(command("-m", "benchmarks.audit", str(path)).stdout) for _ in range(REPEAT)]
    assert all(one["judged"] == 2 and one["findings"] == 0 and one["lines"] == LINES for one in runs), runs
    cpu, wall = ([one[key] for one in runs] for key in ("cpu_s", "wall_s"))
    script = [str(Path(sys.executable).with_name("dmaproof")), "audit-trace", str(path)]
    whole = timed(lambda: subprocess.run(script, capture_output=True, check=True), REPEAT)
    grep = _grep(path)
    note = f"{statistics.median(wall):.2f} s by the clock"
    if grep:
        note += f"; {statistics.median(wall) / statistics.median(grep):.0f} times grep's time"
    figures = [
        Figure(f"audit of 100,000 lines, {name}", "s", cpu, GOAL_S, note),
        Figure(f"dmaproof audit-trace, {name}", "s", whole, GOAL_S, "with the start of Python"),
    ]
    return figures + ([Figure(f"grep -c, {name}", "s", grep, None, "the same events, the same file")] if grep else [])


def _grep(path: Path) -> list[float]:
    if shutil.which("grep") is None:
        return []
    words = r"region_add\|region_del\|_dma \|SKIPPING\|vfio_region_setup\|vfio_region_mmap\|pci_update_mappings"
    return timed(lambda: subprocess.run(["grep", "-c", words, str(path)], capture_output=True, check=True), REPEAT)


def _measure(path: str) -> None:
    begin, wall = time.process_time(), time.perf_counter()
    read = trace.read(path)
    found = audit(read)
    cpu_s, wall_s = time.process_time() - begin, time.perf_counter() - wall
    told = {"cpu_s": cpu_s, "wall_s": wall_s, "lines": read.lines}
    print(json.dumps({**told, "judged": len(found.judged), "findings": len(found.findings)}))


if __name__ == "__main__":
    _measure(sys.argv[1])
