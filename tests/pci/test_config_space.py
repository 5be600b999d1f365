"""Configuration space: what its bytes say, what they cannot say, and that no bytes at all break the reader."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.pci import config
from dmaproof.pci.capability import Acs, Ats, Capability, Express, Pasid, Pri
from dmaproof.pci.config import parse
from tests.pci.machine_tree import (
    ALL_ONES,
    PASID,
    PRI,
    MachineTree,
    acs,
    ats,
    express,
    extended,
    gpu_config,
    header,
    port_config,
)

GPU = "0000:01:00.0"


def test_capabilities_of_a_port() -> None:
    found = parse(bytes(extended(express(header(), port=4), acs(0x1D, can=0x5F), ats(0x8000 | 2))))
    assert found.complete
    assert found.acs == Acs(("SV", "TB", "RR", "CR", "UF", "DT"), ("SV", "RR", "CR", "UF"))
    assert found.ats == Ats(enabled=True, smallest_nbytes=16384)
    assert found.express == Express("root-port", 5, 16, 5, 16)
    assert (found.pri, found.pasid, found.clique, found.lost) == ("absent", "absent", "absent", False)
    assert found.extended == (Capability(0x0D, 0x100, 1), Capability(0x0F, 0x140, 1))


@pytest.mark.parametrize(
    ("control", "redirects"), [(0x00, False), (0x11, False), (0x04, True), (0x08, True), (0x20, True)]
)
def test_which_acs_bits_redirect(control: int, redirects: bool) -> None:
    found = parse(port_config(acs_control=control)).acs
    assert isinstance(found, Acs)
    assert found.redirects is redirects


def test_pri_and_pasid() -> None:
    entries = ((PRI, struct.pack("<HH", 1, 0x8100)), (PASID, struct.pack("<HH", 0x1400, 1)))
    found = parse(bytes(extended(express(header()), *entries)))
    assert found.pri == Pri(enabled=True, status=0x8100)
    assert found.pasid == Pasid(enabled=True, width=20)


def test_the_first_64_bytes_leave_the_rest_unknown() -> None:
    found = parse(gpu_config(ats_control=0x8000)[:64])
    assert (found.acs, found.ats, found.express, found.clique) == ("unknown",) * 4
    assert (found.complete, found.lost, found.vendor) == (False, False, 0x10DE)


def test_256_bytes_of_a_pcie_function_leave_acs_unknown() -> None:
    found = parse(gpu_config()[:256])
    assert isinstance(found.express, Express)
    assert (found.acs, found.ats, found.complete) == ("unknown", "unknown", False)


def test_256_bytes_of_conventional_pci_are_all_there_is() -> None:
    found = parse(bytes(header(first_capability=0)[:256]))
    assert (found.acs, found.complete) == ("absent", True)


def test_a_register_cut_off_is_unknown() -> None:
    assert parse(gpu_config(ats_control=0x8000)[:0x106]).ats == "unknown"


def test_all_ones_is_a_lost_device() -> None:
    for nbytes in (64, 256, 4096):
        found = parse(ALL_ONES[:nbytes])
        assert found.lost
        assert (found.acs, found.ats, found.complete) == ("unknown", "unknown", False)


def test_a_virtual_function_without_ids_is_not_lost() -> None:
    assert not parse(bytes(express(header(vendor=0xFFFF, device=0xFFFF)))).lost


@pytest.mark.parametrize("clique", [0, 1, 15])
def test_clique(clique: int) -> None:
    data = express(header(), following=0xC8)
    data[0xC8:0xD0] = bytes([0x09, 0, 8, *b"P2P", clique << 3, 0])
    assert parse(bytes(data)).clique == clique
    assert parse(bytes(data[:0xCE])).clique == "unknown"


def test_another_vendor_capability_is_no_clique() -> None:
    data = express(header(), following=0xC8)
    data[0xC8:0xD0] = bytes([0x09, 0, 8, *b"NVL", 0xFF, 0])
    assert parse(bytes(data)).clique == "absent"


def test_lists_that_run_in_circles_end() -> None:
    data = express(header(), following=0x40)
    struct.pack_into("<I", data, 0x100, 0x0D | 1 << 16 | 0x140 << 20)
    struct.pack_into("<I", data, 0x140, 0x0F | 1 << 16 | 0x100 << 20)
    found = parse(bytes(data))
    assert [one.offset for one in found.capabilities or ()] == [0x40]
    assert [one.offset for one in found.extended or ()] == [0x100, 0x140]


@given(st.binary(max_size=4200))
def test_any_bytes(data: bytes) -> None:
    found = parse(data)
    assert found.nbytes == len(data)
    for one in (*(found.capabilities or ()), *(found.extended or ())):
        assert 0x40 <= one.offset < len(data)


@given(st.data())
def test_any_capability_lists(data: st.DataObject) -> None:
    """Random next pointers in a space that is otherwise sound, so that the walks get far."""
    space = header(first_capability=data.draw(st.integers(0, 255)))
    for offset in range(0x40, 0x100, 4):
        struct.pack_into("<BB", space, offset, data.draw(st.integers(0, 30)), data.draw(st.integers(0, 255)))
    for offset in range(0x100, 0x180, 4):
        struct.pack_into("<I", space, offset, data.draw(st.sampled_from([0x0D, 0x0F, 0x1B])) | offset + 4 << 20)
    found = parse(bytes(space[: data.draw(st.integers(0, 4096))]))
    assert len(found.capabilities or ()) <= 48


def test_state_of_a_device(tmp_path: Path) -> None:
    tree = MachineTree(tmp_path)
    folder = tree.function(GPU, config=gpu_config())
    assert config.state(tmp_path, GPU) == "present"
    (folder / "config").write_bytes(ALL_ONES)
    assert config.state(tmp_path, GPU) == "lost"
    (folder / "config").unlink()
    assert config.state(tmp_path, GPU) == "unreadable"
    assert config.state(tmp_path, "0000:02:00.0") == "absent"


def test_reading_changes_nothing(tmp_path: Path) -> None:
    tree = MachineTree(tmp_path)
    folder = tree.function(GPU, config=gpu_config())
    (folder / "config").chmod(0o444)
    before = (folder / "config").stat()
    assert config.read(tmp_path, GPU) == gpu_config()
    after = (folder / "config").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
