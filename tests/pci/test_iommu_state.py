"""The IOMMU snapshot: families, groups, paths, and sentences that say what could not be seen."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dmaproof.pci import iommu
from dmaproof.pci.capability import Acs
from tests.pci.machine_tree import ALL_ONES, MachineTree, gpu_config, port_config

PORT, GPU, AUDIO = "0000:15:01.0", "0000:16:00.0", "0000:16:00.1"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    tree = MachineTree(tmp_path)
    tree.port(PORT, config=port_config(acs_control=0x1D))
    tree.function(GPU, under=PORT, config=gpu_config(ats_control=0x8000))
    return tree


def said(tree: MachineTree) -> str:
    return "\n".join(iommu.snapshot(tree.root).summary)


def test_a_translating_machine(machine: MachineTree) -> None:
    machine.iommu("dmar0", PORT, GPU)
    machine.group(3, "DMA-FQ", PORT, GPU, reserved="0x00000000fee00000 0x00000000feefffff msi\n")
    machine.command_line("root=/dev/sda quiet intel_iommu=on iommu.strict=1 pci=nommconf pci=noats,realloc foo.iommu=1")
    state = iommu.snapshot(machine.root)
    assert state.family == "vtd"
    assert state.domain_types == ("DMA-FQ",)
    assert state.command_line == ("intel_iommu=on", "iommu.strict=1", "pci=noats,realloc")
    (group,) = state.groups
    assert (group.number, group.type, group.members, group.endpoints) == (3, "DMA-FQ", (PORT, GPU), (GPU,))
    assert group.reserved is not None
    assert (group.reserved[0].first, group.reserved[0].type) == (0xFEE00000, "msi")
    assert (state.devices[0].name, state.devices[0].members) == ("dmar0", (PORT, GPU))
    assert "default domains of 1 groups: 1 DMA-FQ" in said(machine)


def test_paths_hold_acs_and_ats_of_every_hop(machine: MachineTree) -> None:
    (path,) = iommu.snapshot(machine.root).paths
    assert path.endpoint == GPU
    assert [(hop.bdf, hop.readable) for hop in path.hops] == [(GPU, True), (PORT, True)]
    gpu, port = path.hops
    assert (gpu.acs_text, gpu.ats_text) == ("absent", "on")
    assert (port.acs_text, port.ats_text) == ("SV RR CR UF", "absent")
    assert isinstance(port.acs, Acs)
    assert f"ACS sends peer requests through the root complex at {PORT}" in said(machine)
    assert f"ATS is on at {GPU}" in said(machine)
    assert "unreadable" not in said(machine)


def test_bits_that_are_off_read_off(tmp_path: Path) -> None:
    tree = MachineTree(tmp_path)
    tree.port(PORT, config=port_config(acs_control=0))
    tree.function(GPU, under=PORT, config=gpu_config())
    gpu, port = iommu.snapshot(tmp_path).paths[0].hops
    assert (gpu.ats_text, port.acs_text) == ("off", "off")


def test_an_unprivileged_reader_knows_nothing_of_acs(machine: MachineTree) -> None:
    for bdf in (PORT, GPU):
        path = machine.root / "sys/bus/pci/devices" / bdf / "config"
        path.write_bytes(path.read_bytes()[:64])
    state = iommu.snapshot(machine.root)
    assert {(hop.acs_text, hop.ats_text, hop.readable) for hop in state.paths[0].hops} == {
        ("unknown", "unknown", False)
    }
    assert "config space unreadable beyond 64 bytes: needs root" in said(machine)


def test_a_lost_device_is_named(machine: MachineTree) -> None:
    (machine.root / "sys/bus/pci/devices" / GPU / "config").write_bytes(ALL_ONES)
    assert iommu.snapshot(machine.root).paths[0].hops[0].lost
    assert f"{GPU}: config space reads all ones" in said(machine)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("dmar3", "vtd"),
        ("ivhd0", "amdvi"),
        ("smmu3.0x0000000009050000", "smmuv3"),
        ("smmu.0x0000000012c00000", "smmuv2"),
        ("virtio0", "virtio-iommu"),
        ("0000:00:02.0", "virtio-iommu"),
        ("new-thing", "unknown"),
    ],
)
def test_family(tmp_path: Path, name: str, family: str) -> None:
    tree = MachineTree(tmp_path)
    tree.iommu(name)
    assert iommu.snapshot(tmp_path).family == family


def test_no_iommu_although_firmware_offers_one(machine: MachineTree) -> None:
    (machine.root / "sys/firmware/acpi/tables/DMAR").touch()
    state = iommu.snapshot(machine.root)
    assert (state.family, state.tables) == ("none", ("DMAR",))
    assert "no IOMMU: /sys/class/iommu is empty; firmware offers VT-d (DMAR)" in said(machine)


def test_unreadable_group_type_and_command_line(machine: MachineTree) -> None:
    (machine.group(0, "DMA", GPU) / "type").unlink()
    (machine.root / "proc/cmdline").unlink()
    state = iommu.snapshot(machine.root)
    assert (state.groups[0].type, state.domain_types, state.command_line) == (None, (), None)
    assert "1 unreadable" in said(machine)
    assert "/proc/cmdline is unreadable" in said(machine)


def test_the_state_is_json(machine: MachineTree) -> None:
    machine.iommu("ivhd0", GPU)
    machine.group(1, "identity", GPU, reserved="nonsense\n")
    state = iommu.snapshot(machine.root)
    kept = json.loads(json.dumps(asdict(state)))
    assert kept["groups"][0]["type"] == "identity"
    assert kept["paths"][0]["hops"][1]["acs"]["control"] == ["SV", "RR", "CR", "UF"]


def test_an_empty_root(tmp_path: Path) -> None:
    state = iommu.snapshot(tmp_path)
    assert (state.family, state.groups, state.paths) == ("none", (), ())


def entries(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()} if Path(folder).exists() else set()


def test_this_machine() -> None:
    state = iommu.snapshot(Path("/"))
    assert (state.family == "none") == (not entries("/sys/class/iommu"))
    assert {str(group.number) for group in state.groups} == entries("/sys/kernel/iommu_groups")
    assert {path.endpoint for path in state.paths} <= entries("/sys/bus/pci/devices")
