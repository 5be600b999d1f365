"""This machine as a rig, from sysfs and NVML, without CUDA: what it claims is what the machine itself says it has.

A discovered rig is a claim to hold later runs to (``dmaproof rigs host > bench.toml``): links are declared at the most
that both ends can train to, not at what power saving or a bad contact leaves of it right now. Bandwidth is not claimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dmaproof.evidence import nvml_query
from dmaproof.evidence.nvml_query import NvmlGpu, NvmlState, Unanswered
from dmaproof.pci import config, iommu, sysfs
from dmaproof.pci.iommu_state import IommuState
from dmaproof.pci.sysfs import PciFunction
from dmaproof.rig import switches
from dmaproof.rig.links import trainable
from dmaproof.rig.model import HOST, Rig
from dmaproof.rig.owner import NVIDIA, left_out, owned
from dmaproof.rig.paths import between

_OTHER_BRIDGE = 0x0680  # the class of NVSwitches
_VIRTUAL_BRIDGES = {0x1B36, 0x15AD}  # Red Hat (QEMU's ports) and VMware: no real machine has them
_MEMORY = 0x200  # IORESOURCE_MEM, include/linux/ioport.h
_DOMAINS = {"DMA": "translated", "DMA-FQ": "translated", "identity": "passthrough"}


class Discovery(NamedTuple):
    """The rig, and what a reader should know of how it was found: one sentence a note."""

    rig: Rig
    notes: tuple[str, ...]


def discover(root: Path, env: Mapping[str, str], deadline_s: float) -> Discovery:
    """The machine whose ``sys`` and ``proc`` lie under ``root``; NVML is asked in a process of its own with ``env``.

    GPUs are gpu0, gpu1, .. by address. What nobody answers is left out of the rig, and a note says so.
    """
    functions = sysfs.functions(root)
    answer = nvml_query.query(env, deadline_s)
    return describe(root, functions, answer, iommu.snapshot(root))


def describe(
    root: Path, functions: Sequence[PciFunction], answer: NvmlState | Unanswered, state: IommuState
) -> Discovery:
    """The rig that these three sources make together; ``root`` is only asked for configuration space and CPU flags."""
    known = {one.bdf: one for one in functions}
    owner = owned(root, functions)
    here = [known[bdf] for bdf, why in owner.items() if why is None]
    names = {one.bdf: f"gpu{number}" for number, one in enumerate(here)}
    cliques = {one.bdf: config.parse(config.read(root, one.bdf) or b"").clique for one in here}
    role, role_notes = _role(here, known, cliques, "hypervisor" in (sysfs.text(root / "proc/cpuinfo") or "").split())
    domain, domain_notes = _domain(state, set(names))
    nvml = answer if isinstance(answer, NvmlState) else None
    table = {
        "role": role,
        "addressing": _addressing(nvml, here),
        "iommu": {"family": state.family, "domain": domain},
        "gpu": {names[one.bdf]: _gpu(one, known, nvml, cliques[one.bdf]) for one in here},
        "switch": switches.above(root, known, (one.parent for one in here)),
        "path": between(names, nvml, nvswitch=any(_is_nvswitch(one) for one in functions)),
    }
    rig = Rig.model_validate({"name": HOST, "kind": HOST, "description": _described(nvml, here), "node": {HOST: table}})
    notes = (*_gpu_notes(owner, answer), *role_notes, *domain_notes, *state.summary)
    return Discovery(rig, notes)


def gpus_in_use(root: Path, functions: Sequence[PciFunction]) -> tuple[str, ...]:
    """The BDFs of the GPUs that this system can use itself: no functions for guests, none handed to VFIO, none that
    only the host of this container has."""
    return tuple(bdf for bdf, why in owned(root, functions).items() if why is None)


def _is_nvswitch(function: PciFunction) -> bool:
    return function.vendor == NVIDIA and function.class_code >> 8 == _OTHER_BRIDGE


def _gpu(
    function: PciFunction, known: Mapping[str, PciFunction], nvml: NvmlState | None, clique: object
) -> dict[str, Any]:
    seen = nvml.gpu(function.bdf) if nvml is not None else None
    above = known.get(function.parent) if function.parent is not None else None
    table = {
        "bdf": function.bdf,
        "port": function.parent,
        "numa_node": function.numa_node,
        "pcie": trainable(function, above) or _trainable_by_nvml(seen),
        "bars": [
            {"index": bar.index, "address": bar.address, "nbytes": bar.nbytes}
            for bar in function.bars or ()
            if bar.flags & _MEMORY and bar.address
        ],
        "clique": clique if isinstance(clique, int) else None,
        **(_from_nvml(seen) if seen is not None else {}),
    }
    return {key: value for key, value in table.items() if value is not None}


def _from_nvml(seen: NvmlGpu) -> dict[str, Any]:
    """NVLinks: those that are up. How many are wired no driver knows, so discovery cannot miss one that is down."""
    return {
        "uuid": seen.uuid,
        "product": seen.name,
        "compute_capability": seen.compute_capability,
        "memory_nbytes": seen.memory_nbytes,
        "nvlinks": seen.nvlinks_active,
    }


def _trainable_by_nvml(seen: NvmlGpu | None) -> dict[str, int] | None:
    """nvmlDeviceGetMaxPcieLinkGeneration, ..Width: of the GPU and its system together."""
    if seen is None or not seen.pcie_max_generation or not seen.pcie_max_width:
        return None
    return {"generation": seen.pcie_max_generation, "width": seen.pcie_max_width}


def _addressing(nvml: NvmlState | None, gpus: Sequence[PciFunction]) -> str:
    """One word for the node; GPUs that differ, or that NVML does not know, make it unknown."""
    seen = {one.addressing for gpu in gpus if nvml is not None and (one := nvml.gpu(gpu.bdf)) is not None}
    return seen.pop() or "unknown" if len(seen) == 1 else "unknown"


def _domain(state: IommuState, gpus: set[str]) -> tuple[str, list[str]]:
    """The default domain type of the GPUs' groups; of all groups where there is no GPU."""
    if state.family == "none" and not state.groups:
        return "none", []
    groups = [group for group in state.groups if not gpus or gpus & set(group.members)]
    kinds = {_DOMAINS.get(group.type or "", "unknown") for group in groups}
    if len(kinds) == 1 and kinds != {"unknown"}:
        return kinds.pop(), []
    told = ", ".join(f"group {group.number} is {group.type or 'unreadable'}" for group in groups[:8])
    whose = "the GPUs' groups" if gpus else "the groups"
    return "unknown", [f"IOMMU domain unknown: {whose} have no one type that is translated or passthrough ({told})"]


def _role(
    gpus: Sequence[PciFunction], known: Mapping[str, PciFunction], cliques: Mapping[str, object], hypervisor: bool
) -> tuple[str, list[str]]:
    """``guest`` only where it is sure. The CPU's hypervisor flag alone proves little: Xen's and Hyper-V's own hosts
    have it. A GPU under a hypervisor's bridge, with a clique, or (under the flag) under no bridge at all was passed on.
    """
    bridges = [known.get(one.parent or "") for one in gpus]
    passed = [
        isinstance(cliques.get(gpu.bdf), int)
        or (bridge.vendor in _VIRTUAL_BRIDGES if bridge is not None else hypervisor)
        for gpu, bridge in zip(gpus, bridges, strict=True)
    ]
    if passed and all(passed):
        return "guest", ["guest: every GPU looks passed through; IOMMU faults of its DMA are logged on the host only"]
    if hypervisor and gpus:
        return HOST, ["a hypervisor is under this kernel, but its GPUs do not all look passed through: taken as a host"]
    if hypervisor:
        return HOST, ["a hypervisor is under this kernel: IOMMU and ACS state of the real machine cannot be seen here"]
    return HOST, []


def _gpu_notes(owner: Mapping[str, str | None], answer: NvmlState | Unanswered) -> Iterable[str]:
    if not owner:
        yield f"no NVIDIA GPU among the PCI functions under /{sysfs.DEVICES}"
    yield from left_out(owner)
    if isinstance(answer, Unanswered):
        yield f"NVML does not answer ({answer.reason}): product, memory, NVLinks, peer access are unknown"
        return
    missing = [bdf for bdf, why in owner.items() if why is None and answer.gpu(bdf) is None]
    if missing:
        yield f"on the bus, but NVML does not list: {', '.join(missing)}"
    extra = [one.bdf or f"GPU {one.index}" for one in answer.gpus if one.bdf not in owner]
    if extra:
        yield f"NVML lists what is not on the bus: {', '.join(extra)}"
    yield from (f"NVML: {one.bdf or f'GPU {one.index}'}: {one.error}" for one in answer.gpus if one.error is not None)


def _described(nvml: NvmlState | None, gpus: Sequence[PciFunction]) -> str:
    """``2 x NVIDIA RTX A6000``, for people."""
    known = {one.bdf: one.name for one in nvml.gpus} if nvml is not None else {}
    products = Counter(known.get(one.bdf) or "NVIDIA GPU" for one in gpus)
    return ", ".join(f"{count} x {name}" for name, count in products.items()) or "no NVIDIA GPU"
