"""Mode by suite: what a run says of each, what differs between them, and what a release needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.report import gate, html, modes
from dmaproof.report.loaded import Record
from dmaproof.report.record import AnyLine, Outcome, TestLine
from dmaproof.report.stream import read
from dmaproof.rig import load
from tests.report import records
from tests.report.test_summary import said

RIG = load.load("lab:guests")
SUITES = Path(__file__).parent.parent.parent / "suites"
PEER = "suites/iommu/test_peer_dma.py::test_peer_write[{}-edu0-edu1]"
STATE = "suites/iommu/test_state.py::test_state[{}]"


def ended(id_: str, node: str, outcome: Outcome) -> TestLine:
    suite = id_.split("/")[1]
    return TestLine(id=id_.format(node), outcome=outcome, duration_s=0.1, suite=suite, node=node)


def bandwidth(node: str, median: float) -> AnyLine:
    return records.measured(PEER.format(node), "bandwidth", "GB/s", median, node=node, source="edu0", target="edu1")


UNITS: list[list[AnyLine]] = [
    [ended(PEER, "host", "passed"), bandwidth("host", 20.0)],
    [ended(PEER, "guest-type1", "passed"), bandwidth("guest-type1", 11.0)],
    [ended(PEER, "guest-iommufd", "failed"), bandwidth("guest-iommufd", 13.0)],
    [ended(STATE, "host", "passed")],
    [ended(STATE, "guest-type1", "error")],
    [ended("suites/vfio/test_reset.py::test_reset[{}-edu0]", "host", "passed")],
    [ended("suites/vfio/test_reset.py::test_reset[{}-edu0]", "guest-type1", "skipped")],
]


def units() -> list[list[AnyLine]]:
    return [[*records.opening(RIG)], *UNITS, [records.end(RIG)]]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return read(records.write(tmp_path / "record.jsonl", units()))


def test_a_cell_is_what_became_of_a_suite_in_a_mode(record: Record) -> None:
    found = modes.of_record(record, RIG)
    assert found.modes == ("host", "guest-type1", "guest-iommufd")
    states = {suite: [cell.state for cell in cells] for suite, cells in found.rows.items()}
    assert states == {"iommu": ["pass", "fail", "fail"], "vfio": ["pass", "not run", "not run"]}
    assert found.cell("uvm", "host").state == "not run"


def test_what_differs_from_the_host_is_told(record: Record) -> None:
    told = {(one.mode, one.text) for one in modes.of_record(record, RIG).differences}
    assert told == {
        ("guest-type1", "passes on host, fails in guest-type1"),
        ("guest-type1", "bandwidth: 11 GB/s in guest-type1, 20 on host"),  # 45 % slower; 35 % is none
        ("guest-iommufd", "passes on host, fails in guest-iommufd"),
    }


def test_the_terminal_has_the_table_with_what_differs_first(tmp_path: Path) -> None:
    lines = [line.rstrip() for line in said(tmp_path, units()).splitlines()]
    at = lines.index("  iommu  pass     fail         fail")
    assert lines[at - 1] == "         host     guest-type1  guest-iommufd"
    assert lines[at + 1] == "  vfio   pass     not run      not run"
    assert "passes on host, fails in guest-iommufd: test_peer_write[edu0-edu1]" in lines[:at]


def test_the_page_has_the_table(record: Record) -> None:
    page = html.render(record)
    assert 'id="modes"' in page
    assert "<th>guest-iommufd</th>" in page
    assert page.count("<td>not run ") == 2


def required(tmp_path: Path, text: str) -> gate.Required:
    file = tmp_path / "required.toml"
    file.write_text(text)
    return gate.read(file, RIG, SUITES)


def test_a_required_cell_that_was_not_run_is_told(record: Record, tmp_path: Path) -> None:
    wanted = required(
        tmp_path, "[required]\nhost = ['iommu', 'vfio']\nguest-type1 = ['vfio']\nguest-iommufd = ['vfio']"
    )
    assert list(gate.missing(modes.of_record(record, RIG), wanted)) == [
        "required and not run: vfio in guest-type1 (1 skipped)",
        "required and not run: vfio in guest-iommufd (no test of it ran)",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[required]\nhots = ['iommu']", "rig lab:guests has no node 'hots': did you mean 'host'?"),
        ("[required]\nhost = ['iomu']", "required.host: no suite 'iomu': did you mean 'iommu'?"),
        ("[required]\nhost = 'iommu'", "required.toml: required.host: "),
        ("required", "is not TOML"),
        ("[needed]", "required.toml: required: "),
    ],
)
def test_a_file_that_requires_nothing_sensible_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        required(tmp_path, text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
