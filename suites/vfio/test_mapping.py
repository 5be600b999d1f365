"""Mappings of memory by both interfaces: DMA reaches what is mapped and nothing else, and the uAPI's rules hold."""

from __future__ import annotations

import pytest

from dmaproof.endpoint.assigned.mapping import Case, dma_lands, dma_misses
from dmaproof.endpoint.assigned.rules import Rules, map_rules
from dmaproof.vfio.space import Backend
from fixtures import refusals
from fixtures.ends import Engine
from fixtures.evidence import Expectations
from fixtures.offers import claimed
from fixtures.refusals import Refusal
from fixtures.state import Run
from fixtures.vfio import NEEDS, check_fault, need_iommu
from fixtures.worker import Bench

pytestmark = pytest.mark.requires(kind="edu")
BACKENDS = pytest.mark.parametrize("backend", ["type1", "type1v2", "iommufd"])


@BACKENDS
def test_dma_lands(endpoint: Engine, backend: Backend, worker: Bench) -> None:
    need_iommu(endpoint.node)
    with claimed(endpoint.node, *NEEDS[backend]):
        landed = worker.run(dma_lands, bdf=endpoint.endpoint.bdf, backend=backend)
    assert landed.wrote, "memory does not hold what the engine wrote through its mapping"
    assert landed.read, "the engine did not get what memory holds"


# Each fault costs a third of what the kernel prints in 5 s, so not every case is tried by each interface: the tables
# under both are the same. What each does itself is to take a mapping away.
@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize(
    ("backend", "case"),
    [
        ("type1v2", "after-unmap"),
        ("iommufd", "after-unmap"),
        ("iommufd", "write-outside"),
        ("type1v2", "read-outside"),
        ("iommufd", "beyond-end"),
        ("type1v2", "write-to-read-only"),
    ],
)
def test_dma_misses(
    endpoint: Engine, backend: Backend, case: Case, worker: Bench, evidence: Expectations, run: Run
) -> None:
    """What is not mapped is neither written nor read, and the kernel says who wanted to go where."""
    node, bdf = endpoint.node, endpoint.endpoint.bdf
    need_iommu(node)
    refusals.expect(evidence, node, bdf, "read" if case == "read-outside" else "write")
    with claimed(node, *NEEDS[backend]):
        missed = worker.run(dma_misses, bdf=bdf, backend=backend, case=case)
    stale = " by a translation that is no more" if case == "after-unmap" else ""
    assert missed.touched == 0, f"a {missed.access} at {missed.address:#x} reached {missed.touched} bytes{stale}"
    assert missed.reachable in (True, None), "the DMA that is allowed did not land either"
    check_fault(evidence, node, run, Refusal(bdf, missed.access, missed.address, missed.nbytes))


@BACKENDS
def test_map_rules(endpoint: Engine, backend: Backend, worker: Bench) -> None:
    """What drivers/vfio/vfio_iommu_type1.c and drivers/iommu/iommufd/io_pagetable.c refuse, and with which errno."""
    need_iommu(endpoint.node)
    with claimed(endpoint.node, *NEEDS[backend]):
        rules = worker.run(map_rules, bdf=endpoint.endpoint.bdf, backend=backend)
    told = {one.question: one.error if one.error else one.nbytes for one in rules.answers}
    wanted = {**MAPS, **UNMAPS[backend]}
    wrong = {question: (told.get(question), answers) for question, answers in wanted.items() if question in told}
    wrong = {question: pair for question, pair in wrong.items() if pair[0] not in pair[1]}
    assert not wrong, "; ".join(f"{question}: {was}, not {allowed}" for question, (was, allowed) in wrong.items())
    _check_ranges(rules)


def _check_ranges(rules: Rules) -> None:
    """In order, whole pages, and apart: what lies between two of them is reserved."""
    assert rules.ranges, "the kernel does not say which IOVAs may be mapped"
    for one, following in zip(rules.ranges, rules.ranges[1:], strict=False):
        assert one.first <= one.last < following.first
    assert all(one.first % 4096 == 0 and (one.last + 1) % 4096 == 0 for one in rules.ranges)


PAGE = 4096
MAPS: dict[str, tuple[str | int | None, ...]] = {
    "map": (None,),
    "map what is mapped": ("EEXIST",),
    "map across what is mapped": ("EEXIST",),
    "map nothing": ("EINVAL",),
    "map half a page": ("EINVAL",),
    "map at half a page": ("EINVAL",),
    "map past the end of addresses": ("EOVERFLOW", "EINVAL"),
    "map memory that is not there": ("EFAULT",),
    "map without any access": ("EINVAL",),
    "map the last page": (None,),
    "map a reserved page": ("EINVAL",),
    "unmap": (PAGE,),
    "unmap the last page": (PAGE,),
}
UNMAPS: dict[Backend, dict[str, tuple[str | int | None, ...]]] = {
    # the first type1 unmaps the whole mapping that a part belongs to, and says so
    "type1": {
        "unmap part of a mapping": (2 * PAGE,),
        "unmap two mappings at once": (PAGE,),
        "unmap what is not mapped": (0,),
    },
    "type1v2": {
        "unmap part of a mapping": ("EINVAL",),
        "unmap two mappings at once": (3 * PAGE,),
        "unmap what is not mapped": (0,),
    },
    "iommufd": {
        "unmap part of a mapping": ("ENOENT",),
        "unmap two mappings at once": (3 * PAGE,),
        "unmap what is not mapped": ("ENOENT",),
    },
}
