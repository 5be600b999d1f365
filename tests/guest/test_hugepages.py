"""Huge pages: files as the kernel has them, and a kernel's own in a lab host with two NUMA nodes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from dmaproof.errors import DmaproofError
from dmaproof.guest import hugepages, lab
from dmaproof.guest.memory import Pages
from dmaproof.node.deadline import Deadline
from dmaproof.node.remote import RemoteWorker, hang_up
from dmaproof.rig import load
from dmaproof.vfio.bind import kept_journal, raised
from dmaproof.vfio.journal import alone
from tests.support.harness import eventually
from tests.support.lab import supplied

MIB = 1 << 20


@dataclass(frozen=True)
class Counts:
    """nr_hugepages of the nodes before, while some are reserved, and after; ``refusal`` is what was said."""

    before: tuple[int, ...]
    meanwhile: tuple[int, ...]
    after: tuple[int, ...]
    refusal: str


def tree(root: Path, **numbers: int) -> Path:
    folder = root / "kernel/mm/hugepages/hugepages-2048kB"
    folder.mkdir(parents=True)
    for name, number in numbers.items():
        (folder / name).write_text(f"{number}\n")
    return folder


def test_pages_that_are_free_are_enough(tmp_path: Path) -> None:
    folder = tree(tmp_path, nr_hugepages=20, free_hugepages=12, resv_hugepages=2)
    (folder / "nr_hugepages").chmod(0o400)
    with kept_journal(tmp_path / "journal") as ours:
        hugepages.reserve(ours, Pages(2 * MIB, 10, None), tmp_path)
        assert ours.entries == []


def test_as_many_more_are_asked_for_as_are_not_free_and_promised_to_nobody(tmp_path: Path) -> None:
    folder = tree(tmp_path, nr_hugepages=20, free_hugepages=12, resv_hugepages=2)
    with kept_journal(tmp_path / "journal") as ours:
        told = "= 2097152: of the 11 pages that the guest's memory takes, the kernel has 10 free: free some memory, "
        with pytest.raises(DmaproofError, match=told):  # a file does not make pages
            hugepages.reserve(ours, Pages(2 * MIB, 11, None), tmp_path)
        assert (folder / "nr_hugepages").read_text() == "21\n"
    assert (folder / "nr_hugepages").read_text() == "20\n"


def test_what_another_run_has_raised_is_its_own_before_its_qemu_has_taken_it(tmp_path: Path) -> None:
    folder, journals = tree(tmp_path, nr_hugepages=20, free_hugepages=12, resv_hugepages=2), tmp_path / "journal"
    number = folder / "nr_hugepages"
    with kept_journal(journals) as ours:
        with kept_journal(journals) as theirs:
            raised(theirs, number, 30)
            (folder / "free_hugepages").write_text("22\n")
            assert hugepages.raised_to(Pages(2 * MIB, 10, None), tmp_path, journals) is None, "there were 10 before"
            assert hugepages.raised_to(Pages(2 * MIB, 15, None), tmp_path, journals) == (number, 35)
            hugepages.reserve(ours, Pages(2 * MIB, 15, None), tmp_path)
            assert number.read_text() == "35\n"
        assert number.read_text() == "25\n", "the other run has ended: ours stay"
    assert number.read_text() == "20\n"


def test_two_do_not_look_at_once(tmp_path: Path) -> None:
    folder, journals = tree(tmp_path, nr_hugepages=0, free_hugepages=0, resv_hugepages=0), tmp_path / "journal"
    refused = Future[None]()

    def reserve() -> None:
        with kept_journal(journals) as ours:
            try:
                hugepages.reserve(ours, Pages(2 * MIB, 5, None), tmp_path)
            except DmaproofError as error:  # a file does not make pages
                refused.set_exception(error)

    with alone(journals):
        other = threading.Thread(target=reserve)
        other.start()
        assert eventually(lambda: list(journals.glob("*.jsonl")) != [])
        time.sleep(0.1)
        assert (folder / "nr_hugepages").read_text() == "0\n"
    with pytest.raises(DmaproofError, match="the kernel has 0 free"):
        refused.result(20)
    other.join(20)
    assert (folder / "nr_hugepages").read_text() == "0\n"


def test_a_size_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    tree(tmp_path)
    with kept_journal(tmp_path / "journal") as ours:
        with pytest.raises(DmaproofError, match=r"hugepage_nbytes = 1073741824: pages here have 2097152 bytes$"):
            hugepages.reserve(ours, Pages(1 << 30, 1, None), tmp_path)
        with pytest.raises(DmaproofError, match=r"this system has no .*/node4/hugepages$"):
            hugepages.reserve(ours, Pages(1 << 30, 1, 4), tmp_path)


def test_a_kernel_gives_them_on_the_node_that_is_asked_for_and_has_them_back(tmp_path: Path) -> None:
    supplied()
    rig = load.load("lab:vtd-numa")
    rig = rig.model_copy(update={"deadline": rig.deadline.model_copy(update={"scale": 3.0})})  # other tests run beside
    with lab.provision(rig, tmp_path / "lab") as nodes, RemoteWorker(nodes["host"], tmp_path, run_id="ours") as worker:
        deadline = Deadline.after(60)
        some = worker.run(counted, deadline=deadline, pages=Pages(2 * MIB, 16, 1))
        many = worker.run(counted, deadline=deadline, pages=Pages(2 * MIB, 4096, 0))
        hang_up()
    assert some == Counts((0, 0), (0, 16), (0, 0), "")
    assert many.before == many.after == (0, 0)
    assert 100 < many.meanwhile[0] < 4096
    assert many.meanwhile[1] == 0
    assert (
        f"of the 4096 pages that the guest's memory takes, the kernel has {many.meanwhile[0]} free on NUMA node 0: "
        in (many.refusal)
    )


def counted(pages: Pages) -> Counts:
    """A workload."""
    before, refusal = _numbers(), ""
    with kept_journal() as ours:
        try:
            hugepages.reserve(ours, pages)
        except DmaproofError as error:
            refusal = str(error)
        meanwhile = _numbers()
    return Counts(before, meanwhile, _numbers(), refusal)


def _numbers() -> tuple[int, ...]:
    files = sorted(Path("/sys/devices/system/node").glob("node[0-9]*/hugepages/hugepages-2048kB/nr_hugepages"))
    return tuple(int(one.read_text()) for one in files)
