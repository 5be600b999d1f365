"""The machine's files, read as a monitor reads a kernel's."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dmaproof.rig.hardware import Iommu
from dmaproof.rig.load import load, profile_ids
from dmaproof.virtual.machine.config_space import config_space
from dmaproof.virtual.machine.topology import functions

VIRTUAL = [word for word in profile_ids() if word.startswith("virtual:")]


def capabilities(config: bytes) -> dict[int, bytes]:
    """Capabilities by id, extended ones by id | 0x1000; each from its header on."""
    found, offset = {}, config[0x34]
    while offset:
        found[config[offset]] = config[offset:256]
        offset = config[offset + 1]
    offset = 0x100
    while offset:
        (word,) = struct.unpack_from("<I", config, offset)
        if word:
            found[word & 0xFFFF | 0x1000] = config[offset:]
        offset = word >> 20
    return found


@pytest.mark.parametrize("word", VIRTUAL)
def test_every_link_leads_somewhere_and_every_function_is_whole(word, boot) -> None:
    node, rig = boot(word), load(word).nodes[0]
    for folder, _, files in os.walk(node.root, followlinks=False):
        for name in files:
            path = Path(folder, name)
            assert not path.is_symlink() or path.exists(), path
    devices = node.root / "sys/bus/pci/devices"
    assert {gpu.bdf for gpu in rig.gpus} < {one.name for one in devices.iterdir()}
    for gpu in rig.gpus:
        device, config = devices / gpu.bdf, (devices / gpu.bdf / "config").read_bytes()
        assert len(config) == 4096
        assert f"{int.from_bytes(config[:2], 'little'):#06x}\n" == (device / "vendor").read_text() == "0x10de\n"
        assert (device / "class").read_text() in ("0x030200\n", "0x030000\n")
        assert device.resolve().parent.name == gpu.port
        assert (device / "driver").resolve().name == "nvidia"
        assert (device / "numa_node").read_text() == f"{gpu.numa_node}\n"


@pytest.mark.parametrize("word", VIRTUAL)
def test_links_are_trained_and_bars_are_where_the_rig_says(word, boot) -> None:
    node, rig = boot(word), load(word).nodes[0]
    for gpu in rig.gpus:
        device = node.root / "sys/bus/pci/devices" / gpu.bdf
        config = (device / "config").read_bytes()
        (status,) = struct.unpack_from("<H", capabilities(config)[0x10], 0x12)
        assert (status & 0xF, status >> 4 & 0x3F) == (gpu.pcie.generation, gpu.pcie.width)
        assert (device / "current_link_width").read_text() == f"{gpu.pcie.width}\n"
        rows = [[int(number, 16) for number in row.split()] for row in (device / "resource").read_text().splitlines()]
        assert len(rows) == 13
        for bar in gpu.bars:
            assert rows[bar.index][:2] == [bar.address, bar.address + bar.nbytes - 1]
            low, high = struct.unpack_from("<II", config, 0x10 + 4 * bar.index)
            assert low & ~0xF | (high << 32 if low & 4 else 0) == bar.address
        bridge = (device.resolve().parent / "resource").read_text().splitlines()
        start, end, _ = (int(number, 16) for number in bridge[15].split())
        assert all(start <= bar.address < end for bar in gpu.bars if bar.index)


@pytest.mark.parametrize(
    ("word", "ctrl"),
    [("virtual:pcie-pair", 0x1D), ("virtual:pcie-pair-pt", 0x1D), ("virtual:gh200", 0x1D), ("virtual:guest-pair", 0)],
)
def test_ports_isolate_as_a_kernel_with_an_iommu_sets_them(word, ctrl, boot) -> None:
    node, rig = boot(word), load(word).nodes[0]
    for gpu in rig.gpus:
        port = capabilities((node.root / "sys/bus/pci/devices" / gpu.port / "config").read_bytes())
        assert struct.unpack_from("<HH", port[0x100D], 4) == (0x1F, ctrl)


def test_ats_is_on_where_the_rig_has_it_and_absent_elsewhere(boot, tmp_path) -> None:
    ats = capabilities((boot("virtual:gh200").root / "sys/bus/pci/devices/0009:01:00.0/config").read_bytes())
    assert struct.unpack_from("<H", ats[0x100F], 6)[0] & 0x8000
    other = boot("virtual:hgx-h100", workdir=tmp_path / "other")
    assert 0x100F not in capabilities((other.root / "sys/bus/pci/devices/0000:1b:00.0/config").read_bytes())


def test_a_clique_is_a_vendor_capability_at_the_place_that_qemu_gives_it() -> None:
    node = load("virtual:guest-pair").nodes[0]
    one = next(one for one in functions(node) if one.gpu)
    config = config_space(replace(one, gpu=one.gpu.model_copy(update={"clique": 5})))
    assert config[0xC8:0xD0] == bytes([0x09, 0, 8, *b"P2P", 5 << 3, 0])
    assert capabilities(config)[0x09][:2] == bytes([0x09, 0])


@pytest.mark.parametrize(
    ("word", "kind", "parameters", "said"),
    [
        ("virtual:pcie-pair", "DMA-FQ", "intel_iommu=on", "iommu: Default domain type: Translated"),
        (
            "virtual:hgx-h100",
            "identity",
            "intel_iommu=on iommu=pt",
            "iommu: Default domain type: Passthrough (set via kernel command line)",
        ),
        ("virtual:gh200", "DMA", "iommu.passthrough=0", "iommu: Default domain type: Translated"),
    ],
)
def test_groups_command_line_and_log_agree(word, kind, parameters, said, boot, log) -> None:
    node, rig = boot(word), load(word).nodes[0]
    groups = node.root / "sys/kernel/iommu_groups"
    assert {(one / "type").read_text() for one in groups.iterdir()} == {f"{kind}\n"}
    for gpu in rig.gpus:
        group = (node.root / "sys/bus/pci/devices" / gpu.bdf / "iommu_group").resolve()
        assert group.parent == groups.resolve()
        assert [one.name for one in (group / "devices").iterdir()] == [gpu.bdf]
    assert (node.root / "proc/cmdline").read_text().endswith(f" {parameters}\n")
    assert said in log(node)
    assert len(list((node.root / "sys/class/iommu").iterdir())) > 0
    for table in (node.root / "sys/firmware/acpi/tables").iterdir():
        content = table.read_bytes()
        assert content[:4].decode() == table.name
        assert struct.unpack_from("<I", content, 4)[0] == len(content)
        assert sum(content) & 0xFF == 0


def test_a_guest_has_no_iommu(boot) -> None:
    root = boot("virtual:guest-pair").root
    assert list((root / "sys/kernel/iommu_groups").iterdir()) == list((root / "sys/class/iommu").iterdir()) == []
    assert not (root / "sys/firmware/acpi/tables").exists()
    assert not (root / "sys/bus/pci/devices/0000:01:00.0/iommu_group").exists()


def test_drivers_folders_are_as_their_modules_make_them(boot) -> None:
    root = boot("virtual:pcie-pair").root
    uvm = root / "proc/driver/nvidia-uvm/gpus"
    uuids = [f"4d6f6f66-0000-4000-8000-0000000000{bus}" for bus in ("04", "82")]
    assert sorted(one.name for one in uvm.iterdir()) == sorted(
        [*(f"GPU-{one}" for one in uuids), *(f"GI-{one}" for one in uuids), "1", "9"]
    )
    assert (uvm / "9").resolve() == (uvm / f"GPU-{uuids[1]}" / "0").resolve()
    information = (root / "proc/driver/nvidia/gpus/0000:82:00.0/information").read_text()
    assert f"Model: \t\t NVIDIA RTX A6000\nIRQ:   \t\t 65\nGPU UUID: \t GPU-{uuids[1]}\n" in information
    assert "NVIDIA UNIX Open Kernel Module for x86_64  595." in (root / "proc/driver/nvidia/version").read_text()
    assert (root / "run/lock").stat().st_mode & 0o777 == 0o777
    assert load(str(root / "run/rig.toml")) == load("virtual:pcie-pair")


def test_kernel_log_records_are_those_of_dev_kmsg(boot) -> None:
    before = time.monotonic()
    lines = (boot("virtual:pcie-pair").root / "dev/kmsg").read_text().splitlines()
    records = [line.partition(";") for line in lines if not line.startswith(" ")]
    fields = [head.split(",") for head, _, _ in records]
    assert [int(seq) for _, seq, _, _ in fields] == list(range(len(fields)))
    times = [int(usec) / 1e6 for _, _, usec, _ in fields]
    assert before < times[0] <= times[-1] < time.monotonic()  # CLOCK_MONOTONIC, as a monitor's own
    about = lines.index(" DEVICE=+pci:0000:82:00.0")
    assert lines[about - 1] == " SUBSYSTEM=pci"
    assert ";pci 0000:82:00.0: [10de:2230]" in lines[about - 2]


@pytest.mark.parametrize("family", ["amdvi", "smmuv3", "smmuv2", "virtio-iommu", "vtd"])
@pytest.mark.parametrize("domain", ["translated", "passthrough", "none"])
def test_every_iommu_that_a_rig_can_declare_boots_and_shows(family, domain, boot, dial) -> None:
    rig = load("virtual:pcie-pair")
    node = rig.nodes[0].model_copy(update={"iommu": Iommu(family=family, domain=domain)})
    machine = boot(rig.model_copy(update={"node": {"host": node}}))
    kinds = {(one / "type").read_text().strip() for one in (machine.root / "sys/kernel/iommu_groups").iterdir()}
    assert kinds <= {"translated": {"DMA", "DMA-FQ"}, "passthrough": {"identity"}, "none": set()}[domain]
    assert bool(kinds) == bool(list((machine.root / "sys/class/iommu").iterdir())) == (domain != "none")
    names = {"amdvi": "IVRS", "vtd": "DMAR", "virtio-iommu": "VIOT"}
    assert (machine.root / "sys/firmware/acpi/tables" / names.get(family, "IORT")).is_file()
    assert dial(machine).dma("0000:04:00.0", "0000:82:00.0") == "lands"
