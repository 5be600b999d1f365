"""Rigs of kind host, and what ``--rig=auto`` chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.errors import RigError, UsageError
from dmaproof.evidence import nvml_query
from dmaproof.evidence.nvml_query import NvmlState
from dmaproof.pci import sysfs
from dmaproof.rig import load
from dmaproof.rig.discover import gpus_in_use
from dmaproof.rig.host import provision, resolve
from tests.pci.machine_tree import MachineTree, gpu_config

HOST_RIG = 'name = "bench"\nkind = "host"\n[node.host]\n'


def test_the_one_node_is_this_machine(tmp_path: Path) -> None:
    with provision(load.parse(HOST_RIG, "bench"), tmp_path, ()) as nodes:
        (node,) = nodes.values()
        assert list(nodes) == [node.name] == ["host"]
        assert node.root == Path("/")
        assert node.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert list(tmp_path.iterdir()) == []


def test_no_defect_can_be_planted_in_a_real_machine(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="--plant=gpu-lost needs a virtual rig"),
        provision(load.parse(HOST_RIG, "bench"), tmp_path, ("gpu-lost",)),
    ):
        pytest.fail("provisioned")


def test_two_nodes_are_not_this_one_machine(tmp_path: Path) -> None:
    with (
        pytest.raises(RigError, match=r"declares 2 nodes \(host, other\)"),
        provision(load.parse(HOST_RIG + "[node.other]\n", "bench"), tmp_path),
    ):
        pytest.fail("provisioned")


def test_auto_says_what_it_chose_and_why() -> None:
    rig, notes = resolve("auto")
    answer = nvml_query.query({}, 30.0)
    if isinstance(answer, NvmlState) and answer.gpus:
        assert rig.id == "host"
        assert notes[0].startswith("rig host: the NVIDIA driver answers with")
    elif gpus_in_use(Path("/"), sysfs.functions(Path("/"))):
        assert rig.id == "host"
    else:
        assert rig == load.load("virtual:hgx-h100")
        (note,) = notes
        assert note.startswith("rig virtual:hgx-h100: ")
        assert "no real GPU is tested" in note


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    if isinstance(nvml_query.query({}, 30.0), NvmlState):
        pytest.skip("NVML answers here: these are machines whose driver is dead")
    return MachineTree(tmp_path)


@pytest.mark.parametrize("driver", [None, "nvidia", "nouveau"])
def test_auto_takes_a_machine_whose_gpus_have_a_dead_driver(machine: MachineTree, driver: str | None) -> None:
    folder = machine.function("0000:17:00.0", config=gpu_config())
    if driver is not None:
        (folder / "driver").symlink_to(f"/sys/bus/pci/drivers/{driver}")
    rig, notes = resolve("auto", root=machine.root)
    assert rig.id == "host"
    assert [gpu.bdf for gpu in rig.node["host"].gpus] == ["0000:17:00.0"]
    assert notes[0].startswith("rig host: the PCI bus has NVIDIA GPUs (1), though NVML does not answer")


def test_auto_is_virtual_where_every_gpu_is_a_guests(machine: MachineTree) -> None:
    folder = machine.function("0000:17:00.0", config=gpu_config())
    (folder / "driver").symlink_to("/sys/bus/pci/drivers/vfio-pci")
    rig, (note,) = resolve("auto", root=machine.root)
    assert rig.id == "virtual:hgx-h100"
    assert "bound to vfio-pci for a guest: 0000:17:00.0" in note


def test_auto_is_virtual_without_an_nvidia_gpu(machine: MachineTree) -> None:
    machine.function("0000:05:00.0", config=gpu_config(), vendor="0x1a03", **{"class": "0x030000"})
    assert resolve("auto", root=machine.root).rig.id == "virtual:hgx-h100"


def test_anything_else_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "bench.toml"
    file.write_text(HOST_RIG)
    assert resolve(str(file)).rig.id == "host:bench"
    assert resolve("virtual:gh200") == (load.load("virtual:gh200"), ())
    with pytest.raises(RigError, match=r"did you mean 'host'\?"):
        resolve("hos")
