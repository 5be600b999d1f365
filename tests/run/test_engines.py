"""Tests over a rig's endpoints: which get what, under which ids, and which devices are theirs alone meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dmaproof.node.hold import hold_for_run
from dmaproof.node.node import Node
from tests.run.conftest import Finished, RunSuites

DOMAIN = f"{0xFD - int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:]):04x}"
"""No machine of ours has it; each process of xdist's has one, for functions are held for a run."""
EDU0, EDU1, NVME0 = (f"{DOMAIN}:0{bus}:00.0" for bus in (1, 2, 3))
CASES = "tests/run/cases/engines.py"
RIG = f"""
name = "bench"
kind = "host"
[node.host]
path = [
    {{ source = "edu0", target = "edu1", kind = "pcie", peer = true }},
    {{ source = "edu*", target = "*", kind = "pcie" }},
]
[node.host.endpoint.edu0]
kind = "edu"
bdf = "{EDU0}"
port = "{DOMAIN}:00:01.0"
[node.host.endpoint.edu1]
kind = "edu"
bdf = "{EDU1}"
port = "{DOMAIN}:00:02.0"
[node.host.endpoint.nvme0]
kind = "nvme"
bdf = "{NVME0}"
port = "{DOMAIN}:00:03.0"
"""


@pytest.fixture
def rig(tmp_path: Path) -> str:
    file = tmp_path / "bench.toml"
    file.write_text(RIG)
    return f"--rig={file}"


def of(run: Finished, name: str) -> dict[str, str]:
    """The outcome of each parameter of test ``name``."""
    ids = {test.id.partition("::")[2]: test.outcome for test in run.record.tests}
    return {one.partition("[")[2].rstrip("]"): how for one, how in ids.items() if one.partition("[")[0] == name}


def test_ids_are_names_and_each_test_gets_what_it_wants(rig: str, run_suites: RunSuites) -> None:
    run = run_suites(CASES, "suites/topology", rig, "-k", "engines")
    passed = dict.fromkeys
    assert of(run, "test_any") == passed(["host-edu0", "host-edu1", "host-nvme0"], "passed")
    assert len(of(run, "test_any_two")) == 6
    assert of(run, "test_edu") == passed(["host-edu0", "host-edu1"], "passed")
    assert of(run, "test_two_edu") == passed(["host-edu0-edu1", "host-edu1-edu0"], "passed")
    assert of(run, "test_edu_to_others") == passed(["host-edu0-nvme0", "host-edu1-nvme0"], "passed")
    assert of(run, "test_none") == {"no-endpoint": "skipped"}
    assert of(run, "test_only_one") == {"no-peers": "skipped"}
    told = {test.id.partition("::")[2]: test.message for test in run.record.tests}
    assert "rig host:bench declares no iommu-testdev endpoint" in told["test_none[no-endpoint]"]
    assert "rig host:bench declares no two nvme endpoints on one node" in told["test_only_one[no-peers]"]
    assert {test.endpoints for test in run.record.tests if "two_edu" in test.id} == {(EDU0, EDU1), (EDU1, EDU0)}
    assert of(run, "test_work") == {"host-nvme0": "failed"}
    assert f"rig host:bench declares {NVME0}, but node host has no such PCI function" in told["test_work[host-nvme0]"]


def test_a_declared_endpoint_that_the_machine_lacks_fails(rig: str, run_suites: RunSuites) -> None:
    run = run_suites("suites/topology", rig, "-k", "endpoint")
    assert run.status == 1
    told = [test.message.splitlines()[0] for test in run.record.tests if test.outcome == "failed"]
    assert f"edu0: {EDU0} is not on the bus" in told[0]
    assert len(told) == 3


def test_endpoints_are_held_for_the_run(rig: str, run_suites: RunSuites) -> None:
    with hold_for_run(Node("host"), [EDU1], "another"):
        run = run_suites("suites/topology", rig, "-k", "endpoint")
    assert run.status == 2
    assert EDU1 in run.output


def test_a_virtual_rig_has_none(tmp_path: Path, run_suites: RunSuites) -> None:
    file = tmp_path / "v.toml"
    file.write_text(
        'extends = "virtual:gh200"\n'
        + RIG.replace('"host"', '"virtual"').split("path =")[0]
        + RIG[RIG.index("[node.host.endpoint.edu0]") :]
    )
    run = run_suites("suites", f"--rig={file}")
    assert run.status == 2
    assert "virtual:bench: node.host.endpoint.edu0: a virtual rig has no endpoints beside its GPUs" in run.output
