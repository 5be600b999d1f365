"""``evidence.expect`` in whole runs: a fault that a test provokes passes it, its absence or its surplus fails it."""

from __future__ import annotations

from tests.run.conftest import Finished, RunSuites

CASES = ("tests/run/cases/provoked.py", "suites/p2p/test_bandwidth.py", "--rig=virtual:pcie-pair")


def told(run: Finished) -> dict[str, tuple[str, str]]:
    """Outcome and message by test name."""
    tests = ((test.id.partition("::test_")[2], test) for test in run.record.tests)
    return {name.replace("[host-gpu0]", ""): (test.outcome, test.message) for name, test in tests}


def test_what_expectations_come_to(run_suites: RunSuites) -> None:
    run = run_suites(*CASES, "-k", "provoked and gpu0")
    found = told(run)
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "present_as_expected": "passed",
        "by_more_than_its_number": "passed",
        "absent": "failed",
        "another_came": "failed",
        "one_too_many": "failed",
        "any_number": "passed",
        "expected_and_yet_failing": "failed",
        "not_expected_at_all": "failed",
        "no_such_field": "failed",
    }, run.output
    assert found["absent"][1] == "expected 1 of xid=31, saw 0; no other fault of the test's devices either"
    assert found["another_came"][1].startswith("expected 1 of xid=94, saw 0; instead: ")
    assert "Xid 31" in found["another_came"][1] or "): 31" in found["another_came"][1]
    assert found["one_too_many"][1] == "expected 2 of kind='iommu-fault', bdf='0000:04:00.0', saw 3"
    assert found["not_expected_at_all"][1].startswith("the test's own work succeeded, but meanwhile: ")
    assert found["no_such_field"][1].startswith("evidence.expect(xdi=...): did you mean 'xid'")


def test_in_two_processes_each_test_sees_its_own(run_suites: RunSuites) -> None:
    """Both provoke the same Xid of the same GPUs, and read the same log."""
    choice = "provoked and (present or number and not any or another)"
    run = run_suites(*CASES, "-k", choice, "-n", "2")
    outcomes = {test.partition("::test_")[2]: outcome for test, outcome in run.outcomes.items()}
    assert outcomes == {
        f"{name}[host-gpu{gpu}]": outcome
        for gpu in (0, 1)
        for name, outcome in (
            ("present_as_expected", "passed"),
            ("by_more_than_its_number", "passed"),
            ("another_came", "failed"),
        )
    }, run.output


def test_an_expected_fault_is_no_cause(run_suites: RunSuites) -> None:
    """Not of the test that expected it, nor of one that fails after it; the record has it all the same."""
    run = run_suites(*CASES, "-k", "provoked and gpu0 and (present or yet_failing or absent)")
    assert all(verdict.signature == "unattributed" for verdict in run.record.verdicts), run.output
    assert not any("0xf8139000" in text for verdict in run.record.verdicts for text in verdict.evidence)
    assert {verdict.test.partition("::")[2] for verdict in run.record.verdicts} == {
        "test_expected_and_yet_failing[host-gpu0]",
        "test_absent[host-gpu0]",
    }
    expected = [line for line in run.record.evidence if line.data.get("expected")]
    assert {line.what for line in expected} == {"xid", "xid-event", "iommu-fault"}
    assert not any(line.what in ("xid", "iommu-fault") for line in run.record.evidence if not line.data.get("expected"))
