"""Drives in real files: what arrives is counted, what a drive holds is never at stake."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmaproof.endpoint import nvme, p2pdma
from dmaproof.errors import EndpointError, Unsupported
from tests.endpoint.machine import BDF, function

NBYTES = 16384


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A drive at BDF with 64 KiB of peer-to-peer memory and 64 KiB of disk."""
    folder = function(tmp_path)
    (folder / "p2pmem").mkdir()
    (folder / "p2pmem/published").write_text("1\n")
    (folder / "p2pmem/available").write_text("65536\n")
    (folder / "p2pmem/allocate").write_bytes(bytes(65536))
    (folder / "nvme/nvme0/nvme0n1").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvme0n1").write_bytes(bytes(65536))
    try:
        os.close(os.open(tmp_path / "dev/nvme0n1", os.O_RDWR | os.O_DIRECT))
    except OSError:
        pytest.skip(f"the file system of {tmp_path} has no O_DIRECT")
    return tmp_path


@pytest.fixture
def ends(machine: Path) -> Iterator[tuple[mmap.mmap, int]]:
    with nvme.peer_memory(BDF, NBYTES, machine) as memory, nvme.scratch(BDF, NBYTES, machine) as drive:
        yield memory, drive


def test_what_is_moved_is_right_both_ways(ends: tuple[mmap.mmap, int]) -> None:
    for moved in (p2pdma.out_of_peer(*ends), p2pdma.into_peer(*ends)):
        assert (moved.claimed_nbytes, moved.error, moved.wrong_words) == (NBYTES, None, 0)
        assert moved.right
        assert not moved.false_claim
        assert moved.nwords == NBYTES // 4 - NBYTES // 4096 * len(nvme.MARK) // 4


def test_a_call_that_claims_and_moves_nothing_is_caught(
    ends: tuple[mmap.mmap, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, drive = ends
    real = os.preadv

    def liar(fd: int, buffers: list[mmap.mmap], offset: int) -> int:
        return len(memory) if buffers[0] is memory else real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", liar)
    moved = p2pdma.into_peer(memory, drive)
    assert moved.false_claim
    assert moved.claimed_nbytes == NBYTES
    assert moved.wrong_words == moved.old_words == moved.nwords


def test_a_refused_call_is_told_by_its_errno(ends: tuple[mmap.mmap, int], monkeypatch: pytest.MonkeyPatch) -> None:
    memory, drive = ends
    real = os.pwritev

    def refusing(fd: int, buffers: list[mmap.mmap], offset: int) -> int:
        if buffers[0] is memory:
            raise OSError(22, "Invalid argument")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", refusing)
    moved = p2pdma.out_of_peer(memory, drive)
    assert (moved.error, moved.claimed_nbytes, moved.false_claim) == ("EINVAL", 0, False)
    assert moved.old_words == moved.nwords


def test_the_drive_is_left_empty(machine: Path) -> None:
    with nvme.scratch(BDF, NBYTES, machine) as drive:
        nvme.put(drive, nvme.MARK.ljust(4096, b"x") * 4)
        assert nvme.content(drive, NBYTES).startswith(nvme.MARK)
    assert (machine / "dev/nvme0n1").read_bytes() == bytes(65536)


def test_what_a_killed_run_left_is_its_own_and_anything_else_is_not(machine: Path) -> None:
    disk = machine / "dev/nvme0n1"
    disk.write_bytes(nvme.MARK.ljust(4096, b"x") + bytes(61440))
    with nvme.scratch(BDF, NBYTES, machine):
        pass
    disk.write_bytes(b"EFI PART".ljust(4096, b"\0") + bytes(61440))
    with pytest.raises(EndpointError, match="holds data in its first 16384 bytes"):
        nvme.scratch(BDF, NBYTES, machine).__enter__()
    assert disk.read_bytes().startswith(b"EFI PART")


def test_a_small_drive_no_drive_and_no_buffer_are_told(machine: Path) -> None:
    with pytest.raises(EndpointError, match="gives 65536 of its first 131072 bytes"):
        nvme.scratch(BDF, 131072, machine).__enter__()
    with pytest.raises(EndpointError, match="has no NVMe namespace"):
        nvme.block_device("0000:09:00.0", machine)
    (machine / "sys/bus/pci/devices" / BDF / "p2pmem/published").write_text("0\n")
    with pytest.raises(Unsupported, match="publishes no peer-to-peer memory"):
        nvme.peer_memory(BDF, NBYTES, machine).__enter__()
