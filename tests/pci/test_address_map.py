"""Addresses resolved on trees of real files: memory, reserved regions, BARs, the mailbox, and what stays unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.pci import address_map, addresses
from dmaproof.pci.addresses import AddressMap, Claim, Place
from dmaproof.pci.bar_conflicts import Conflict
from dmaproof.pci.bar_conflicts import of_sysfs as conflicts_of
from tests.pci.machine_tree import MachineTree, gpu_config, port_config

GPU, OTHER, NVME, PORT = "0000:04:00.0", "0000:82:00.0", "0000:05:00.0", "0000:00:02.0"
IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
f0000000-f8ffffff : PCI Bus 0000:00
  f6000000-f6ffffff : 0000:04:00.0
    f6000000-f6ffffff : nvidia
fec00000-fec003ff : IOAPIC 0
100000000-8ffffffff : System RAM
  180000000-1ffffffff : Kernel code
400000000000-41ffffffffff : PCI Bus 0009:00
  420000000000-42000fffffff : System RAM (NVIDIA)
"""


def resource(*bars: tuple[int, int, int], bridge_window: tuple[int, int] | None = None) -> str:
    rows = {index: (address, address + nbytes - 1, 0x40200) for index, address, nbytes in bars}
    if bridge_window is not None:
        rows[14] = (*bridge_window, 0x200)
    lines = (rows.get(index, (0, 0, 0)) for index in range(17))
    return "\n".join("0x{:016x} 0x{:016x} 0x{:016x}".format(*line) for line in lines)


@pytest.fixture
def tree(tmp_path: Path) -> MachineTree:
    tree = MachineTree(tmp_path)
    port = tree.port(PORT, config=port_config())
    (port / "resource").write_text(resource(bridge_window=(0xF6000000, 0xF7FFFFFF)))
    bars = resource((0, 0xF6000000, 1 << 24), (1, 0x380000000000, 1 << 28))
    tree.function(GPU, under=PORT, config=gpu_config(), resource=bars)
    bars = resource((0, 0xF8000000, 1 << 24))
    tree.function(OTHER, config=gpu_config(), resource=bars)
    nvme = {"vendor": "0x144d", "class": "0x010802", "resource": resource((0, 0xF7000000, 1 << 24))}
    tree.function(NVME, config=gpu_config(), **nvme)
    (tmp_path / "proc/iomem").write_text(IOMEM)
    return tree


def test_every_kind_of_place(tree: MachineTree) -> None:
    found = address_map.of_sysfs(tree.root)
    assert (found.whole, found.unseen) == (True, ())
    expected = {
        0x5000: ("ram", None, None, "System RAM"),
        0x1FFFFFFFF: ("ram", None, None, "System RAM"),
        0x420000000010: ("ram", None, None, "System RAM (NVIDIA)"),
        0x10: ("reserved", None, None, "Reserved"),
        0xFEC00010: ("reserved", None, None, "IOAPIC 0"),
        0xF6000010: ("bar", GPU, 0, None),
        0x380000001000: ("bar", GPU, 1, None),
        0xF8139068: ("bar", OTHER, 0, "GPUDirect mailbox"),
        0xF7800000: ("bar", NVME, 0, None),
        0xF9000000: ("unclaimed", None, None, None),  # in the bus's window, but nobody's
        0x400000000000: ("unclaimed", None, None, None),
    }
    for address, (kind, owner, bar, name) in expected.items():
        place = found.resolve(address)
        assert (place.kind, place.owner, place.bar, place.name) == (kind, owner, bar, name), hex(address)
        assert place.certain
    assert found.resolve(0xF8139068).offset == 0x139068


def test_the_mailbox_is_an_nvidia_gpus_alone(tree: MachineTree) -> None:
    place = address_map.of_sysfs(tree.root).resolve(0xF7139000)
    assert (place.owner, place.name, place.is_mailbox) == (NVME, None, False)


def test_a_page_is_a_place(tree: MachineTree) -> None:
    """VT-d gives the page: a small BAR in the midst of it is what it means, if nothing else is there."""
    small = {"vendor": "0x1b36", "class": "0x010802", "resource": resource((0, 0xF9000200, 0x100))}
    tree.function("0000:06:00.0", config=gpu_config(), **small)
    found = address_map.of_sysfs(tree.root)
    assert found.resolve(0xF8139000, page=True).is_mailbox
    assert not found.resolve(0xF813A000, page=True).is_mailbox
    assert found.resolve(0xF9000000).kind == "unclaimed"
    place = found.resolve(0xF9000000, page=True)
    assert (place.kind, place.owner, place.offset, place.certain) == ("bar", "0000:06:00.0", 0, True)
    second = {"vendor": "0x1b36", "class": "0x010802", "resource": resource((0, 0xF9000400, 0x200))}
    tree.function("0000:07:00.0", config=gpu_config(), **second)
    assert not address_map.of_sysfs(tree.root).resolve(0xF9000000, page=True).certain


def test_a_reserved_region_is_its_groups_own(tree: MachineTree) -> None:
    tree.group(1, "DMA-FQ", GPU, reserved="0x00000000fee00000 0x00000000feefffff msi\n")
    tree.group(2, "DMA-FQ", OTHER, reserved="0x00000000f8000000 0x00000000f8ffffff reserved\n")
    found = address_map.of_sysfs(tree.root)
    assert found.resolve(0xFEE00000, requester=GPU).name == "msi"
    assert found.resolve(0xFEE00000, requester=OTHER).kind == "unclaimed"
    assert found.resolve(0xFEE00000).name == "msi"
    place = found.resolve(0xF8139000, requester=OTHER)
    assert (place.kind, place.is_mailbox, place.reserved) == ("bar", True, "reserved")
    assert found.resolve(0xF8139000, requester=GPU).reserved is None


def test_without_root_the_map_is_not_whole(tree: MachineTree) -> None:
    (tree.root / "proc/iomem").write_text("00000000-00000000 : System RAM\n00000000-00000000 : PCI Bus 0000:00\n")
    found = address_map.of_sysfs(tree.root)
    assert not found.whole
    assert "needs root" in found.unseen[0]
    assert found.resolve(0x5000) == Place(address=0x5000, kind="unknown", certain=False)
    assert found.resolve(0xAA139000).is_mailbox  # by its low bits alone
    assert not found.resolve(0xAA139000).certain


def test_firmwares_map_stands_in(tree: MachineTree) -> None:
    (tree.root / "proc/iomem").unlink()
    folder = tree.root / "sys/firmware/memmap/0"
    folder.mkdir(parents=True)
    for name, text in {"start": "0x1000", "end": "0x9fbff", "type": "System RAM"}.items():
        (folder / name).write_text(f"{text}\n")
    found = address_map.of_sysfs(tree.root)
    assert found.whole
    assert found.resolve(0x5000).kind == "ram"


def test_unreadable_bars_and_regions_are_told(tree: MachineTree) -> None:
    (tree.root / "sys/bus/pci/devices" / GPU / "resource").unlink()
    (tree.group(3, "DMA", GPU) / "reserved_regions").unlink()
    found = address_map.of_sysfs(tree.root)
    assert not found.whole
    assert found.unseen == (f"BARs unreadable: {GPU}", "reserved regions unreadable: IOMMU groups 3")


def test_no_machine_at_all(tmp_path: Path) -> None:
    found = address_map.of_sysfs(tmp_path)
    assert not found.whole
    assert found.resolve(0xF8139000) == Place(
        address=0xF8139000, kind="bar", certain=False, bar=0, offset=0x139000, name="GPUDirect mailbox"
    )


CLAIMS = st.builds(
    Claim,
    st.sampled_from(["ram", "reserved", "bar"]),
    st.integers(0, 60),
    st.integers(1, 30),
)


@given(st.lists(CLAIMS, max_size=6), st.integers(0, 90))
def test_the_smallest_claim_has_the_address(claims: list[Claim], address: int) -> None:
    place = AddressMap(tuple(claims), whole=True).resolve(address)
    here = [one for one in claims if address in range(one.address, one.address + one.nbytes)]
    if not here:
        assert place.kind == "unclaimed"
        return
    smallest = min(one.nbytes for one in here)
    assert any(
        (one.kind, address - one.address) == (place.kind, place.offset) for one in here if one.nbytes == smallest
    )


@given(st.integers(0, (1 << 64) - 1))
def test_with_nothing_known_only_the_low_bits_speak(address: int) -> None:
    place = addresses.NOTHING_KNOWN.resolve(address)
    assert place.is_mailbox == (0x139000 <= address % (1 << 24) <= 0x139FFF)
    assert not place.certain


def test_bars_where_dma_cannot_reach(tree: MachineTree) -> None:
    bars = resource((0, 0xF6000000, 1 << 24), (1, 0xFD00000000, 1 << 28), (3, 1 << 46, 1 << 20))
    path = tree.root / "sys/bus/pci/devices" / GPU / "resource"
    unset = "0x0000000000000000 0x0000000000ffffff 0x0000000020040200"
    lines = bars.splitlines()
    path.write_text("\n".join([*lines[:5], unset, *lines[6:]]))
    region = "0x000000fd00000000 0x000000ffffffffff reserved\n0x00000000f6000000 0x00000000f6ffffff direct-relaxable\n"
    tree.group(1, "DMA-FQ", GPU, reserved=region)
    tree.iommu("dmar0", GPU)
    (tree.root / "sys/class/iommu/dmar0/intel-iommu").mkdir()
    (tree.root / "sys/class/iommu/dmar0/intel-iommu/cap").write_text(f"{45 << 16:x}\n")
    window = {"first": 0xFD00000000, "last": 0xFFFFFFFFFF}
    assert conflicts_of(tree.root) == (
        Conflict(bdf=GPU, bar=1, address=0xFD00000000, nbytes=1 << 28, why="reserved", **window),
        Conflict(bdf=GPU, bar=3, address=1 << 46, nbytes=1 << 20, why="too-wide", first=1 << 46),
        Conflict(bdf=GPU, bar=5, address=None, nbytes=1 << 24, why="unassigned"),
    )
    assert conflicts_of(tree.root, {OTHER}) == ()


def test_a_region_of_another_group_is_no_conflict(tree: MachineTree) -> None:
    tree.group(1, "DMA-FQ", GPU, reserved="0x00000000f8000000 0x00000000f8ffffff reserved\n")
    assert conflicts_of(tree.root) == ()
