"""What a guest hangs on is killed by SIGKILL: the run says so, puts things back, and goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from dmaproof.endpoint.assigned.rebind import Owner
from tests.run.conftest import Left, Start, Started
from tests.support.lab import supplied

GUEST = """
[node.{name}]
role = "guest"
guest.on = "host"
qemu = {{ cpus = 1, memory_nbytes = 536870912 }}
endpoint.edu0 = {{ kind = "edu", bdf = "0000:01:00.0", port = "0000:00:10.0" }}
endpoint.edu1 = {{ kind = "edu", bdf = "0000:02:00.0", port = "0000:00:11.0" }}
path = [{{ source = "edu*", target = "edu*", kind = "pcie", peer = true }}]
"""
RIG = """
extends = "lab:vtd"
name = "crashes"
kind = "lab"
node.host.qemu.cpu = "EPYC-v4"
deadline.workload_s = 5
"""
NOBODYS = [str(Owner(None, None))] * 3
UP_S = 240.0
ASKED_FOR = "DMAPROOF_LAB_GUESTS"
pytestmark = pytest.mark.skipif(
    not os.environ.get(ASKED_FOR),
    reason=f"now and then a guest by KVM on emulated SVM never comes up: {ASKED_FOR}=1 runs it all the same",
)


@pytest.fixture(autouse=True)
def lab() -> None:
    supplied()
    supplied(python=True)


@pytest.fixture
def peer_writes(begin: Start, tmp_path: Path) -> Start:
    """``peer_writes(names, *more)``: in guests of these names, one after the other."""

    def run(names: Sequence[str], *more: str) -> Started:
        rig = tmp_path / "crashes.toml"
        rig.write_text(RIG + "".join(GUEST.format(name=name) for name in names))
        asked = (f"--rig={rig}", f"--modes={','.join(names)}", "-k", "test_peer_write", "-v", "--deadline-scale=3")
        return begin("suites/iommu/test_peer_dma.py", *asked, *more)

    return run


def test_the_run_goes_on_and_the_functions_are_given_back(peer_writes: Start, gone: Left) -> None:
    """The worker that keeps QEMU is killed; the next guest needs the same functions, and its QEMU is killed."""
    names = ("guest-worker", "guest-qemu")
    started = peer_writes(names, "-p", "tests.run.plugins.guest_killed")
    started.process.wait(2 * UP_S)
    run = started.finish()
    assert run.status == 1, run.output
    tests = {test.id.partition("[")[2].removesuffix("]"): test for test in run.record.tests}
    assert [(name, test.outcome) for name, test in tests.items()] == [
        (f"{name}-edu{one}-edu{1 - one}", outcome) for name in names for one, outcome in ((0, "passed"), (1, "failed"))
    ], run.output
    verdicts = [(verdict.signature, verdict.summary) for verdict in run.record.verdicts]
    assert verdicts[0] == ("node-lost", "QEMU of guest-worker was killed with the process that kept it")
    assert verdicts[1][0] == "node-lost"
    assert verdicts[1][1].startswith("QEMU of guest-qemu was killed (status -9)")
    assert run.folder is not None
    assert json.loads((run.folder / "evidence/owners.json").read_text()) == dict.fromkeys(names, NOBODYS)
    assert gone(run) == []


def test_a_run_that_is_killed_while_its_guest_works_leaves_nothing(
    peer_writes: Start, scratch: Path, gone: Left
) -> None:
    started = peer_writes(("guest-one",))
    started.wait_for("PASSED", UP_S)
    assert [*scratch.iterdir()]
    started.signal(signal.SIGKILL)
    started.process.wait(10)
    run = started.finish()
    assert run.folder is not None
    assert run.record.end is None
    assert gone(run) == []
