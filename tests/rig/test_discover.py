"""The rig that is discovered, from real files of a sysfs tree and from what NVML may answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dmaproof.evidence.nvml_query import NvmlGpu, NvmlState, Unanswered
from dmaproof.pci import iommu, sysfs
from dmaproof.rig import load
from dmaproof.rig.discover import Discovery, describe, discover, gpus_in_use
from dmaproof.rig.model import Node
from tests.pci.machine_tree import MachineTree, gpu_config, port_config

A, B, C = "0000:17:00.0", "0000:65:00.0", "0001:01:00.0"
PORTS = {A: "0000:16:01.0", B: "0000:64:01.0", C: "0001:00:01.0"}
RESOURCE = "0xa0000000 0xa0ffffff 0x40200\n0x200000000000 0x201fffffffff 0x14220c\n0x0 0x0 0x0\n0x3000 0x307f 0x40101"
SILENT = Unanswered("no NVML: the NVIDIA driver is not loaded")
LINK = {
    "max_link_speed": "32.0 GT/s PCIe",
    "max_link_width": "16",
    "current_link_speed": "2.5 GT/s PCIe",
    "current_link_width": "16",
}


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    return MachineTree(tmp_path)


def add_gpu(machine: MachineTree, bdf: str, *, config: bytes | None = None, **files: str) -> Path:
    port = machine.port(PORTS[bdf], config=port_config())
    for name, value in {**LINK, "max_link_speed": "16.0 GT/s PCIe"}.items():
        (port / name).write_text(f"{value}\n")
    wanted = {"resource": RESOURCE, "numa_node": "1", **LINK, **files}
    return machine.function(bdf, under=PORTS[bdf], config=config or gpu_config(), **wanted)


def seen(machine: MachineTree, answer: NvmlState | Unanswered = SILENT) -> tuple[Node, str]:
    found = found_in(machine, answer)
    assert load.parse(load.dump(found.rig), "dumped") == found.rig
    return found.rig.node["host"], "\n".join(found.notes)


def found_in(machine: MachineTree, answer: NvmlState | Unanswered) -> Discovery:
    return describe(machine.root, sysfs.functions(machine.root), answer, iommu.snapshot(machine.root))


def nvml(*bdfs: str, links: int = 0, p2p: str = "ok", addressing: str | None = "hmm") -> NvmlState:
    gpus = tuple(
        NvmlGpu(
            index=index,
            bdf=bdf,
            uuid=f"GPU-{index}",
            name="NVIDIA H100 PCIe",
            memory_nbytes=85_520_809_984,
            compute_capability="9.0",
            nvlinks_active=links,
            addressing=addressing,
        )
        for index, bdf in enumerate(bdfs)
    )
    return NvmlState(
        driver_version="580.1",
        gpus=gpus,
        p2p_read=matrix(len(bdfs), p2p),
        p2p_write=matrix(len(bdfs), p2p),
        common_ancestor=matrix(len(bdfs), "system"),
    )


def matrix(count: int, value: str) -> tuple[tuple[str | None, ...], ...]:
    return tuple(tuple(None if a == b else value for b in range(count)) for a in range(count))


def test_this_very_machine() -> None:
    """What sysfs shows here, read a second way."""
    rig, notes = discover(Path("/"), {}, 30.0)
    gpus = [
        path.name
        for path in sorted(Path("/sys/bus/pci/devices").glob("*"))
        if (path / "vendor").read_text() == "0x10de\n" and (path / "class").read_text()[:6] in ("0x0300", "0x0302")
    ]
    node = rig.node["host"]
    assert (rig.id, rig.kind, rig.name) == ("host", "host", "host")
    assert [gpu.bdf for gpu in node.gpus] == gpus
    assert (node.iommu.family == "none") == (not any(Path("/sys/class/iommu").glob("*")))
    assert notes
    if not gpus:
        assert any("no NVIDIA GPU" in note for note in notes)
    assert load.parse(load.dump(rig), "dumped") == rig


def test_a_machine_without_pci_has_no_gpu(tmp_path: Path) -> None:
    rig, notes = discover(tmp_path, {}, 30.0)
    assert rig.node["host"].gpus == ()
    assert any("no NVIDIA GPU" in note for note in notes)


def test_gpus_are_numbered_by_address_and_described_from_sysfs(machine: MachineTree) -> None:
    for bdf in (C, B, A):
        add_gpu(machine, bdf)
    node, notes = seen(machine)
    assert [(gpu.name, gpu.bdf, gpu.port) for gpu in node.gpus] == [
        ("gpu0", A, PORTS[A]),
        ("gpu1", B, PORTS[B]),
        ("gpu2", C, PORTS[C]),
    ]
    gpu = node.gpus[0]
    assert gpu.numa_node == 1
    assert [(bar.index, bar.address, bar.nbytes) for bar in gpu.bars] == [
        (0, 0xA0000000, 0x1000000),
        (1, 0x200000000000, 0x2000000000),
    ]
    assert (gpu.uuid, gpu.nvlinks, node.addressing) == (None, None, "unknown")
    assert "NVML does not answer (no NVML: the NVIDIA driver is not loaded)" in notes


def test_the_link_declared_is_what_both_ends_can_train_not_what_is_trained_now(machine: MachineTree) -> None:
    add_gpu(machine, A)
    (gpu,) = seen(machine)[0].gpus
    assert gpu.pcie is not None
    assert (gpu.pcie.generation, gpu.pcie.width) == (4, 16)  # a gen5 GPU at 2.5 GT/s now, under a gen4 port


def test_only_display_and_3d_functions_of_nvidia_are_gpus(machine: MachineTree) -> None:
    add_gpu(machine, A, config=gpu_config(), **{"class": "0x030000"})
    machine.function("0000:17:00.1", under=PORTS[A], config=gpu_config(), **{"class": "0x040300"})  # its audio
    machine.function("0000:05:00.0", config=gpu_config(), vendor="0x1a03", **{"class": "0x030000"})  # the BMC's display
    machine.function("0000:06:00.0", config=gpu_config(), **{"class": "0x068000"})  # an NVSwitch
    assert [gpu.bdf for gpu in seen(machine)[0].gpus] == [A]


def test_gpus_given_to_guests_are_left_out_and_named(machine: MachineTree) -> None:
    add_gpu(machine, A)
    folder = add_gpu(machine, B)
    (folder / "driver").symlink_to("/sys/bus/pci/drivers/vfio-pci")
    virtual = machine.function("0000:65:00.4", under=PORTS[B], config=gpu_config())
    (virtual / "physfn").symlink_to(folder)
    node, notes = seen(machine)
    assert [gpu.bdf for gpu in node.gpus] == [A]
    assert f"bound to vfio-pci for a guest: {B}\n" in notes + "\n"


def driven(machine: MachineTree, bdf: str, minor: int | None) -> None:
    """A GPU bound to nvidia; with a ``minor``, the driver's own files show it."""
    (add_gpu(machine, bdf) / "driver").symlink_to("/sys/bus/pci/drivers/nvidia")
    if minor is not None:
        folder = machine.root / "proc/driver/nvidia/gpus" / bdf
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t NVIDIA H100\nDevice Minor: \t {minor}\n")


def in_use(machine: MachineTree) -> list[str]:
    """By both faces: they must never differ."""
    node, _ = seen(machine)
    assert gpus_in_use(machine.root, sysfs.functions(machine.root)) == tuple(gpu.bdf for gpu in node.gpus)
    return [gpu.bdf for gpu in node.gpus]


def test_a_container_has_the_gpus_whose_device_nodes_it_has(machine: MachineTree) -> None:
    for minor, bdf in enumerate((A, B, C)):
        driven(machine, bdf, minor)
    (machine.root / "dev").mkdir(exist_ok=True)
    (machine.root / "dev/nvidiactl").touch()
    assert in_use(machine) == [A, B, C]  # no node at all: a driver that nobody has used yet, or a dead one
    (machine.root / "dev/nvidia1").touch()
    assert in_use(machine) == [B]
    assert f"no device node here, as in a container that was not given it: {A}, {C}" in seen(machine)[1]


def test_a_gpu_whose_files_the_runtime_hides_is_another_containers(machine: MachineTree) -> None:
    driven(machine, A, None)
    assert in_use(machine) == [A]  # no folder of the driver at all: nothing to tell by
    driven(machine, B, 1)
    add_gpu(machine, C)  # bound to no driver: the driver's files cannot know it
    assert in_use(machine) == [B, C]
    assert f"not in /proc/driver/nvidia/gpus of this container: {A}" in seen(machine)[1]


def test_what_nvml_knows_is_declared(machine: MachineTree) -> None:
    add_gpu(machine, A)
    found = found_in(machine, nvml(A, links=18, addressing="ats"))
    node = found.rig.node["host"]
    (gpu,) = node.gpus
    assert (gpu.uuid, gpu.product, gpu.compute_capability) == ("GPU-0", "NVIDIA H100 PCIe", "9.0")
    assert (gpu.memory_nbytes, gpu.nvlinks, node.addressing) == (85_520_809_984, 18, "ats")
    assert found.rig.description == "1 x NVIDIA H100 PCIe"
    to_host = node.path_between("gpu0", "host")
    assert to_host is not None
    assert (to_host.kind, to_host.bandwidth_GBps) == ("c2c", None)


def test_a_gpu_that_nvml_misses_or_calls_lost_is_declared_still_and_noted(machine: MachineTree) -> None:
    add_gpu(machine, A)
    add_gpu(machine, B)
    lost = NvmlGpu(index=1, error="a GPU is lost: it has fallen off the bus or does not answer")
    state = nvml(A)
    node, notes = seen(machine, replace(state, gpus=(*state.gpus, lost), p2p_read=matrix(2, "ok")))
    assert [gpu.bdf for gpu in node.gpus] == [A, B]
    assert f"on the bus, but NVML does not list: {B}" in notes
    assert "GPU 1: a GPU is lost" in notes


@pytest.mark.parametrize(
    ("links", "p2p", "kind", "peer"),
    [
        (0, "ok", "pcie", True),
        (0, "chipset-not-supported", "pcie", False),
        (4, "ok", "nvlink", True),
        (4, "not-supported", "unknown", False),
    ],
)
def test_a_pair_of_gpus(machine: MachineTree, links: int, p2p: str, kind: str, peer: bool) -> None:
    add_gpu(machine, A)
    add_gpu(machine, B)
    path = seen(machine, nvml(A, B, links=links, p2p=p2p))[0].path_between("gpu0", "gpu1")
    assert path is not None
    assert (path.kind, path.peer) == (kind, peer)


def test_reads_alone_are_no_peer_access(machine: MachineTree) -> None:
    add_gpu(machine, A)
    add_gpu(machine, B)
    state = replace(nvml(A, B), p2p_write=((None, "not-supported"), ("ok", None)))
    node, _ = seen(machine, state)
    there, back = node.path_between("gpu0", "gpu1"), node.path_between("gpu1", "gpu0")
    assert there is not None
    assert back is not None
    assert (there.peer, back.peer) == (False, True)


def test_three_gpus_with_nvlinks_need_nvswitches_to_be_linked_each_with_each(machine: MachineTree) -> None:
    for bdf in (A, B, C):
        add_gpu(machine, bdf)
    answer = nvml(A, B, C, links=4)
    assert {path.kind for path in seen(machine, answer)[0].path} == {"local", "unknown", "pcie"}
    machine.function("0000:06:00.0", config=gpu_config(), **{"class": "0x068000"})
    node, _ = seen(machine, answer)
    assert all(
        path is not None and path.kind == "nvlink"
        for path in (node.path_between(f"gpu{a}", f"gpu{b}") for a in range(3) for b in range(3) if a != b)
    )


@pytest.mark.parametrize(
    ("types", "domain"),
    [
        (("DMA", "DMA-FQ"), "translated"),
        (("identity", "identity"), "passthrough"),
        (("DMA", "identity"), "unknown"),
        (("blocked", "blocked"), "unknown"),
    ],
)
def test_the_domain_is_that_of_the_gpus_groups(machine: MachineTree, types: tuple[str, str], domain: str) -> None:
    for bdf in (A, B):
        add_gpu(machine, bdf)
    machine.function("0000:05:00.0", config=gpu_config(), vendor="0x8086", **{"class": "0x020000"})
    machine.iommu("dmar0", A, B)
    machine.group(1, types[0], A)
    machine.group(2, types[1], B)
    machine.group(3, "identity" if types[0] == "DMA" else "DMA", "0000:05:00.0")  # a network card: another matter
    node, notes = seen(machine)
    assert (node.iommu.family, node.iommu.domain) == ("vtd", domain)
    assert ("IOMMU domain unknown" in notes) == (domain == "unknown")


def test_no_iommu_is_none_not_unknown(machine: MachineTree) -> None:
    add_gpu(machine, A)
    node, notes = seen(machine)
    assert (node.iommu.family, node.iommu.domain) == ("none", "none")
    assert "no IOMMU" in notes


def test_a_gpu_under_a_port_that_only_qemu_has_is_in_a_guest(machine: MachineTree) -> None:
    machine.function(PORTS[A], config=port_config(), vendor="0x1b36", device="0x000c", **{"class": "0x060400"})
    machine.function(A, under=PORTS[A], config=gpu_config())
    node, notes = seen(machine)
    assert node.role == "guest"
    assert "guest: every GPU looks passed through" in notes


def test_the_hypervisor_flag_alone_makes_no_guest(machine: MachineTree) -> None:
    add_gpu(machine, A)
    (machine.root / "proc/cpuinfo").write_text("flags\t\t: fpu vme hypervisor lm\n")
    node, notes = seen(machine)
    assert node.role == "host"
    assert "taken as a host" in notes


def test_a_gpu_on_a_root_bus_is_passed_through_only_under_a_hypervisor(machine: MachineTree) -> None:
    machine.function("0000:00:05.0", config=gpu_config())
    assert seen(machine)[0].role == "host"
    (machine.root / "proc/cpuinfo").write_text("flags\t\t: fpu vme hypervisor lm\n")
    assert seen(machine)[0].role == "guest"


def test_a_clique_is_declared_and_proves_a_guest(machine: MachineTree) -> None:
    config = bytearray(gpu_config())
    config[6] = 0x10
    config[0x41] = 0xC8  # behind PCI Express, QEMU's vendor-specific capability: clique 3
    config[0xC8:0xD0] = bytes([0x09, 0, 8]) + b"P2P" + bytes([3 << 3, 0])
    add_gpu(machine, A, config=bytes(config))
    node, _ = seen(machine)
    assert (node.gpus[0].clique, node.role) == (3, "guest")
