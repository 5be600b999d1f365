"""Traces of every era, whole, cut, mixed and broken, and the state that they end with."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.guest.audit import trace
from dmaproof.guest.audit.audit import audit
from dmaproof.guest.audit.state import State
from dmaproof.guest.audit.table import Range, Table
from dmaproof.guest.audit.trace import of_chunks
from tests.guest.audit.traces import FOLDER, gone, mapped, parsed, ram, text, unmapped

BAR = Range(0xFE900000, 0xFE9FFFFF)


def held(table: Table) -> list[Range]:
    return [entry.range for entry in table]


def sections(state: State) -> list[list[Range]]:
    return [held(layer.sections) for layer in state.layers]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.trace")), ids=lambda path: path.stem)
def test_every_line_of_a_real_trace_is_read(path: Path) -> None:
    found = trace.read(path)
    assert (found.odd, found.cut, found.runs) == (0, False, 1)
    assert found.lines == len(path.read_text().splitlines())
    assert {"vfio_listener_region_add_ram", "vfio_region_setup", "pci_update_mappings_add"} <= found.names.keys()


@pytest.mark.parametrize("name", ["edu-iommufd", "msix-iommufd", "edu-iommufd-no-mmap", "reset-iommufd"])
def test_what_the_listener_was_told_is_what_iommufd_mapped(name: str) -> None:
    """On a healthy QEMU: two independent halves of the same real log agree."""
    state = parsed(text(name)).state
    (ioas,) = state.ioases.values()
    assert sections(state) == [held(ioas.maps)]
    assert len(ioas.failed) == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vfio_listener_region_skip SKIPPING region_add 0xfe900000 - 0xfe9fffff", [BAR]),
        ("vfio_listener_region_add_skip SKIPPING region_add 0xfe900000 - 0xfe9fffff", [BAR]),
        ("vfio_listener_region_skip SKIPPING tracking_update 0xfe900000 - 0xfe9fffff", []),
        ("vfio_listener_region_skip SKIPPING region_del 0xfe900000 - 0xfe9fffff", []),
    ],
)
def test_skipped_sections_of_every_era(line: str, expected: list[Range]) -> None:
    assert held(parsed(line + "\n").state.skipped) == expected
    again = parsed(f"{line}\nvfio_listener_region_del_skip SKIPPING region_del 0xfe900000 - 0xfe9fffff\n")
    assert held(again.state.skipped) == []


@pytest.mark.parametrize(
    "line",
    [
        "vfio_listener_region_add_iommu region_add [iommu] intel_iommu_dmar 0x0 - 0xfedfffff",
        "vfio_listener_region_add_iommu region_add [iommu] 0x0 - 0xfedfffff",
    ],
)
def test_a_guests_own_iommu_comes_and_goes(line: str) -> None:
    assert held(parsed(line + "\n").state.translated) == [Range(0, 0xFEDFFFFF)]
    assert held(parsed(f"{line}\n{gone(0, 0xFEDFFFFF)}").state.translated) == []


@pytest.mark.parametrize(
    ("line", "fds"),
    [
        ('Device 0000:01:00.0, dmabuf fd 15 region 0 "0000:01:00.0 BAR 0", offset: 0x0, size: 0x100000', {15}),
        ('Device 0000:01:00.0, dmabuf fd -95 region 0 "0000:01:00.0 BAR 0", offset: 0x0, size: 0x100000', {-95}),
        ('Device 0000:01:00.0, region 0 "0000:01:00.0 BAR 0", offset: 0x0, size: 0x100000', set()),
    ],
)
def test_dmabufs_with_and_without_a_descriptor(line: str, fds: set[int]) -> None:
    setup = 'Device 0000:01:00.0, region 0 "0000:01:00.0 BAR 0", flags: 0x7, offset: 0x0, size: 0x100000'
    found = parsed(f"vfio_region_setup {setup}\nvfio_region_dmabuf {line}\n")
    assert (found.odd, found.state.regions["0000:01:00.0", 0].fds) == (0, fds)


@pytest.mark.parametrize("guest", ["d=0x555810b92330 01:00.0", "vfio-pci 01:00.0"])
def test_places_of_bars_in_both_forms(guest: str) -> None:
    state = parsed(f"pci_update_mappings_add {guest} 4,0xfea00000+0x4000\n").state
    assert (state.placed["01:00.0", 4].address, state.placed["01:00.0", 4].nbytes) == (0xFEA00000, 0x4000)
    del_line = f"pci_update_mappings_del {guest} 4,0xfea00000+0x4000\n"
    assert not parsed(f"pci_update_mappings_add {guest} 4,0xfea00000+0x4000\n{del_line}").state.placed


@pytest.mark.parametrize(
    "prefix",
    ["", "4242@1763745600.123456:", "Nov 21 17:00:00 host qemu[42]: ", "2026-11-21T17:00:00.1Z [x] ", "\x1b[0m "],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_prefixes_and_line_ends_do_not_matter(prefix: str, end: str) -> None:
    line = ram(BAR.first, BAR.last).rstrip("\n")
    assert sections(parsed(f"{prefix}{line}{end}").state) == [[BAR]]


@pytest.mark.parametrize(
    "message",
    [
        "vfio_dma_map(0x55b2, 0xfe900000, 0x100000, 0x7fe751a00000) = -14 (Bad address)",
        "qemu-system-x86_64: vfio_container_dma_map(0x55b2, 0xfe900000, 0x100000, 0x7fe7) = -22 (Invalid argument)",
        "qemu-system-x86_64: warning: vfio_container_dma_map(0x55b2, 0xfe900000, 0x100000, 0x7fe7) = -22 (x)",
    ],
)
def test_qemus_own_message_takes_a_section_back(message: str) -> None:
    state = parsed(f"{ram(0, 0xFFFF)}{ram(BAR.first, BAR.last)}{message}\n").state
    assert held(state.layers[0].lost) == [BAR]
    assert held(state.layers[0].maps()) == [Range(0, 0xFFFF)]
    assert held(parsed(f"{ram(BAR.first, BAR.last)}{message}\n{gone(BAR.first, BAR.last)}").state.layers[0].lost) == []


@pytest.mark.parametrize(
    "line",
    [
        'vfio_listener_region_skip_dma_map Region "0000:01:00.0 BAR 0 mmaps[0]" 0xfe900000 size=0x100000 marked to skip'
        " IOMMU mapping",
        'vfio_listener_region_add_no_dma_map Region "0000:01:00.0 BAR 0 mmaps[0]" 0xfe900000 size=0x100000 is not'
        " aligned to 0x10000 and cannot be mapped for DMA",
    ],
)
def test_sections_that_the_listener_leaves_out_are_named(line: str) -> None:
    (entry,) = parsed(f"{ram(BAR.first, BAR.last)}{line}\n").state.layers[0].lost
    assert (entry.range, entry.origin) == (BAR, "0000:01:00.0 BAR 0 mmaps[0]")


def test_two_containers_are_told_of_the_same_and_forget_it_one_after_the_other() -> None:
    both = ram(0, 0xFFFF) + ram(0x20000, 0x2FFFF) + ram(0, 0xFFFF) + ram(0x20000, 0x2FFFF)
    assert sections(parsed(both).state) == [[Range(0, 0xFFFF), Range(0x20000, 0x2FFFF)]] * 2
    once = sections(parsed(both + gone(0, 0xFFFF)).state)
    assert sorted(map(len, once)) == [1, 2]


def test_two_real_containers_hold_the_same_at_the_end() -> None:
    """Behind a caching vIOMMU each function has an address space of its own."""
    one, other = parsed(text("edu-type1-viommu-7.2")).state.layers
    assert held(one.sections) == held(other.sections)
    assert Range(0xFE200000, 0xFE2FFFFF) in held(one.sections)


def test_two_real_spaces_of_iommufd_hold_the_same_at_the_end() -> None:
    state = parsed(text("edu-iommufd-two")).state
    assert state.ioases.keys() == {(13, 2), (18, 2)}, "numbers are each iommufd's own"
    assert [held(one.maps) for one in state.ioases.values()] == sections(state)
    assert sections(state)[0] == sections(state)[1]


def test_a_map_that_failed_is_none_and_an_unmap_that_failed_neither() -> None:
    state = parsed(mapped(0x1000, 0x1000) + mapped(BAR.first, BAR.nbytes, -1)).state
    assert held(state.ioases[13, 2].maps) == [Range(0x1000, 0x1FFF)]
    assert held(state.ioases[13, 2].failed) == [BAR]
    kept = parsed(mapped(0x1000, 0x1000) + unmapped(0x1000, 0x1000, -1)).state
    assert held(kept.ioases[13, 2].maps) == [Range(0x1000, 0x1FFF)]


def test_spaces_of_iommufd_are_apart() -> None:
    state = parsed(mapped(0x1000, 0x1000, ioas=2) + mapped(0x1000, 0x1000, ioas=7) + unmapped(0x1000, 0x1000)).state
    assert [len(state.ioases[13, number].maps) for number in (2, 7)] == [0, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [("edu-type1", "edu-type1-no-mmap"), ("edu-type1", "edu-iommufd"), ("edu-iommufd", "edu-type1")],
)
def test_a_second_run_in_the_same_log_begins_anew(first: str, second: str) -> None:
    found = parsed(text(first) + text(second))
    assert found.runs == 2
    assert sections(found.state) == sections(parsed(text(second)).state)
    assert len(found.state.ioases) == second.count("iommufd")


def test_a_space_that_is_freed_is_gone() -> None:
    free = "iommufd_backend_free_id  iommufd=13 id={} (0)\n"
    assert parsed(mapped(0x1000, 0x1000) + free.format(3)).state.ioases.keys() == {(13, 2)}
    assert not parsed(mapped(0x1000, 0x1000) + free.format(2)).state.ioases


def test_a_device_that_is_unplugged_and_plugged_again_is_no_second_run() -> None:
    setup = 'vfio_region_setup Device 0000:01:00.0, region 0 "x BAR 0", flags: 0x7, offset: 0x0, size: 0x1000\n'
    attach = "vfio_device_attach  (0000:01:00.0) group 16\n"
    setup = attach + setup
    found = parsed(f"{setup}{ram(0, 0xFFF)}vfio_region_finalize Device 0000:01:00.0, region 0\n{setup}")
    assert (found.runs, sections(found.state)) == (1, [[Range(0, 0xFFF)]])


def test_a_last_line_without_its_end_is_left_out_for_it_may_say_another_number() -> None:
    found = parsed(ram(0, 0xFFFF) + "vfio_listener_region_del region_del 0x0 - 0xfff")
    assert (found.cut, found.lines, sections(found.state)) == (True, 1, [[Range(0, 0xFFFF)]])


def test_lines_that_are_cut_or_mixed_are_counted() -> None:
    found = parsed(f"{ram(0, 0xFFFF)}vfio_listener_region_del region_devfio_listener_region_del\n")
    assert (found.odd, sections(found.state)) == (1, [[Range(0, 0xFFFF)]])


PAGES = st.integers(0, 12)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, int, int, int]]:
    """Maps as a kernel lets them be: none over another; unmaps of any range."""
    found, held_pages = [], set[int]()
    for _ in range(draw(st.integers(0, 25))):
        first, count = draw(PAGES), draw(st.integers(1, 5))
        pages = set(range(first, first + count))
        code = draw(st.sampled_from([0, 0, 0, -1]))
        if draw(st.booleans()):
            if code == 0 and pages & held_pages:
                continue
            found.append(("map", first, count, code))
            held_pages |= pages if code == 0 else set()
        else:
            found.append(("unmap", first, count, code))
            held_pages -= pages if code == 0 else set()
    return found


@settings(deadline=None)
@given(steps(), st.integers(1, 60))
def test_the_final_state_is_that_of_a_set_of_pages(done: list[tuple[str, int, int, int]], chunk: int) -> None:
    pages, lines = set[int](), [mapped(0x1000000, 0x1000)]
    for what, first, count, code in done:
        says = mapped if what == "map" else unmapped
        lines.append(says(first << 12, count << 12, code))
        if code == 0:
            touched = set(range(first, first + count))
            pages = pages | touched if what == "map" else pages - touched
    whole = "".join(lines).encode()
    found = of_chunks(whole[at : at + chunk] for at in range(0, len(whole), chunk))
    entries = [entry.range for entry in found.state.ioases[13, 2].maps][:-1]
    got = {page for one in entries for page in range(one.first >> 12, (one.last >> 12) + 1)}
    assert got == pages
    assert found.lines == len(lines)


WORDS = [b"vfio_listener_region_add_ram ", b"region_add [ram] ", b"0x1000 - 0x1fff", b"[0x7f]", b"\n", b"\xff", b" (0)",
         b"iommufd_backend_map_dma ", b"vfio_region_setup Device ", b", region 0 ", b"vfio_dma_map(0x"]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(WORDS))))
def test_any_bytes_are_read(parts: list[bytes]) -> None:
    found = of_chunks(parts)
    assert found.lines == b"".join(parts).count(b"\n")


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.binary(max_size=8))
def test_a_real_trace_with_a_wound_is_read(at: int, nbytes: int, instead: bytes) -> None:
    whole = text("edu-iommufd").encode()
    start = at * len(whole) // 400
    of_chunks([whole[:start], instead, whole[start + nbytes :]])


def test_one_line_without_end_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        found = of_chunks(b"x" * 65536 for _ in range(200))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.lines, found.cut) == (0, True)
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "line",
    [ram(0, 0xFFFF), "vfio_dma_map(0x5, 0x1000, 0x1000, 0x7f) = -14 (x)\n" + ram(0, 0xFFFF)],
    ids=["added", "added and refused"],
)
def test_a_log_that_says_the_same_without_end_takes_no_time(line: str) -> None:
    begin = time.process_time()
    audit(parsed(line * 20_000))
    audit(parsed("".join(mapped(0x1000, 0x1000, -1, ioas=one) for one in range(20_000))))
    assert time.process_time() - begin < 20


def test_a_file_that_is_no_trace_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("hello\n" * 3)
    with pytest.raises(
        UsageError, match=r"holds no trace event of QEMU's VFIO in 3 lines: have QEMU write them with -tr"
    ):
        trace.read(tmp_path / "log")
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        trace.read(tmp_path / "none")
