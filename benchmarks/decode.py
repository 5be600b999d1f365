"""Decoding a million lines, mixed and as a storm, beside ``grep -E`` counting lines with any of the decoders' words.

Time is that of the CPU: both are one thread that waits for nothing, and a neighbour's load is no property of theirs.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, command
from dmaproof.evidence.decode import DECODERS, LogDecoder
from dmaproof.evidence.lines import chunks

LINES = 1_000_000
MIXED_US, STORM_US = 1e6 / 500_000, 1e6 / 150_000  # goals: 500,000 and 150,000 lines/s
FLAT_MIB = 16.0
REPEAT = 3

ORDINARY = (
    "usb 1-1: new high-speed USB device number {n} using xhci_hcd",
    "systemd[1]: Started Session {n} of user root.",
    "nvme nvme0: 16/0/0 default/read/poll queues",
    "pci 0000:00:1f.2: BAR 5: assigned [mem 0xfebf1000-0xfebf1fff]",
    'audit: type=1400 audit(1600000000.123:{n}): apparmor="STATUS" operation="profile_load" profile="unconfined"',
    "e1000e 0000:00:19.0 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx",
    "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Opts: (null). Quota mode: none.",
    "docker0: port {n}(veth1a2b3c4) entered blocking state",
    "TCP: request_sock_TCP: Possible SYN flooding on port {n}. Sending cookies.  Check SNMP counters.",
    "CPU{n}: Core temperature above threshold, cpu clock throttled (total events = {n})",
)
FAULTS = (
    "DMAR: DRHD: handling fault status reg 2",
    "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x{n:x}000 [fault reason 0x05] PTE Write access is "
    "not set",
    "nvidia 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0010 address=0x{n:x}000 flags=0x0020]",
    "NVRM: Xid (PCI:0000:01:00): 31, pid={n}, name=python3, channel 0x0000000c, intr 00000000. MMU Fault: ENGINE CE0 "
    "HUBCLIENT_HSCE0 faulted @ 0x0_{n:08x}. Fault is of type FAULT_PTE ACCESS_TYPE_VIRT_READ",
    "arm-smmu-v3 9050000.smmuv3: event 0x10 received:",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000010000000010",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000020000000000",
    "arm-smmu-v3 9050000.smmuv3: \t0x00000000{n:08x}",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000000000000000",
    "pcieport 0000:00:01.0: AER: Correctable error message received from 0000:01:00.0",
    "nvidia 0000:01:00.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Transmitter ID)",
    "nvidia 0000:01:00.0:   device [10de:2330] error status/mask=00001000/00002000",
    "nvidia 0000:01:00.0:    [12] Timeout",
)


def mixed() -> Iterator[str]:
    """One line in a hundred is part of a fault report, each of another family and address."""
    for n in range(LINES):
        every, fault = divmod(n, 100)
        line = FAULTS[every % len(FAULTS)] if fault == 0 else ORDINARY[n % len(ORDINARY)]
        yield f"[{n / 1000:12.6f}] {line.format(n=n)}\n"


def storm() -> Iterator[str]:
    line = FAULTS[1].format(n=0xF8139)
    return (f"[{n / 1000:12.6f}] {line}\n" for n in range(LINES))


def run() -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name, log, goal in (("mixed", mixed(), MIXED_US), ("storm", storm(), STORM_US)):
            path = Path(folder, name)
            path.write_text("".join(log))
            figures += _figures(name, path, goal)
    return figures


def _figures(name: str, path: Path, goal_us: float) -> list[Figure]:
    runs = [json.loads(command("-m", "benchmarks.decode", str(path)).stdout) for _ in range(REPEAT)]
    micros = [one["seconds"] / one["lines"] * 1e6 for one in runs]
    grep = _grep(path)
    wall = statistics.median(one["lines"] / one["wall_s"] for one in runs)
    note = f"{1e6 / statistics.median(micros):,.0f} lines/s ({wall:,.0f} by the clock), {runs[0]['events']} events"
    if grep:
        note += f"; {statistics.median(micros) / statistics.median(grep):.1f} times grep's time"
    figures = [Figure(f"decode 1 million lines, {name}", "µs/line", micros, goal_us, note)]
    if grep:
        figures.append(Figure(f"grep -cE, {name}", "µs/line", grep, None, "the same words, the same file"))
    grown = [one["grown_mib"] for one in runs]
    return [*figures, Figure(f"memory that decoding took, {name}", "MiB", grown, FLAT_MIB, "peak, less that at start")]


def _grep(path: Path) -> list[float]:
    if shutil.which("grep") is None:
        return []
    words = {needle for new in DECODERS for needle in new().needles}
    pattern = "|".join(re.sub(r"([\[\](){}.*+?|^$\\])", r"\\\1", word) for word in sorted(words))

    samples = []
    for _ in range(REPEAT):
        before = _children_s()
        # Not into /dev/null: there GNU grep stops at the first line that fits.
        subprocess.run(["grep", "-cE", pattern, str(path)], capture_output=True, check=True)
        samples.append((_children_s() - before) / LINES * 1e6)
    return samples


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _peak_mib() -> float:
    """This process's own peak; getrusage's begins with that of the process which forked it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _measure(path: str) -> None:
    """In a process of its own, for its peak of memory: reads ``path`` as the command line does."""
    decoder = LogDecoder()
    before, begin, wall = _peak_mib(), time.process_time(), time.perf_counter()
    with Path(path).open("rb") as file:
        events = sum(1 for _ in decoder.run(chunks(file)))
    seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    told = {"seconds": seconds, "wall_s": wall, "lines": decoder.lines, "events": events}
    print(json.dumps({**told, "grown_mib": _peak_mib() - before}))


if __name__ == "__main__":
    _measure(sys.argv[1])
