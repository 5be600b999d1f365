"""What doctor makes of machines other than this one: roots with what they would show."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dmaproof.rig.doctor import Row, examine
from tests.pci.machine_tree import MachineTree, gpu_config


def rows(root: Path, deadline_s: float = 20.0) -> dict[str, Row]:
    return {row.subject: row for row in examine(root, {}, deadline_s)}


def test_an_empty_root_lacks_its_devices_and_says_how_to_get_them(tmp_path: Path) -> None:
    found = rows(tmp_path)
    assert {subject: found[subject].state for subject in ("/dev/kmsg", "FUSE", "KVM", "GPUs")} == {
        "/dev/kmsg": "missing",
        "FUSE": "missing",
        "KVM": "missing",
        "GPUs": "missing",
    }
    assert found["/dev/kmsg"].supply == "sudo mknod -m 644 /dev/kmsg c 1 11"
    assert found["FUSE"].supply == "sudo modprobe fuse"
    assert found["KVM"].supply == "sudo modprobe kvm_intel"
    assert found["KVM"].detail.startswith("No such file or directory")
    assert found["PCI config space"].state == "unknown"


def test_the_module_of_kvm_is_the_cpus(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    assert rows(tmp_path)["KVM"].supply == "sudo modprobe kvm_amd"


def test_config_space_of_64_bytes_is_missing_however_much_there_is(tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    machine.function("0000:01:00.0", config=gpu_config())
    assert rows(tmp_path)["PCI config space"].state == "ok"
    machine.function("0000:02:00.0", config=gpu_config()[:64])
    row = rows(tmp_path)["PCI config space"]
    assert (row.state, row.detail) == ("missing", "64 bytes or less of 1 of 2 functions")


@pytest.mark.parametrize(
    ("table", "supply"), [("DMAR", "intel_iommu=on"), ("IVRS", "amd_iommu=on"), ("APIC", "firmware's setup")]
)
def test_how_to_turn_an_iommu_on_depends_on_what_firmware_offers(table: str, supply: str, tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    (tmp_path / "sys/firmware/acpi/tables" / table).touch()
    row = rows(tmp_path)["IOMMU"]
    assert row.state == "missing"
    assert supply in row.supply
    machine.function("0000:01:00.0", config=gpu_config())
    machine.iommu("dmar0", "0000:01:00.0")
    assert rows(tmp_path)["IOMMU"].state == "ok"


def test_a_gpu_without_a_driver_gets_the_command_of_its_distribution(tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    machine.function("0000:01:00.0", config=gpu_config())
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Ubuntu"\nID=ubuntu\n')
    row = rows(tmp_path)["NVIDIA driver"]
    if row.state == "ok":
        pytest.skip("this machine has the driver")
    assert "ubuntu-drivers install" in row.supply
    (tmp_path / "etc/os-release").write_text("ID=debian\n")
    assert rows(tmp_path)["NVIDIA driver"].supply == "sudo apt-get install -y nvidia-driver"


def test_a_probe_that_hangs_costs_its_deadline_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cc = tmp_path / "cc"
    cc.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    cc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    started = time.monotonic()
    row = rows(tmp_path, deadline_s=2.0)["C compiler"]
    assert time.monotonic() - started < 15
    assert row.state == "missing"
    assert "timed out after" in row.detail
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
