"""The HTML report: complete, self-contained, and nothing but data where text came from outside."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.errors import ReportError
from dmaproof.report.html import render, write_html
from dmaproof.report.record import AnyLine, EvidenceLine
from dmaproof.report.stream import Record, read
from tests.report import records

RIG = records.hgx()
CSS = Path(__file__).parents[2] / "src/dmaproof/report/templates/report.css"
VOID = {"meta", "col", "input"}
OPTIONAL_END = {"td", "th", "tr", "li", "p", "dd", "dt"}


class Page(HTMLParser):
    """The page as a browser would build it, as far as these tests ask."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in OPTIONAL_END and self.open and self.open[-1] == tag:
            self.open.pop()
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL_END:
            self.open.pop()
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def record(tmp_path: Path, units: list[list[AnyLine]]) -> Record:
    return read(records.write(tmp_path / "record.jsonl", units))


def page(tmp_path: Path, units: list[list[AnyLine]]) -> Page:
    return Page(render(record(tmp_path, units)))


def test_a_failure_is_explained(tmp_path: Path) -> None:
    text = page(tmp_path, records.failing(RIG)).text
    for part in (
        "proves the suite, never a machine",
        "Planted defects: iommu-blocks-p2p-mailbox, gpu-lost",
        "iommu-blocks-p2p-mailbox",
        "7 tests",
        "+0.043100 s host kmsg",
        "DMAR: [DMA Write NO_PASID] Request device [d1:00.0]",
        "VT-d suppresses faults after the first burst",
        "Boot with iommu=pt",
        "https://bugzilla.kernel.org/show_bug.cgi?id=188271",
        "1 failed test without a verdict",
        "20 pairs without a figure: 7 failed, 7 not run, 6 skipped (skipped mostly because: 0000:df:00.0 is poisoned",
        "the rig declares 397.0",
        "8 tests: the rig declares no ATS",
        "config space beyond 64 bytes is unreadable",
        "CUDA_ERROR_NO_DEVICE (100)",
        "6.12.57-generic",
        "580.95.05",
        "pytest suites --rig=virtual:hgx-h100",
        "2026-03-14 09:26:53 UTC to 09:29:04",
        "2 min 12 s",
    ):
        assert part in text, part
    assert text.index("iommu-blocks-p2p-mailbox", text.index("Verdicts")) < text.index("from \\ to")
    assert "cut short" not in text.lower()


def test_both_directions_and_the_like_are_told(tmp_path: Path) -> None:
    units = [records.opening(RIG)]
    for at, (one, other) in enumerate((("gpu6", "gpu0"), ("gpu0", "gpu6"))):
        unit = records.mailbox(RIG, one, other, 10.0 + at)
        spots = {"blind_spots": (f"the kernel suppressed {4000 + at} lines",)}
        units.append([line.model_copy(update=spots if line.kind == "verdict" else {}) for line in unit])
    text = page(tmp_path, units).text
    assert "1 test: gpu6 (0000:d1:00.0) wrote" in text
    assert "1 test: gpu0 (0000:1b:00.0) wrote" in text
    assert text.count("the kernel suppressed 4000 lines (and 1 like it)") == 2  # its cause, and the section
    assert "4001" not in text


def test_what_the_whole_run_could_not_see_is_told_once(tmp_path: Path) -> None:
    units = records.failing(RIG)
    spot = "config space beyond 64 bytes is unreadable"
    spots = {"blind_spots": tuple(line.text for line in units[0] if isinstance(line, EvidenceLine))}
    told = [[one.model_copy(update=spots if one.kind == "verdict" else {}) for one in unit] for unit in units]
    built = page(tmp_path, told)
    assert built.text.count(spot) == 1
    assert built.text.count("what the whole run could not see") == 2, "each cause points to it"
    assert {"href": "#blind"} in built.of("a")


def test_what_happened_outside_of_tests_is_told(tmp_path: Path) -> None:
    units = records.healthy(RIG)
    note = units[0][2].model_copy(update={"what": "rig-note", "text": "a hypervisor is under this kernel"})
    units[0].append(note)
    units[-1] = [units[-1][0].model_copy(update={"note": "interrupted"})]
    text = page(tmp_path, units).text
    assert text.count("a hypervisor is under this kernel") == 2
    assert "config space beyond 64 bytes is unreadable" in text[text.index("what this run could not see") :]
    assert "INTERRUPTED. The run was stopped after 321 tests" in text
    assert "580.95.05 (simulated)" in text
    assert "6.12.57-generic (of the machine that simulates)" in text


def test_a_host_runs_its_own_kernel(tmp_path: Path) -> None:
    units: list[records.Unit] = [[records.start(RIG).model_copy(update={"rig_kind": "host"})]]
    text = page(tmp_path, units).text
    assert "simulate" not in text


def test_one_sample_has_no_spread(tmp_path: Path) -> None:
    unit = next(iter(records.host_copies(RIG, "gpu0")))
    unit[0] = unit[0].model_copy(update={"count": 1, "spread": 0.0})
    assert '<td class="num">–</td><td class="num">1</td>' in render(record(tmp_path, [records.opening(RIG), unit]))


def test_a_planted_defect_not_met_and_tests_not_run(tmp_path: Path) -> None:
    message = "0000:1b:00.0 is not fit for use in this run: after a.py::b[c]: cuInit failed: 999"
    tests: records.Unit = [
        records.passed(f"suites/p2p/t.py::t[{at}]", RIG, "gpu0", outcome="error", message=message) for at in (1, 2)
    ]
    text = page(tmp_path, [records.opening(RIG, ["xid-79"]), tests]).text
    assert "planted defect xid-79 was not met by any test of this run" in text
    assert "2 tests not run: 0000:1b:00.0 poisoned after a.py::b[c]" in text
    assert "without a verdict" not in text


def test_counts_are_in_the_head(tmp_path: Path) -> None:
    source = render(record(tmp_path, records.failing(RIG)))
    found = dict(re.findall(r"<dt>(\w+)</dt><dd[^>]*>(\d+)</dd>", source))
    assert found | {"passed": "100", "failed": "8", "error": "1", "skipped": "15"} == found


def test_failed_cells_lead_to_their_cause(tmp_path: Path) -> None:
    found = page(tmp_path, records.failing(RIG))
    links = [attrs["href"] for attrs in found.of("a") if str(attrs.get("href", "")).startswith("#")]
    ids = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    assert links.count("#v1") == 7
    assert {str(link)[1:] for link in links} <= ids


def test_a_host_run_has_no_banner(tmp_path: Path) -> None:
    units = records.healthy(RIG)
    for unit, at in ((units[0], 0), (units[-1], -1)):
        unit[at] = unit[at].model_copy(update={"rig_kind": "host"})
    assert "banner" not in {attrs.get("class") for _, attrs in page(tmp_path, units).tags}


def test_a_record_cut_short_says_so(tmp_path: Path) -> None:
    units = records.failing(RIG)[:30]
    assert "Cut short. The record has no end line" in page(tmp_path, units).text
    path = tmp_path / "record.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind":')
    assert "Cut short. The last line of the record is cut" in Page(render(read(path))).text


def test_a_record_of_nothing_but_its_start_renders(tmp_path: Path) -> None:
    assert "No test was recorded." in page(tmp_path, [[records.start(RIG)]]).text


def no_way_out(found: Page, source: str) -> None:
    """Assert that the page loads nothing, runs nothing but its own script, and styles nothing by attribute."""
    assert len(found.of("script")) == 1
    assert not found.of("script")[0]
    assert not {"b", "img", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in found.tags}
    for _, attrs in found.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "style", "srcset", "action")]
    for attrs in found.of("a"):
        assert str(attrs["href"]).startswith(("https://", "http://", "#"))
    assert "url(" not in source.split("</style>")[0]
    assert "@import" not in source.split("</style>")[0]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    source = render(record(tmp_path, records.hostile(RIG)))
    found = Page(source)
    no_way_out(found, source)
    assert source.count("</script>") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", source)
    assert "</script><b>bold</b> <!-- ]]> \\x00\\x07\\x1b[31m\\x7f\\x9b \\u202eevil\\u2066 \\udcff" in found.text
    assert "{{ 7*7 }} {% raw %}" in found.text
    source.encode()


def with_text(line: AnyLine, text: str) -> AnyLine:
    """``line`` with ``text`` wherever it holds free text."""
    free = {"text", "summary", "message", "reason", "remedy"} & {*type(line).model_fields}
    return line.model_copy(update=dict.fromkeys(free, text))


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(), max_size=40))
def test_any_text_stays_text(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.unlink(missing_ok=True)
    units = records.mailbox(RIG, "gpu0", "gpu1", 1.0)
    changed = [with_text(line, text) for line in units]
    source = render(read(records.write(path, [records.opening(RIG), changed])))
    no_way_out(Page(source), source)


def test_the_policy_names_the_script_and_the_style(tmp_path: Path) -> None:
    source = render(record(tmp_path, records.healthy(RIG)))
    for tag in ("script", "style"):
        inside = source.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in source.replace("&#43;", "+")


def test_72_gpus_make_a_usable_page(tmp_path: Path) -> None:
    rig = records.wide()
    units = [records.opening(rig)]
    units += [records.bandwidth(rig, *pair, path, 770.0) for pair in records.pairs(rig) for path in ("ce", "sm")]
    path = tmp_path / "record.jsonl"
    records.write(path, [[line for unit in units for line in unit], [records.end(rig)]])
    source = render(read(path))
    assert len(source.encode()) < 1_500_000
    assert source.count("<td class=h9>") == 2 * 5112
    assert "10224; the 1500 that matter most are listed" in Page(source).text


def test_5112_failures_of_one_cause_are_one_cause(tmp_path: Path) -> None:
    rig = records.wide(72)
    template = records.mailbox(RIG, "gpu0", "gpu1", 1.0)
    units = [records.opening(rig)]
    for source, target in records.pairs(rig):
        id_ = f"t.py::t[{source}-{target}]"
        units.append(
            [
                line.model_copy(update={"id": id_} if "id" in type(line).model_fields else {"test": id_})
                for line in template
            ]
        )
    path = tmp_path / "record.jsonl"
    records.write(path, [[line for unit in units for line in unit]])
    source = render(read(path))
    assert len(source.encode()) < 3_000_000
    assert source.count('class="cause"') == 1
    assert "5112 tests" in source


def test_the_file_is_whole_or_not_there(tmp_path: Path) -> None:
    found = record(tmp_path, records.failing(RIG))
    write_html(found, tmp_path / "report.html")
    first = (tmp_path / "report.html").read_text()
    assert first.endswith("</html>")
    write_html(found, tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record.jsonl", "report.html"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(ReportError, match=r"cannot write .*folder: Is a directory"):
        write_html(found, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "record.jsonl", "report.html"]


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_is_legible(theme: int) -> None:
    """Contrast AA (4.5 : 1) of every pair of colours in which text is set."""
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[theme]))
    inks = ["low"] * 7 + ["mid"] * 2 + ["high"]
    pairs = [(f"on-{ink}", f"h{level}") for level, ink in enumerate(inks)]
    pairs += [(ink, ground) for ink in ("ink", "quiet", "link", "bad", "warn", "good") for ground in ("page", "raised")]
    pairs += [("bad", "bad-page"), ("warn", "warn-page")]
    weak = [(ink, ground) for ink, ground in pairs if contrast(colours[ink], colours[ground]) < 4.5]
    assert weak == []
