"""The kernel's own selftests of iommufd and VFIO, beside this project's: where the two disagree, one is wrong.

``dmaproof lab selftests`` compiles them, and the kernel that they need; ``--rig=lab:selftests`` runs them.
"""

from __future__ import annotations

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import selftests, tap
from dmaproof.guest.selftest_run import run as run_selftest
from dmaproof.guest.selftests import Selftest
from dmaproof.rig.model import Node
from fixtures.evidence import NoteEvidence
from fixtures.worker import Bench

# The kinds of endpoint that each is given. vfio_pci_driver_test needs a device that its own library drives (DSA, IOAT),
# which QEMU does not have: given another, it says that itself.
NEEDS: dict[str, tuple[str, ...]] = {
    "iommu/iommufd": (),
    "iommu/iommufd_fail_nth": (),
    "vfio/vfio_dma_mapping_mmio_test": ("edu",),
    "vfio/vfio_dma_mapping_test": ("edu",),
    "vfio/vfio_iommufd_setup_test": ("edu",),
    "vfio/vfio_pci_device_init_perf_test": ("edu",),
    "vfio/vfio_pci_device_test": ("igb",),
    "vfio/vfio_pci_driver_test": ("edu",),
    "vfio/vfio_pci_sriov_uapi_test": ("igb",),
}
_LIMIT_S = 500.0
_HUGE_PAGES = 96  # iommufd.c maps up to 128 MiB of them (domain_dirty128M_huge), and some more beside


@pytest.fixture(scope="module")
def built() -> dict[str, Selftest]:
    try:
        return {one.name: one for one in selftests.built()}
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture
def node(node_under_test: Node) -> Node:
    if node_under_test.qemu is None or node_under_test.qemu.kernel != "selftests":
        pytest.skip("needs a kernel built for its own selftests: --rig=lab:selftests")
    return node_under_test


@pytest.mark.usefixtures("node")
def test_every_program_is_known_here(built: dict[str, Selftest]) -> None:
    assert set(built) <= set(NEEDS), f"new in this source, and not run: {sorted(set(built) - set(NEEDS))}"


@pytest.mark.parametrize("name", NEEDS)
def test_selftest(
    name: str, built: dict[str, Selftest], node: Node, worker: Bench, note_evidence: NoteEvidence
) -> None:
    one = built.get(name)
    if one is None or one.path is None:
        pytest.skip(f"{name} cannot be built from this source: {one.why if one else 'it is not there'}")
    functions = [_first(node, kind) for kind in NEEDS[name]]
    ran = worker.run(
        run_selftest,
        program=str(one.path),
        arguments=[],
        functions=functions,
        timeout_s=_LIMIT_S,
        huge_pages=_HUGE_PAGES,
    )
    results = tap.parse(ran.output)
    note_evidence("selftests", "selftest", f"{name} in {ran.seconds:.1f} s: {tap.summed(results)}")
    for case in (*results.of("skipped"), *results.of("failed")):
        note_evidence("selftests", "selftest", f"{name}: {case.name} {case.outcome}: {case.why}")
    if results.skipped_whole or ran.status == selftests.SKIP:
        pytest.skip(f"{name} says: {results.skipped_whole or _last(ran.output)}")
    failed = [f"{case.name} ({case.why})" for case in results.of("failed")]
    assert not failed, f"{tap.summed(results)}: {'; '.join(failed)}"
    assert results.complete, (
        f"{tap.summed(results)}, exit status {ran.status}, then: {results.bailed_out or _last(ran.output)}"
    )
    assert ran.status == 0, f"all passed, and yet exit status {ran.status}"


def _first(node: Node, kind: str) -> str:
    for one in node.endpoints:
        if one.kind == kind:
            return one.bdf
    pytest.skip(f"the rig declares no {kind} on {node.name}")


def _last(output: str) -> str:
    return " | ".join(line.strip() for line in output.strip().splitlines()[-3:])
