"""IOMMU groups and reserved regions of endpoints: as the kernel's own rule makes them of what the ports say."""

from __future__ import annotations

import pytest

from dmaproof.pci import grouping, iommu, route
from dmaproof.pci.iommu_state import Group
from fixtures.ends import Engine
from fixtures.state import Run

_APIC = (0xFEE00000, 0xFEEFFFFF)
"""Where a PC's devices write their interrupts: all of its IOMMUs take these for messages, never for memory."""
_SOFTWARE = (0x08000000, 0x080FFFFF)
"""MSI_IOVA_BASE and _LENGTH of drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c: where the doorbell is mapped."""
_MESSAGES = {"vtd": _APIC, "amdvi": _APIC, "virtio-iommu": _APIC, "smmuv3": _SOFTWARE}


@pytest.fixture
def group(endpoint: Engine, run: Run) -> Group:
    """The endpoint's."""
    groups = iommu.groups(run.nodes[endpoint.node.name].root)
    found = next((one for one in groups if endpoint.endpoint.bdf in one.members), None)
    if found is None and endpoint.node.iommu.family == "none":
        pytest.skip("the rig declares no IOMMU: there are no groups")
    assert found is not None, f"{endpoint.endpoint.bdf} is in none of {len(groups)} groups"
    return found


def test_group_is_what_its_ports_make_it(endpoint: Engine, group: Group, run: Run) -> None:
    topology = route.look(run.nodes[endpoint.node.name].root)
    bdf = endpoint.endpoint.bdf
    predicted = grouping.predict(topology).get(bdf)
    if predicted is None:
        pytest.skip(f"the way up from {bdf} is not readable beyond 64 bytes of config space: needs root")
    together, alone = set(group.members) - predicted, predicted - set(group.members)
    assert not together, f"group {group.number} also holds {', '.join(sorted(together))}, isolated from {bdf} by ports"
    unsure = grouping.without_acs(topology, bdf)
    if alone and unsure and endpoint.node.qemu is None:
        pytest.skip(f"the kernel isolates {bdf} further: it may know more of {', '.join(unsure)} than they say")
    assert not alone, f"group {group.number} lacks {', '.join(sorted(alone))}, which nothing isolates from {bdf}"


def test_interrupt_messages_are_reserved(endpoint: Engine, group: Group) -> None:
    """DMA to there would be an interrupt, or hit the doorbell: the kernel must say so to whoever maps."""
    if group.reserved is None:
        pytest.skip(f"reserved regions of group {group.number} are not readable")
    family = endpoint.node.iommu.family
    if family not in _MESSAGES:
        pytest.skip(f"where a {family} IOMMU has its messages is not known")
    found = [(one.first, one.last) for one in group.reserved if one.type == "msi"]
    assert found == [_MESSAGES[family]], f"regions of type msi: {[f'{first:#x}-{last:#x}' for first, last in found]}"
