"""What the rig declares is what the machine has: a difference here explains many failures elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.cuda.device import addressing
from dmaproof.evidence.fact import AddressingSeen
from dmaproof.evidence.fact_text import told
from dmaproof.evidence.nvml_query import NvmlState
from dmaproof.pci import config, sysfs, tree
from dmaproof.rig.discover import gpus_in_use
from dmaproof.rig.identity import mismatch
from dmaproof.rig.links import trainable
from dmaproof.rig.model import Node
from fixtures.ends import End, Engine
from fixtures.evidence import NoteFact
from fixtures.state import Run
from fixtures.worker import Bench


def test_no_gpu_is_undeclared(node_under_test: Node, node_root: Path) -> None:
    present = set(gpus_in_use(node_root, sysfs.functions(node_root)))
    declared = {gpu.bdf for gpu in node_under_test.gpus}
    assert present - declared == set(), "the machine has GPUs that the rig does not declare"
    assert declared - present == set(), "the rig declares GPUs that are not on the machine's bus"


@pytest.mark.requires(gpus=1)
def test_gpu_answers_on_the_bus(gpu: End, run: Run) -> None:
    root = run.nodes[gpu.node.name].root
    state = config.state(root, gpu.gpu.bdf)
    assert state not in ("lost", "absent"), f"{gpu.gpu.name} at {gpu.gpu.bdf}: configuration space is {state}"
    if gpu.gpu.port is not None:
        assert gpu.gpu.port in tree.upstream(sysfs.functions(root), gpu.gpu.bdf), "the GPU is under another port"


def test_switches_are_where_they_are_declared(node_under_test: Node, node_root: Path) -> None:
    if not node_under_test.switch:
        pytest.skip("the rig declares no switch")
    above = {one.bdf: one.parent for one in sysfs.functions(node_root)}
    for switch in node_under_test.switch.values():
        for bdf, port in ((switch.upstream, switch.port), *((port, switch.upstream) for port in switch.downstream)):
            assert bdf in above, f"{switch.name}: {bdf} is not on the bus"
            assert above[bdf] == port, f"{switch.name}: {bdf} is under {above[bdf]}, not {port}"


def test_endpoint_is_what_it_is_declared_to_be(endpoint: Engine, run: Run) -> None:
    """A DMA engine without CUDA: of its kind, under its port, on its NUMA node, with its buffer."""
    declared, root = endpoint.endpoint, run.nodes[endpoint.node.name].root
    functions = sysfs.functions(root)
    function = next((one for one in functions if one.bdf == declared.bdf), None)
    assert function is not None, f"{declared.name}: {declared.bdf} is not on the bus"
    assert mismatch(function, declared.kind) is None, mismatch(function, declared.kind)
    above = tree.upstream(functions, declared.bdf)
    assert declared.port in above, f"{declared.name} is under {', '.join(above) or 'no port'}, not {declared.port}"
    assert declared.numa_node in (None, function.numa_node), f"{declared.bdf} is on NUMA node {function.numa_node}"
    if declared.cmb_nbytes is not None:
        nbytes = {bar.nbytes for bar in function.bars or ()}
        assert declared.cmb_nbytes in nbytes, f"{declared.bdf} has no BAR of {declared.cmb_nbytes} bytes: {nbytes}"


@pytest.mark.catches("links_down")
@pytest.mark.requires(gpus=1)
def test_links_are_trained(gpu: End, run: Run, nvml: NvmlState) -> None:
    """The width must be trained now. The rate may rest lower (power saving); both ends must offer the declared one."""
    declared = gpu.gpu
    functions = {one.bdf: one for one in sysfs.functions(run.nodes[gpu.node.name].root)}
    function = functions.get(declared.bdf)
    assert function is not None, f"{declared.bdf} is not on the bus"
    if declared.pcie is not None and function.link is not None:
        assert function.link.current_width == declared.pcie.width, "PCIe lanes are down"
        offered = trainable(function, functions.get(function.parent or ""))
        assert offered is None or offered["generation"] == declared.pcie.generation, (
            "another PCIe generation is offered"
        )
    seen = nvml.gpu(declared.bdf)
    assert seen is not None, f"NVML does not list {declared.bdf}"
    if declared.nvlinks is not None:
        assert seen.nvlinks_active == declared.nvlinks, "NVLinks are down"


@pytest.mark.requires(gpus=1)
def test_identity(gpu: End, nvml: NvmlState) -> None:
    seen = nvml.gpu(gpu.gpu.bdf)
    assert seen is not None, f"NVML does not list {gpu.gpu.bdf}"
    declared = gpu.gpu
    for name, wanted, found in (
        ("UUID", declared.uuid, seen.uuid),
        ("product", declared.product, seen.name),
        ("compute capability", declared.compute_capability, seen.compute_capability),
        ("memory", declared.memory_nbytes, seen.memory_nbytes),
    ):
        assert wanted is None or wanted == found, f"{name}: the rig declares {wanted}, NVML says {found}"


@pytest.mark.requires(gpus=1)
def test_addressing_mode(gpu: End, nvml: NvmlState, worker: Bench, note_fact: NoteFact) -> None:
    """By the device attributes that programs look at, and by NVML where it answers."""
    declared = gpu.node.addressing
    if declared == "unknown":
        pytest.skip("the rig declares no addressing mode")
    found = worker.run(addressing, gpu=gpu.gpu.bdf)
    seen = nvml.gpu(gpu.gpu.bdf)
    by_nvml = seen.addressing if seen is not None else None
    fact = AddressingSeen(bdf=gpu.gpu.bdf, declared=declared, by_attributes=found.mode, by_nvml=by_nvml)
    note_fact("addressing", told(fact), fact)
    assert found.mode == declared, f"the rig declares {declared}, the device attributes say {found.mode}"
    assert by_nvml in (None, declared), f"the rig declares {declared}, NVML says {by_nvml}"
