"""Tests spread over two processes (pytest-xdist): what only the controller has is missed by none of them."""

from __future__ import annotations

from tests.run.conftest import RunSuites


def test_what_needs_a_guest_is_skipped_in_every_process(run_suites: RunSuites) -> None:
    run = run_suites("suites/vfio/test_stage2.py", "suites/topology/test_declared.py", "--rig=virtual:pcie-pair", "-n2")
    assert run.status == 0, run.output
    (audit,) = [outcome for test, outcome in run.outcomes.items() if "test_device_memory_is_mapped" in test]
    assert audit == "skipped"
    assert "passed" in run.outcomes.values()
