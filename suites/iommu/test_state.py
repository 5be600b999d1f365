"""The IOMMU as the rig declares it: domain types, groups, and what each endpoint's path says of ACS and ATS."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from dmaproof.pci import iommu
from dmaproof.pci.iommu_state import Hop
from dmaproof.rig.model import Node
from fixtures.ends import End
from fixtures.evidence import NoteEvidence
from fixtures.state import Run

TRANSLATED, PASSTHROUGH = {"DMA", "DMA-FQ"}, {"identity"}


def test_family(node_under_test: Node, node_root: Path, note_evidence: NoteEvidence) -> None:
    state = iommu.snapshot(node_root)
    note_evidence("iommu", "iommu-state", "; ".join(state.summary))
    assert state.family == node_under_test.iommu.family, "; ".join(state.summary)


def test_domain_type(node_under_test: Node, node_root: Path) -> None:
    """The default domain of every declared device's group; on a node without any, of every group there is."""
    declared = node_under_test.iommu.domain
    if declared == "unknown":
        pytest.skip("the rig declares no domain type")
    state = iommu.snapshot(node_root)
    bdfs = [*(gpu.bdf for gpu in node_under_test.gpus), *(one.bdf for one in node_under_test.endpoints)]
    types = {group.type for group in state.groups if not bdfs or set(bdfs) & set(group.members)}
    allowed = {"translated": TRANSLATED, "passthrough": PASSTHROUGH, "none": set[str]()}[declared]
    unreadable = {kind for kind in types if kind is None}
    assert types - unreadable <= allowed, f"rig declares {declared}, groups are {sorted(map(str, types))}"
    assert bool(types) == (declared != "none"), f"rig declares {declared}, the node has {len(state.groups)} groups"


@pytest.mark.requires(gpus=1)
def test_gpu_is_alone_in_its_group(gpu: End, run: Run) -> None:
    """Devices that share a group can reach each other unseen by the IOMMU. Bridges and the GPU's own functions may."""
    state = iommu.snapshot(run.nodes[gpu.node.name].root)
    group = next((one for one in state.groups if gpu.gpu.bdf in one.members), None)
    if group is None:
        pytest.skip("no IOMMU group: no IOMMU is active")
    own = gpu.gpu.bdf.rpartition(".")[0]
    strangers = [bdf for bdf in group.endpoints if bdf.rpartition(".")[0] != own]
    assert strangers == [], f"group {group.number} also holds {', '.join(strangers)}"


def test_every_path_is_readable(node_root: Path, note_evidence: NoteEvidence) -> None:
    """ACS and ATS of every function of every endpoint's path are kept as evidence: GPUs, NICs, drives alike."""
    state = iommu.snapshot(node_root)
    keep_or_skip({hop.bdf: hop for path in state.paths for hop in path.hops}.values(), note_evidence)


@pytest.mark.catches("acs")
@pytest.mark.requires(gpus=1)
def test_gpu_path_is_readable(gpu: End, run: Run, note_evidence: NoteEvidence) -> None:
    """ACS and ATS of every function from the GPU up to its root port: kept as evidence; unreadable is said."""
    state = iommu.snapshot(run.nodes[gpu.node.name].root)
    path = next((one for one in state.paths if one.endpoint == gpu.gpu.bdf), None)
    assert path is not None, f"{gpu.gpu.bdf} is not on the bus"
    keep_or_skip(path.hops, note_evidence)


def keep_or_skip(hops: Collection[Hop], note_evidence: NoteEvidence) -> None:
    """Keep what each function says; skip, with the reason, where some of them may not be read."""
    for hop in hops:
        note_evidence("pci", "pci-path", f"{hop.bdf}: ACS {hop.acs_text}, ATS {hop.ats_text}")
    unread = [hop.bdf for hop in hops if not hop.readable]
    if unread:
        pytest.skip(f"config space of {', '.join(unread)} unreadable beyond 64 bytes (needs root): ACS and ATS unknown")
