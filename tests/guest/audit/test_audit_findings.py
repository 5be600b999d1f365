"""Real traces audited, as they are and with one thing wrong in them; each wrong thing is named, and nothing else."""

from __future__ import annotations

import re

import pytest

from dmaproof.guest.audit.audit import Asked, Declared, audit, overlapping
from dmaproof.guest.audit.bars import Bar, Function
from dmaproof.guest.audit.evidence import as_evidence
from dmaproof.guest.audit.finding import Audit
from dmaproof.guest.audit.gaps import Limits
from dmaproof.guest.audit.table import Range
from tests.guest.audit.traces import (
    EDU,
    FOLDER,
    MSIX,
    functions,
    gone,
    mapped,
    parsed,
    ram,
    swapped,
    text,
    unmapped,
    without,
)

FIRST, SECOND = Range(0xFE400000, 0xFE4FFFFF), Range(0xFE200000, 0xFE2FFFFF)
HOSTS = {"01:00.0": "0000:01:00.0", "02:00.0": "0000:02:00.0"}


def audited(lines: str, pci: str | None = EDU) -> Audit:
    return audit(parsed(lines), Asked(functions=None if pci is None else functions(pci)))


def told(found: Audit) -> list[tuple[str, str | None, str | None, int | None, Range | None]]:
    return [(one.why, one.guest, one.host, one.bar, one.range) for one in found.findings]


OF_SECOND = ("02:00.0", "0000:02:00.0", 0, SECOND)


def test_behind_an_iommu_of_the_guests_own_nothing_is_proved() -> None:
    own = "vfio_listener_region_add_iommu region_add [iommu] intel_iommu_dmar 0x0 - 0xfedfffff\n"
    found = audited(text("edu-type1-viommu-7.2") + own, "edu.pci.json")
    assert (found.findings, found.judged) == ((), ())
    assert any("the guest has an IOMMU of its own that translates" in spot for spot in found.blind_spots)


@pytest.mark.parametrize("asks", [True, False], ids=["query-pci", "trace alone"])
@pytest.mark.parametrize(
    "name",
    [
        "edu-type1",
        "edu-iommufd",
        "msix-type1",
        "msix-iommufd",
        "edu-type1-viommu-7.2",
        "edu-iommufd-two",
        "reset-iommufd",
    ],
)
def test_a_healthy_guest_has_no_finding(name: str, asks: bool) -> None:
    kind, backend = name.split("-")[:2]
    found = audited(text(name), f"{kind}.pci.json" if asks else None)
    assert told(found) == []
    assert len(found.judged) == {"edu": 2, "msix": 6, "reset": 3}[kind]
    assert found.backend == backend
    assert any("type1" in spot for spot in found.blind_spots) == (found.backend == "type1")


@pytest.mark.parametrize("name", ["edu-type1-no-mmap", "edu-iommufd-no-mmap", "edu-type1-no-mmap-7.2"])
@pytest.mark.parametrize("pci", [EDU, None])
def test_a_bar_that_was_never_mmapped(name: str, pci: str | None) -> None:
    found = audited(text(name), pci)
    assert told(found) == [("not-mmapped", *OF_SECOND)]
    assert "x-no-mmap" in found.findings[0].text
    assert "P2P and ATS to this range will fault" in found.findings[0].text


@pytest.mark.parametrize("name", ["edu-type1-no-mmap", "edu-iommufd-no-mmap"])
def test_it_is_found_also_where_nobody_knows_the_address(name: str) -> None:
    found = audited(without(text(name), "pci_update_mappings"), None)
    assert told(found) == [("not-mmapped", None, "0000:02:00.0", 0, None)]
    assert any("where the guest has its BARs is not known" in spot for spot in found.blind_spots)


def test_tables_of_msix_are_left_out_and_said() -> None:
    found = audited(text("msix-iommufd"), MSIX)
    assert [(one.device, str(one.range)) for one in found.left_out if "MSI-X" in one.why] == [
        ("02:00.0 BAR0 (host 0000:04:00.0)", "0xfe002000-0xfe002fff"),
        ("03:00.0 BAR3 (host 0000:05:00.0)", "0xfde40000-0xfde40fff"),
    ]


@pytest.mark.parametrize("pci", [EDU, None])
def test_the_regression_that_returned_before_mapping(pci: str | None) -> None:
    """The listener was told of the region, and no map call followed: nothing failed, nothing was logged."""
    lines = without(text("edu-iommufd"), "iommufd_backend_map_file_dma", "0xfe200000")
    assert told(audited(lines, pci)) == [("skipped", *OF_SECOND)]
    blind = audited(without(lines, "pci_update_mappings"), None)
    assert [(one.why, one.range) for one in blind.findings] == [("skipped", SECOND)]


@pytest.mark.parametrize("name", ["edu-type1", "edu-iommufd"])
def test_a_whole_bar_that_the_listener_skips(name: str) -> None:
    lines = re.sub(r"vfio_listener_region_add_ram region_add \[ram\] (0xfe2\S+ - \S+) .*",
                   r"vfio_listener_region_skip SKIPPING region_add \1", text(name))  # fmt: skip
    lines = without(lines, "iommufd_backend_map_file_dma", "0xfe200000")
    assert told(audited(lines)) == [("skipped", *OF_SECOND)]


@pytest.mark.parametrize("name", ["edu-type1", "edu-iommufd"])
def test_a_region_marked_to_be_skipped(name: str) -> None:
    line = 'vfio_listener_region_skip_dma_map Region "0000:02:00.0 BAR 0 mmaps[0]" 0xfe200000 size=0x100000 marked to '
    lines = without(text(name), "iommufd_backend_map_file_dma", "0xfe200000")
    after = next(one for one in lines.splitlines(keepends=True) if "region_add [ram] 0xfe200000" in one)
    assert told(audited(swapped(lines, after, f"{after}{line}skip IOMMU mapping\n"))) == [("skipped", *OF_SECOND)]


def test_a_map_that_failed_and_the_errno_that_stderr_tells() -> None:
    line = "iova=0xfe200000 size=0x100000 fd=18 start=0 readonly=0 (0)"
    lines = swapped(text("edu-iommufd"), line, line.replace("(0)", "(-1)"))
    found = audited(lines)
    assert told(found) == [("map-failed", *OF_SECOND)]
    assert found.findings[0].code is None
    message = "vfio_container_dma_map(0x5, 0xfe200000, 0x100000, 0x7f1) = -14 (Bad address)\n"
    (known,) = audited(lines + message).findings
    assert (known.why, known.code, known.range) == ("map-failed", 14, SECOND)
    assert "EFAULT, Bad address" in known.text


def test_a_qemu_that_maps_no_bar_by_dmabuf() -> None:
    """QEMU 10.0 and iommufd: IOAS_MAP of a BAR is EFAULT, which QEMU tells of the first one only, on stderr."""
    lines, said = text("edu-iommufd-efault"), (FOLDER / "edu-iommufd-efault.stderr").read_text()
    failed = [("map-failed", "01:00.0", "0000:01:00.0", 0, FIRST), ("map-failed", *OF_SECOND)]
    for pci in (EDU, None):
        assert told(audited(lines, pci)) == failed
        assert [one.code for one in audited(lines + said, pci).findings] == [14, None]
    silent = audited(without(lines, "pci_update_mappings"), None)
    assert [(one.why, one.range) for one in silent.findings] == [("map-failed", SECOND), ("map-failed", FIRST)]
    assert any("traces that a map failed, not why" in spot for spot in silent.blind_spots)


def test_a_failed_map_of_type1_is_known_by_stderr_alone() -> None:
    message = "qemu: warning: vfio_container_dma_map(0x5, 0xfe200000, 0x100000, 0x7f1) = -22 (Invalid argument)\n"
    section = next(one for one in text("edu-type1").splitlines(keepends=True) if "[ram] 0xfe200000" in one)
    found = audited(swapped(text("edu-type1"), section, section + message))
    assert [(one.why, one.code, one.range) for one in found.findings] == [("map-failed", 22, SECOND)]


def test_a_failed_map_of_a_place_that_the_bar_has_left_is_history() -> None:
    lines = mapped(0x90000000, 0x100000, -1)
    there = f"{ram(0x90000000, 0x900FFFFF)}{lines}"
    assert len(audited(text("edu-iommufd") + there).findings) == 1
    assert told(audited(text("edu-iommufd") + there + gone(0x90000000, 0x900FFFFF))) == []


def test_a_bar_mapped_read_only() -> None:
    line = "iova=0xfe200000 size=0x100000 fd=18 start=0 readonly=0"
    found = audited(swapped(text("edu-iommufd"), line, line.replace("readonly=0", "readonly=1")))
    assert told(found) == [("read-only", *OF_SECOND)]
    assert "writes to this range will fault" in found.findings[0].consequence


@pytest.mark.parametrize("name", ["edu-type1", "edu-iommufd"])
def test_a_bar_mapped_in_part(name: str) -> None:
    lines = swapped(text(name), "0xfe200000 - 0xfe2fffff", "0xfe200000 - 0xfe27ffff")
    lines = lines.replace("iova=0xfe200000 size=0x100000", "iova=0xfe200000 size=0x80000")
    assert told(audited(lines)) == [("wrong-size", "02:00.0", "0000:02:00.0", 0, Range(0xFE280000, 0xFE2FFFFF))]


@pytest.mark.parametrize("name", ["edu-type1", "edu-iommufd"])
def test_a_bar_that_moved_and_was_not_mapped_again(name: str) -> None:
    lines = text(name).replace("0xfe200000 - 0xfe2fffff", "0xfd200000 - 0xfd2fffff")
    lines = lines.replace("iova=0xfe200000", "iova=0xfd200000")
    (found,) = audited(lines).findings
    assert (found.why, found.range, found.at) == ("moved", SECOND, Range(0xFD200000, 0xFD2FFFFF))
    assert "still reaches the device" in found.text


def test_a_bar_that_is_nowhere() -> None:
    lines = without(without(text("edu-iommufd"), "[ram] 0xfe200000"), "iova=0xfe200000")
    assert told(audited(lines)) == [("hole", *OF_SECOND)]


def test_maps_that_are_away_while_an_interrupt_is_served() -> None:
    """A real moment of the real trace: QEMU emulates INTx by taking BAR0 of the NVMe drive away."""
    lines = text("msix-iommufd").splitlines(keepends=True)
    last = max(at for at, line in enumerate(lines) if "04:00.0 BAR 0 mmaps enabled: 0" in line)
    found = audited("".join(lines[: last + 1]), MSIX)
    assert {(one.why, one.host, one.bar) for one in found.findings} == {("disabled", "0000:04:00.0", 0)}
    assert sum(one.range.nbytes for one in found.findings if one.range) == 0x3000
    assert "until the interrupt is served" in found.findings[0].text


def test_pages_that_qemu_answers_itself_are_no_hole() -> None:
    """A quirk's window in the midst of a mapped BAR, as QEMU lays one over BAR0 of NVIDIA's GPUs."""
    section = next(one for one in text("edu-type1").splitlines(keepends=True) if "[ram] 0xfe200000" in one)
    split = ram(0xFE200000, 0xFE287FFF) + ram(0xFE289000, 0xFE2FFFFF)
    skip = "vfio_listener_region_skip SKIPPING region_add 0xfe288000 - 0xfe288fff\n"
    found = audited(swapped(text("edu-type1"), section, split + skip))
    assert told(found) == []
    assert ("QEMU answers these pages itself", Range(0xFE288000, 0xFE288FFF)) in [
        (one.why, one.range) for one in found.left_out
    ]
    assert [(one.why, one.range) for one in audited(swapped(text("edu-type1"), section, split)).findings] == [
        ("hole", Range(0xFE288000, 0xFE288FFF))
    ]


def test_many_windows_of_qemus_own_are_no_holes() -> None:
    section = next(one for one in text("edu-type1").splitlines(keepends=True) if "[ram] 0xfe200000" in one)
    edges = [0xFE200000, 0xFE201000, 0xFE202000, 0xFE288000, 0xFE289000, 0xFE2C0000, 0xFE2C1000, 0xFE300000]
    split = "".join(ram(first, last - 1) for first, last in zip(edges[::2], edges[1::2], strict=True))
    skips = "".join(
        f"vfio_listener_region_skip SKIPPING region_add {first:#x} - {last - 1:#x}\n"
        for first, last in zip(edges[1:-1:2], edges[2::2], strict=True)
    )
    found = audited(swapped(text("edu-type1"), section, split + skips))
    assert told(found) == []
    assert sum(one.why == "QEMU answers these pages itself" for one in found.left_out) == 3


def test_a_window_of_qemus_own_at_an_end_of_a_bar_is_no_hole() -> None:
    section = next(one for one in text("edu-type1").splitlines(keepends=True) if "[ram] 0xfe200000" in one)
    for window, rest in (("0xfe200000 - 0xfe200fff", (0xFE201000, 0xFE2FFFFF)),
                         ("0xfe2ff000 - 0xfe2fffff", (0xFE200000, 0xFE2FEFFF))):  # fmt: skip
        skip = f"vfio_listener_region_skip SKIPPING region_add {window}\n"
        assert told(audited(swapped(text("edu-type1"), section, ram(*rest) + skip))) == []


def at_the_top(address: int, lines: str) -> tuple[str, list[Function]]:
    """The second device's BAR0 at ``address`` instead."""
    last = address + 0xFFFFF
    lines = lines.replace("0xfe200000 - 0xfe2fffff", f"{address:#x} - {last:#x}").replace("0xfe200000", f"{address:#x}")
    moved = Function("02:00.0", (Bar("02:00.0", 0, address, 0x100000),))
    return lines, [one for one in functions(EDU) if one.guest != "02:00.0"] + [moved]


def test_a_map_that_failed_in_amds_reserved_region() -> None:
    lines, guest = at_the_top(0xFD_F000_0000, text("edu-iommufd"))
    healthy = audit(parsed(lines), Asked(functions=guest))
    assert told(healthy) == []
    failed = swapped(lines, "fd=18 start=0 readonly=0 (0)", "fd=18 start=0 readonly=0 (-1)")
    (found,) = audit(parsed(failed), Asked(functions=guest)).findings
    assert (found.why, found.at) == ("reserved", Range(0xFD_0000_0000, 0xFF_FFFF_FFFF))


def test_bars_where_the_iommu_cannot_map() -> None:
    lines, guest = at_the_top(0x80_0000_0000, text("edu-iommufd"))
    missing = without(lines, "iova=0x8000000000")
    asked = Asked(functions=guest, limits=Limits(width_bits=39))
    assert [one.why for one in audit(parsed(missing), asked).findings] == ["too-wide"]
    kept = Range(0x7F_0000_0000, 0x81_0000_0000)
    asked = Asked(functions=guest, limits=Limits(reserved=(kept,)))
    assert [(one.why, one.at) for one in audit(parsed(missing), asked).findings] == [("reserved", kept)]
    assert told(audit(parsed(lines), asked)) == [], "it is mapped"


def test_what_type1_was_told_of_where_the_kernel_maps_nothing() -> None:
    lines, guest = at_the_top(0x80_0000_0000, text("edu-type1"))
    kept = Range(0x80_0008_0000, 0x80_0008_FFFF)
    asked = Asked(functions=guest, limits=Limits(reserved=(kept,)))
    (found,) = audit(parsed(lines), asked).findings
    assert (found.why, found.at, found.range) == ("reserved", kept, Range(0x80_0000_0000, 0x80_000F_FFFF))
    asked = Asked(functions=guest, limits=Limits(width_bits=39))
    assert [one.why for one in audit(parsed(lines), asked).findings] == ["too-wide"]


def test_ranges_that_no_bar_shows() -> None:
    hdm = Range(0x4000000000, 0x4FFFFFFFFF)
    asked = Asked(functions=functions(EDU), declared=(Declared("hdm0", hdm),))
    (found,) = audit(parsed(text("edu-iommufd")), asked).findings
    assert (found.why, found.name, found.range) == ("hole", "hdm0", hdm)
    whole = text("edu-iommufd") + ram(hdm.first, hdm.last) + mapped(hdm.first, hdm.nbytes)
    assert audit(parsed(whole), asked).findings == ()


def test_behind_a_guests_own_iommu_no_bar_is_looked_for() -> None:
    line = "vfio_listener_region_add_iommu region_add [iommu] intel_iommu_dmar 0x0 - 0xffffffff\n"
    found = audited(without(without(text("edu-iommufd"), "[ram] 0xfe2"), "iova=0xfe2") + line)
    assert told(found) == []
    assert any("intel_iommu_dmar" in spot for spot in found.blind_spots)


def test_devices_alike_are_told_apart_by_their_dmabufs_and_registers() -> None:
    swap = {"01:00.0": "0000:02:00.0", "02:00.0": "0000:01:00.0"}
    lines = text("edu-iommufd").replace("fd=15 start", "fd=X start").replace("fd=18 start", "fd=15 start")
    found = audited(swapped(lines, "fd=X start", "fd=18 start"))
    assert {device for device, _ in found.judged} == {f"{guest} BAR0 (host {host})" for guest, host in swap.items()}
    by_registers = audited(without(text("edu-type1"), "dmabuf"))
    assert {device for device, _ in by_registers.judged} == {f"{one} BAR0 (host {two})" for one, two in HOSTS.items()}
    assert not any("assumed" in spot for spot in by_registers.blind_spots)


def test_devices_alike_with_nothing_to_tell_them_apart_are_assumed() -> None:
    found = audited(without(text("edu-type1"), "vfio_pci_write_config"))
    assert any("01:00.0, 02:00.0 are is assumed" in spot for spot in found.blind_spots)
    assert all("probably" in device for device, _ in found.judged)
    hosts = {"01:00.0": "0000:01:00.0", "02:00.0": "0000:02:00.0"}
    known = audit(
        parsed(without(text("edu-type1"), "vfio_pci_write_config")), Asked(functions=functions(EDU), hosts=hosts)
    )
    assert not any("assumed" in spot for spot in known.blind_spots)


def test_overlapping_finds_the_finding_of_a_fault() -> None:
    found = audited(text("edu-iommufd-no-mmap")).findings
    assert overlapping(found, Range(0xFE240000, 0xFE240FFF)) == list(found)
    assert overlapping(found, Range(0xFE400000, 0xFE400FFF)) == []


def test_evidence_of_findings_and_of_what_was_not_seen() -> None:
    found = as_evidence(audited(text("edu-type1-no-mmap")), node="guest", time_s=5.0)
    assert [one.kind for one in found] == ["stage2-audit", "blind-spot"]
    hole = found[0].fact
    assert (hole.guest, hole.host, hole.bar, hole.first, hole.last) == (  # type: ignore[union-attr]
        "0000:02:00.0", "0000:02:00.0", 0, SECOND.first, SECOND.last,
    )  # fmt: skip
    assert found[1].text.startswith("stage 2: type1")


def test_a_container_that_lacks_what_another_has() -> None:
    """Two containers: the second was told of all but the second device's BAR."""
    entries = [one for layer in parsed(text("edu-type1")).state.layers for one in layer.sections]
    second = "".join(ram(one.range.first, one.range.last) for one in entries if one.range != SECOND)
    assert told(audited(text("edu-type1") + second)) == [("hole", *OF_SECOND)]


def test_a_space_of_devices_that_are_gone_is_not_judged() -> None:
    lines = mapped(0x1000, 0x1000, ioas=9) + unmapped(0x1000, 0x1000, ioas=9)
    assert told(audited(text("edu-iommufd") + lines)) == []
    held = audited(text("edu-iommufd") + mapped(0x1000, 0x1000, ioas=9))
    assert {FIRST, SECOND} <= {one.range for one in held.findings}, "what lives and holds next to nothing is judged"


def test_what_was_skipped_in_amds_reserved_region_was_skipped_on_any_host() -> None:
    lines, guest = at_the_top(0xFD_F000_0000, text("edu-iommufd"))
    (found,) = audit(parsed(without(lines, "iova=0xfdf0000000")), Asked(functions=guest)).findings
    assert found.why == "skipped"
    (spot,) = [one for one in audit(parsed(at_the_top(0xFD_F000_0000, text("edu-type1"))[0]), Asked(functions=guest))
               .blind_spots if "AMD" in one]  # fmt: skip
    assert "0xfd00000000-0xffffffffff" in spot


def test_a_register_that_qemu_answers_takes_its_whole_page() -> None:
    section = next(one for one in text("edu-type1").splitlines(keepends=True) if "[ram] 0xfe200000" in one)
    split = ram(0xFE200000, 0xFE287FFF) + ram(0xFE289000, 0xFE2FFFFF)
    skip = "vfio_listener_region_skip SKIPPING region_add 0xfe288010 - 0xfe28808f\n"
    assert told(audited(swapped(text("edu-type1"), section, split + skip))) == []


def test_a_map_that_failed_and_was_made_later_is_no_failure() -> None:
    line = next(one for one in text("edu-iommufd").splitlines(keepends=True) if "iova=0xfe200000" in one)
    both = line.replace("(0)", "(-1)") + line
    assert told(audited(swapped(text("edu-iommufd"), line, both))) == []
    assert told(audited(without(swapped(text("edu-iommufd"), line, both), "pci_update_mappings"), None)) == []


def test_a_bar_smaller_than_a_page_is_left_out() -> None:
    setup = 'Device 0000:09:00.0, region 0 "0000:09:00.0 BAR 0", flags: 0x7, offset: 0x0, size: 0x100'
    mmap = "vfio_region_mmap Region 0000:09:00.0 BAR 0 mmaps[0] [0x0 - 0xff]\n"
    guest = Function("09:00.0", (Bar("09:00.0", 0, 0xFE700000, 0x100),))
    found = audit(
        parsed(f"{text('edu-iommufd')}vfio_region_setup {setup}\n{mmap}"), Asked(functions=[*functions(EDU), guest])
    )
    assert told(found) == []
    assert [(one.device, one.why) for one in found.left_out] == [
        ("09:00.0 BAR0 (host 0000:09:00.0)", "it is smaller than a page")
    ]
