"""Tracepoints: the text of a real trace_pipe, an ordinary folder in its place, and the kernel's own tracefs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence import tracepoints
from dmaproof.evidence.trace_lines import parse
from dmaproof.evidence.tracepoints import Tracepoints

HEAD = " irq/24-AMD-Vi-89      [003] d..1.  1234.567890: "
FAULT = "io_page_fault: IOMMU:nvidia 0000:04:00.0 iova=0x00000000f8139000 flags=0x0001"
AER = "aer_event: 0000:00:02.0 PCIe Bus Error: severity={}, {}, TLP Header=Not available"
XID = "nvidia_dev_xid: Xid (PCI:0000:04:00.0): 31, pid=4321, name=python3, Ch 00000008, intr 00000000. MMU Fault"


def test_a_page_fault() -> None:
    found = parse(HEAD + FAULT)
    assert found is not None
    time_s, event = found
    assert time_s == 1234.567890
    assert (event.kind, event.bdf, event.address, event.access) == ("iommu-fault", "0000:04:00.0", 0xF8139000, "write")
    assert event.driver == "nvidia"
    read = parse(HEAD + FAULT.replace("flags=0x0001", "flags=0x0000"))
    assert read is not None
    assert read[1].access == "read"


def test_of_a_platform_device() -> None:
    found = parse(HEAD + FAULT.replace("0000:04:00.0", "fd800000.qcom,gpu"))
    assert found is not None
    assert found[1].bdf is None
    assert found[1].address == 0xF8139000


@pytest.mark.parametrize(
    ("severity", "errors", "told", "event"),
    [
        ("Corrected", "Bad TLP|Replay Timer Timeout", "correctable", "BadTLP,Timeout"),
        ("Uncorrected, non-fatal", "Unsupported Request Error", "nonfatal", "UnsupReq"),
        ("Fatal", "Malformed TLP|0x4", "fatal", "MalfTLP,0x4"),
    ],
)
def test_aer(severity: str, errors: str, told: str, event: str) -> None:
    for text in (AER.format(severity, errors), AER.format(severity, errors).partition(", TLP Header")[0]):
        found = parse("          <idle>-0       [000] ..s2.   51.000001: " + text)
        assert found is not None
        assert (found[1].kind, found[1].bdf, found[1].severity, found[1].event) == ("aer", "0000:00:02.0", told, event)


def test_an_xid() -> None:
    found = parse(HEAD + XID)
    assert found is not None
    event = found[1]
    assert (event.kind, event.xid, event.bdf, event.pid, event.channel) == ("xid", 31, "0000:04:00.0", 4321, 8)


@pytest.mark.parametrize(
    "line",
    ["", "# tracer: nop", HEAD + "sched_switch: prev_comm=a", HEAD + "io_page_fault: something else", FAULT],
)
def test_lines_of_anything_else(line: str) -> None:
    assert parse(line) is None


@given(st.text(), st.sampled_from([FAULT, AER, XID, ""]), st.text())
def test_any_line_is_read(before: str, middle: str, after: str) -> None:
    parse(before + middle + after)
    parse(HEAD + middle + after)


def folder(root: Path) -> Path:
    """A folder where this process's instance would be, with what the kernel puts into one."""
    instance = root / "sys/kernel/tracing/instances" / f"dmaproof-{os.getpid()}"
    for name in tracepoints.EVENTS:
        (instance / "events" / name.replace(":", "/")).mkdir(parents=True)
        (instance / "events" / name.replace(":", "/") / "enable").write_text("0")
    for name in ("trace_clock", "buffer_size_kb", "trace_pipe"):
        (instance / name).write_text("")
    return instance


def test_what_is_traced_becomes_evidence(tmp_path: Path) -> None:
    instance = folder(tmp_path)
    points = Tracepoints(tmp_path, "host")
    assert points.blind_spots == ()
    assert points.poll() == []
    for name in tracepoints.EVENTS:
        assert (instance / "events" / name.replace(":", "/") / "enable").read_text() == "1"
    with (instance / "trace_pipe").open("a") as pipe:
        pipe.write(f"{HEAD}{FAULT}\nCPU:2 [LOST 41 EVENTS]\n{HEAD}sched_switch: x\n{HEAD}{XID[:40]}")
    fault, lost = points.poll()
    assert (fault.kind, fault.source, fault.node, fault.time_s) == ("iommu-fault", "tracepoints", "host", 1234.567890)
    assert fault.uncertainty_s < 1e-4, "stamped by the clock that was set"
    assert (lost.kind, lost.data["count"]) == ("records-lost", 41)
    with (instance / "trace_pipe").open("a") as pipe:
        pipe.write(f"{XID[40:]}\n")
    (xid,) = points.poll()
    assert xid.event is not None
    assert xid.event.pid == 4321, "a line that comes in two pieces is one"
    points.close()
    assert points.poll() == []


def test_without_a_clock_times_lie_between_polls(tmp_path: Path) -> None:
    instance = folder(tmp_path)
    (instance / "trace_clock").unlink()
    points = Tracepoints(tmp_path, "host")
    before = time.monotonic()
    points.poll()
    with (instance / "trace_pipe").open("a") as pipe:
        pipe.write(f"{HEAD}{FAULT}\n")
    (fault,) = points.poll()
    assert before <= fault.time_s - fault.uncertainty_s <= fault.time_s + fault.uncertainty_s <= time.monotonic()
    points.close()


def test_tracepoints_that_are_not_there_are_named(tmp_path: Path) -> None:
    instance = folder(tmp_path)
    (instance / "events/nvidia/nvidia_dev_xid/enable").unlink()
    points = Tracepoints(tmp_path, "host")
    (told,) = points.blind_spots
    assert "nvidia:nvidia_dev_xid" in told
    assert "ras:aer_event" not in told
    points.close()


def test_no_tracefs_is_one_sentence(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nothing"):
        (told,) = Tracepoints(root, "host").blind_spots
        assert "no tracefs at /sys/kernel/tracing" in told
        assert "never fires for VT-d or SMMUv3" in told
        assert "mount" not in told, "in the model of a machine nothing can be mounted"
    assert list(tmp_path.iterdir()) == []


def test_only_what_the_dead_left_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "sys/kernel/tracing/instances"
    with subprocess.Popen(["true"]) as ended:
        pass
    for name in (f"dmaproof-{os.getppid()}", f"dmaproof-{ended.pid}", "dmaproof-x", "somebody-elses"):
        (place / name).mkdir(parents=True)
    folder(tmp_path)
    Tracepoints(tmp_path, "host").close()
    left = {one.name for one in place.iterdir()} - {f"dmaproof-{os.getpid()}"}
    assert left == {f"dmaproof-{os.getppid()}", "dmaproof-x", "somebody-elses"}


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[Path]:
    """The root of a node that has this kernel's tracefs."""
    place = tmp_path / "sys/kernel/tracing"
    place.mkdir(parents=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tracefs", "nodev", str(place)], check=False).returncode:
        pytest.skip("tracefs cannot be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(place)], check=True)


def instances(root: Path) -> list[str]:
    return [one.name for one in (root / "sys/kernel/tracing/instances").glob("dmaproof-*")]


def test_an_instance_of_its_own_and_its_end(tracefs: Path) -> None:
    on = tracefs / "sys/kernel/tracing/events/iommu/io_page_fault/enable"
    if not on.exists():
        pytest.skip("this kernel has no IOMMU tracepoints")
    before = on.read_text()
    points = Tracepoints(tracefs, "host")
    name = f"dmaproof-{os.getpid()}"
    instance = tracefs / "sys/kernel/tracing/instances" / name
    assert instances(tracefs) == [name]
    assert (instance / "events/iommu/io_page_fault/enable").read_text().startswith("1")
    assert "[mono]" in (instance / "trace_clock").read_text()
    assert on.read_text() == before, "the global buffer is left alone"
    assert points.poll() == []
    (instance / "trace_marker").write_text("io_page_fault: no event of the kernel's\n")
    assert points.poll() == [], "a marker is nobody's fault"
    points.close()
    assert instances(tracefs) == []


KILLED = """
import sys, time
from pathlib import Path
from dmaproof.evidence.tracepoints import Tracepoints
points = Tracepoints(Path(sys.argv[1]), "host")
print(points.blind_spots, flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tracefs: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tracefs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        left = f"dmaproof-{process.pid}"
        assert left in instances(tracefs)
        Tracepoints(tracefs, "host").close()
        assert left in instances(tracefs), "its process lives: it is in use"
        process.send_signal(signal.SIGKILL)
    Tracepoints(tracefs, "host").close()
    assert instances(tracefs) == []
