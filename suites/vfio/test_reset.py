"""Each way of resetting a function leaves one that works."""

from __future__ import annotations

import pytest

from dmaproof.endpoint.assigned.resets import METHODS, Method, Reset, reset_by, reset_by_vfio
from dmaproof.vfio.space import Backend
from fixtures.ends import Engine
from fixtures.offers import claimed
from fixtures.vfio import NEEDS, need_iommu
from fixtures.worker import Bench


@pytest.mark.parametrize("method", METHODS)
def test_reset_method(endpoint: Engine, method: Method, worker: Bench) -> None:
    """Those that the function does not have are skipped: sysfs ``reset_method`` says which it has."""
    need_iommu(endpoint.node)
    is_edu = endpoint.endpoint.kind == "edu"
    _check(worker.run(reset_by, bdf=endpoint.endpoint.bdf, method=method, engine=is_edu))


@pytest.mark.parametrize("backend", ["type1v2", "iommufd"])
def test_reset_by_vfio(endpoint: Engine, backend: Backend, worker: Bench) -> None:
    need_iommu(endpoint.node)
    is_edu = endpoint.endpoint.kind == "edu"
    with claimed(endpoint.node, *NEEDS[backend]):
        _check(worker.run(reset_by_vfio, bdf=endpoint.endpoint.bdf, engine=is_edu, backend=backend))


def _check(reset: Reset) -> None:
    assert reset.identity == reset.identity_before, "it is another device, or none"
    assert reset.memory_on, "its BARs do not answer any more"
    assert reset.works in (True, None), "DMA does not work any more"
    if reset.error and reset.link_denied:
        pytest.skip(f"{reset.error}: {reset.link_denied}")
    assert reset.error is None, f"the kernel says {reset.error}"
