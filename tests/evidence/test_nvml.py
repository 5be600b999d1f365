"""NVML in its own process: real children, with a small library in NVML's place, and with none at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep
from dmaproof.evidence.nvml_events import NvmlEvents
from dmaproof.evidence.nvml_query import NvmlState, Unanswered, query
from tests.support import fuse

HERE = Path(__file__).parent
START_S = 20.0


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the library with")
    library = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    command = [compiler, "-w", "-shared", "-fPIC", "-o", str(library), str(HERE / "nvml_stub.c")]
    subprocess.run(command, check=True, timeout=60)
    return library.parent


@pytest.fixture
def env(stub: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "events").touch()
    return {"LD_LIBRARY_PATH": str(stub), "NVML_STUB_EVENTS": str(tmp_path / "events")}


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment where no NVML library is found: a file that is none stands before any real one."""
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    return {"LD_LIBRARY_PATH": str(tmp_path)}


def eventually(events: NvmlEvents, count: int) -> list[Evidence]:
    found: list[Evidence] = []
    until = time.monotonic() + START_S
    while len(found) < count and time.monotonic() < until:
        found += events.poll()
        time.sleep(0.01)
    return found


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + START_S
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_events_reach_the_parent(env: dict[str, str]) -> None:
    events = NvmlEvents(env, "guest")
    events.start(START_S)
    assert events.blind_spots == ()
    before = time.monotonic()
    Path(env["NVML_STUB_EVENTS"]).write_text("1 8 79 4294967295 4294967295\n0 8 94 3 1\n0 2 0 4294967295 4294967295\n")
    lost, contained, ecc = eventually(events, 3)
    after = time.monotonic()
    events.stop()
    none = {"gpu_instance": None, "compute_instance": None}
    assert (lost.kind, contained.kind, ecc.kind) == ("xid-event", "xid-event", "nvml-event")
    assert lost.data == {"bdf": "0000:1b:00.0", "uuid": "GPU-1", "event_type": "xid", "event_data": 79, **none}
    assert (contained.data["gpu_instance"], contained.data["compute_instance"]) == (3, 1)
    assert ecc.data["event_type"] == "double-bit-ecc-error"
    assert lost.node == "guest"
    assert "Xid 79 on 0000:1b:00.0" in lost.text
    for one in (lost, contained, ecc):
        assert one.time_s - one.uncertainty_s <= after
        assert one.time_s + one.uncertainty_s >= before
        assert one.uncertainty_s < 2


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("no-driver", "the NVIDIA driver is not loaded"),
        ("no-permission", "this user may not talk to the NVIDIA driver"),
    ],
)
def test_nvml_that_refuses_is_a_blind_spot(env: dict[str, str], mode: str, said: str) -> None:
    events = NvmlEvents({**env, "NVML_STUB_MODE": mode}, "host")
    events.start(START_S)
    assert [said in sentence for sentence in events.blind_spots] == [True]
    assert events.poll() == []
    events.stop()
    answer = query({**env, "NVML_STUB_MODE": mode}, START_S)
    assert isinstance(answer, Unanswered)
    assert said in answer.reason


def test_no_library_is_a_blind_spot(bare: dict[str, str]) -> None:
    events = NvmlEvents(bare, "host")
    events.start(START_S)
    assert events.blind_spots == ("NVML events are not seen: libnvidia-ml.so.1 is not installed",)
    events.stop()
    assert query(bare, START_S) == Unanswered("no NVML: libnvidia-ml.so.1 is not installed")


def test_a_stuck_nvml_is_a_blind_spot_and_is_ended(env: dict[str, str]) -> None:
    events = NvmlEvents({**env, "NVML_STUB_MODE": "hang"}, "host")
    started = time.monotonic()
    events.start(1.0)
    assert time.monotonic() - started < 3
    assert "NVML has not answered within 1 s, it is running (state S)" in events.blind_spots[0]
    pid = child_of(events)
    events.stop()
    assert not alive(pid)
    answer = query({**env, "NVML_STUB_MODE": "hang"}, 1.0)
    assert answer == Unanswered("NVML has not answered within 1 s: its process is running (state S)")


def test_an_unkillable_nvml_does_not_hold_the_caller(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    stuck = {**env, "NVML_STUB_MODE": "stuck", "NVML_STUB_EVENTS": str(tmp_path / "mount/never")}
    events = NvmlEvents(stuck, "host")
    try:
        with fuse.serve(tmp_path / "mount", {"never": lambda _offset, _size: None}):
            events.start(2.0)
            assert "NVML has not answered within 2 s" in events.blind_spots[0]
            pid = child_of(events)
            started = time.monotonic()
            events.stop()
            assert time.monotonic() - started < 5
            assert events.blind_spots[1] == "the NVML process cannot be ended: it is stuck in the kernel (state D)"
            started = time.monotonic()
            assert isinstance(query(stuck, 1.0), Unanswered)
            assert time.monotonic() - started < 5
    except fuse.Unavailable as reason:
        pytest.skip(str(reason))
    assert until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize(("mode", "how"), [("crash", "ended by SIGSEGV"), ("die", "ended with exit status 7")])
def test_a_library_that_takes_its_process_down(env: dict[str, str], mode: str, how: str) -> None:
    events = NvmlEvents({**env, "NVML_STUB_MODE": mode}, "host")
    events.start(START_S)
    assert until(lambda: events.poll() == [] and bool(events.blind_spots))
    assert how in events.blind_spots[0]
    events.stop()


def test_a_crash_leaves_a_question_unanswered(env: dict[str, str]) -> None:
    assert query({**env, "NVML_STUB_MODE": "crash"}, START_S) == Unanswered(
        "the process that asked NVML ended by SIGSEGV"
    )


def test_a_lost_gpu_does_not_hide_the_others(env: dict[str, str]) -> None:
    events = NvmlEvents({**env, "NVML_STUB_MODE": "lost"}, "host")
    events.start(START_S)
    assert "NVML events of GPU 1 are not seen: a GPU is lost" in events.blind_spots[0]
    Path(env["NVML_STUB_EVENTS"]).write_text("0 8 31 4294967295 4294967295\nerror 15\n")
    assert [one.data["bdf"] for one in eventually(events, 1)] == ["0000:1a:00.0"]
    assert until(lambda: events.poll() == [] and len(events.blind_spots) == 2)
    assert "NVML events may be missing: a GPU is lost" in events.blind_spots[1]
    events.stop()


def test_the_whole_state(env: dict[str, str]) -> None:
    state = query(env, START_S)
    assert isinstance(state, NvmlState)
    first, second = state.gpus
    assert state.driver_version == "595.45"
    assert (first.uuid, first.bdf, first.name, first.error) == ("GPU-0", "0000:1a:00.0", "Stub", None)
    assert (first.memory_nbytes, first.compute_capability) == (80 << 30, "9.0")
    assert (first.pcie_current_generation, first.pcie_current_width) == (4, 8)
    assert (first.pcie_max_generation, first.pcie_max_width) == (5, 16)
    assert (first.nvlinks_active, second.nvlinks_active) == (17, 0)
    assert (first.addressing, second.addressing) == ("ats", "hmm")
    assert (first.numa_node, first.recovery_action) == (None, None)  # this library lacks the calls
    assert state.p2p_read == ((None, "ok"), ("ok", None))
    assert state.p2p_write == ((None, "99"), ("chipset-not-supported", None))
    assert state.common_ancestor == ((None, "hostbridge"), ("hostbridge", None))
    assert state.gpu("0000:1b:00.0") == second
    assert state.gpu("0000:ff:00.0") is None
    assert json.loads(json.dumps(asdict(state)))["gpus"][1]["index"] == 1


def test_health(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "counters").write_text("0 uncorrected 2\n0 corrected 0\n0 replay 7\n")
    state = query({**env, "NVML_STUB_COUNTERS": str(tmp_path / "counters")}, START_S)
    assert isinstance(state, NvmlState)
    first, second = state.gpus
    assert (first.remap_pending, first.remap_failed) == (True, False)
    assert (first.ecc_correctable, first.ecc_uncorrectable, first.pcie_replays) == (0, 2, 7)
    assert (second.remap_pending, second.remap_failed, second.ecc_uncorrectable, second.pcie_replays) == (None,) * 4
    assert first.c2c_errors is None


def test_steps_of_counters(env: dict[str, str], tmp_path: Path) -> None:
    values = tmp_path / "counters"
    values.write_text("0 replay 7\n0 corrected 0\n0 uncorrected 0\n0 17.1 4\n0 3.2 0\n1 replay 0\n")
    events = NvmlEvents({**env, "NVML_STUB_COUNTERS": str(values)}, "host")
    events.start(START_S)
    assert events.blind_spots == ()
    assert events.gaps == (
        "NVML has no counter ecc-correctable of 0000:1b:00.0: its steps are not seen",
        "NVML has no counter ecc-uncorrectable of 0000:1b:00.0: its steps are not seen",
    )
    before = time.monotonic()
    events.count_now(START_S)
    assert events.poll() == [], "what was counted before the watch began is no step"
    values.write_text("0 replay 9\n0 corrected 0\n0 uncorrected 1\n0 17.1 5\n0 3.2 0\n1 replay 0\n")
    events.count_now(START_S)
    found = {(one.fact.counter, one.fact.which): one for one in events.poll() if isinstance(one.fact, CounterStep)}
    assert set(found) == {("pcie-replay", None), ("ecc-uncorrectable", None), ("nvlink-recovery", "link 17")}
    replay = found["pcie-replay", None]
    assert replay.fact == CounterStep(bdf="0000:1a:00.0", counter="pcie-replay", before=7, after=9)
    assert (replay.kind, replay.source, replay.node) == ("counter-step", "nvml-counters", "host")
    assert (
        before - 5 <= replay.time_s - replay.uncertainty_s <= replay.time_s + replay.uncertainty_s <= time.monotonic()
    )
    values.write_text("0 replay 10\n")
    assert [one.text for one in eventually(events, 1)] == ["0000:1a:00.0: pcie-replay went from 9 to 10 (+1)"], (
        "unasked"
    )
    assert events.blind_spots == (), "it answered each time, also when nothing had changed"
    events.stop()


def test_counters_of_a_stuck_nvml_do_not_hold_the_caller(env: dict[str, str], tmp_path: Path) -> None:
    """A pipe in the counters' place: who opens it waits for a writer that never comes."""
    values = tmp_path / "counters"
    values.write_text("0 replay 7\n")
    events = NvmlEvents({**env, "NVML_STUB_COUNTERS": str(values)}, "host")
    events.start(START_S)
    values.unlink()
    os.mkfifo(values)
    started = time.monotonic()
    events.count_now(1.0)
    assert time.monotonic() - started < 3
    assert events.blind_spots == ("NVML did not tell its counters within 1 s: its process is running (state S)",)
    pid = child_of(events)
    events.stop()
    assert not alive(pid)


def test_a_lost_gpu_is_told_of(env: dict[str, str]) -> None:
    state = query({**env, "NVML_STUB_MODE": "lost"}, START_S)
    assert isinstance(state, NvmlState)
    assert state.gpus[0].error is None
    assert "a GPU is lost" in (state.gpus[1].error or "")
    assert (state.gpus[1].bdf, state.gpus[1].memory_nbytes) == ("0000:1b:00.0", None)


def child_of(events: NvmlEvents) -> int:
    assert events._child is not None
    return events._child.pid


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


PARENT = """
import os, sys, time
from dmaproof.evidence.fact import CounterStep
from dmaproof.evidence.nvml_events import NvmlEvents
events = NvmlEvents({}, "host")
events.start(float(sys.argv[1]))
heir = os.fork() if sys.argv[2] == "heir" else 0
if heir or sys.argv[2] != "heir":
    print(events._child.pid, heir, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("mode", ["ok", "hang"])
@pytest.mark.parametrize("heir", ["heir", "none"])
def test_the_child_dies_with_a_killed_parent(env: dict[str, str], mode: str, heir: str) -> None:
    """Also where an heir of the parent keeps the child's standard input open: the kernel tells the child then."""
    wait_s = "1" if mode == "hang" else str(START_S)
    command = [sys.executable, "-c", PARENT, wait_s, heir]
    environment = {**os.environ, **env, "NVML_STUB_MODE": mode}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child, kept = map(int, parent.stdout.readline().split())
        try:
            assert alive(child)
            parent.send_signal(signal.SIGKILL)
            parent.wait(START_S)
            assert until(lambda: not alive(child))
        finally:
            if kept:
                os.kill(kept, signal.SIGKILL)
