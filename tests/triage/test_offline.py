"""Triage of what was only written down: the same verdicts as in a run, memory that does not grow, clocks made one."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.decode import decode
from dmaproof.evidence.event import Event
from dmaproof.evidence.storm import Gatherer
from dmaproof.rig.archive import opened, save
from dmaproof.rig.saved import rig_of
from dmaproof.triage.alignment import Clock, Offset, WallClock, align
from dmaproof.triage.judge import judge
from dmaproof.triage.offline import Log, case, conclude, unexplained
from tests.pci.machine_tree import ALL_ONES, MachineTree, gpu_config, port_config
from tests.triage.cases import case as live_case
from tests.triage.rigs import box
from tests.triage.symptoms import SYMPTOMS

MAILBOX = "DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] PTE Write access is not set"


def log_of(text: str | bytes, name: str = "dmesg") -> Log:
    gatherer = Gatherer()
    for event in decode([text.encode() if isinstance(text, str) else text]):
        gatherer.add(event)
    return Log(name=name, entries=gatherer.entries())


@pytest.mark.parametrize("name", SYMPTOMS)
def test_a_log_gives_the_verdicts_of_a_run_that_saw_only_that_log(name: str) -> None:
    symptom = SYMPTOMS[name]
    lines = [one for one in symptom.shows(1) if one.event is not None]
    live = [
        (verdict.signature, verdict.confidence, verdict.summary)
        for verdict in judge(live_case(symptom.rig, *lines, pids=frozenset()))
        if not verdict.signature.startswith("unattributed")
    ]
    text = "".join(
        f"[{one.time_s:12.6f}] " + one.text.replace("\n", f"\n[{one.time_s:12.6f}] ") + "\n" for one in lines
    )
    offline = conclude(case(log_of(text), symptom.rig))
    assert [
        (verdict.signature, verdict.confidence, verdict.summary)
        for verdict in offline
        if verdict.signature != "unattributed"
    ] == live


def test_memory_does_not_grow_with_a_storm() -> None:
    def storm(count: int) -> int:
        tracemalloc.start()
        gatherer = Gatherer()
        lines = (f"[{n / 1000:12.6f}] {MAILBOX}\n".encode() for n in range(count))
        for event in decode(lines):
            gatherer.add(event)
        (verdict,) = conclude(case(Log(name="dmesg", entries=gatherer.entries()), None))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(verdict.evidence) == 1
        return peak

    storm(10)
    assert storm(20_000) < storm(200) + 1_000_000


@given(text=st.binary(max_size=400))
def test_any_bytes_are_judged(text: bytes) -> None:
    one = case(log_of(text), None)
    unexplained(one, conclude(one))


GPU, PORT = "0000:82:00.0", "0000:80:02.0"
OTHER, OTHER_PORT = "0000:04:00.0", "0000:00:02.0"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    root = tmp_path / "machine"
    root.mkdir()
    tree = MachineTree(root)
    for gpu, port, base in ((OTHER, OTHER_PORT, 0xF6000000), (GPU, PORT, 0xF8000000)):
        tree.port(port, config=port_config())
        resource = f"{base:#018x} {base + 0xFFFFFF:#018x} 0x0000000000040200\n"
        tree.function(gpu, under=port, config=gpu_config(), resource=resource)
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_text(f"3,9,1000000,-;{MAILBOX}\n")
    return tree


def test_an_archive_gives_addresses_their_names(machine: MachineTree, tmp_path: Path) -> None:
    save(machine.root, tmp_path / "m.tar.gz", "0")
    with opened(tmp_path / "m.tar.gz") as root:
        given = case(log_of(MAILBOX), rig_of(root).rig, root)
        (verdict,) = conclude(given)
    assert (verdict.signature, verdict.confidence) == ("iommu-blocks-p2p-mailbox", "certain")
    assert f"{OTHER} writing 0xf8139000 = BAR0+0x139000 of {GPU}" in verdict.summary
    assert any("saved machine" in spot for spot in verdict.blind_spots)


def test_a_saved_machine_tells_of_itself_without_a_log(machine: MachineTree, tmp_path: Path) -> None:
    (machine.root / f"sys/bus/pci/devices/{GPU}/config").write_bytes(ALL_ONES)
    (verdict,) = conclude(case(log_of(""), rig_of(machine.root).rig, machine.root))
    assert (verdict.signature, verdict.confidence) == ("gpu-lost", "certain")
    assert GPU in verdict.summary


def event(text: str, time: float | None) -> Event:
    return Event(kind="xid", text=text, time=time)


def test_clocks_are_aligned_by_events_that_both_tell() -> None:
    first = Clock("a", None, [event("x", 10.0), event("y", 20.0), event("twice", 1.0), event("twice", 2.0)])
    other = Clock("b", None, [event("x", 4.0), event("y", 14.2), event("twice", 3.0), event("z", None)])
    assert align([first, other], {}) == (Offset("first"), Offset("events", pytest.approx(5.9), 0.5))


def test_clocks_are_aligned_by_the_wall_clock_else_not_at_all() -> None:
    first, other, blind = Clock("a", 1000.0, []), Clock("b", 1500.0, []), Clock("c", None, [])
    assert align([first, other, blind], {})[1:] == (Offset("wall-clock", 500.0, 1.0), Offset("none", None))
    assert align([first, other], {"a": 7.0, "b": -2.0}) == (Offset("given", 7.0), Offset("given", -2.0))
    assert align([], {}) == ()


@pytest.mark.parametrize(
    "line",
    [
        b"2026-11-21T10:00:05+00:00 host kernel: [    5.000000] up\n",
        b"2026-11-21T11:00:05.25+01:00 host kernel: [    5.250000] up\n",
    ],
)
def test_lines_with_both_clocks_tell_when_the_kernel_began(line: bytes) -> None:
    wall = WallClock()
    assert b"".join(wall.watch([line, b"[ 9.000000] no wall clock\n"])) == line + b"[ 9.000000] no wall clock\n"
    assert wall.boot == pytest.approx(1795255200.0)
    syslog = WallClock()
    list(syslog.watch([b"Nov 31 10:00:00 host kernel: [ 1.000000] no such day\n"]))
    assert syslog.boot is None


def test_a_box_without_ports_is_judged_too() -> None:
    rig = box()
    assert conclude(case(log_of("all is well\n"), rig)) == ()
