"""The live kernel log: a file that grows, reads that fail, lost records, and the real device."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.kmsg import KmsgReader
from tests.support import fuse

FAULT = "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x05] PTE Write"
XID = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."


class Log:
    """A regular file that grows as /dev/kmsg would read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.sequence = 100

    def write(self, text: str, *, skip: int = 0, device: str | None = None) -> None:
        self.sequence += skip
        more = f" SUBSYSTEM=pci\n DEVICE=+pci:{device}\n" if device else ""
        self.append(f"4,{self.sequence},{time.monotonic_ns() // 1000},-;{text}\n{more}".encode())
        self.sequence += 1

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "kmsg")


def kinds(found: list[Evidence]) -> list[str]:
    return [one.kind for one in found]


def test_only_what_comes_after_the_start(log: Log) -> None:
    log.write(XID)
    reader = KmsgReader(log.path, "host")
    assert reader.poll() == []
    log.write(FAULT)
    (found,) = reader.poll()
    assert (found.kind, found.node, found.source) == ("iommu-fault", "host", "kmsg")
    assert found.event is not None
    assert found.event.address == 0x1000
    assert reader.poll() == []
    reader.close()


def test_kinds_of_lines(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    for text in (XID, "nvidia-modeset: Loading", "eth0: link up", "pcieport 0000:00:01.0: AER: something", "fair"):
        log.write(text)
    assert kinds(reader.poll()) == ["xid", "kernel-line", "kernel-line"]
    assert (reader.lines, reader.ignored) == (5, 2)


def test_continuation_lines_are_kept(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    log.write("vfio-pci: reset", device="0000:01:00.0")
    log.write("vfio-pci: done")
    first, second = reader.poll()
    assert first.data["DEVICE"] == "+pci:0000:01:00.0"
    assert first.data["bdf"] == "0000:01:00.0"
    assert (first.data["sequence"], first.data["priority"]) == (100, 4)
    assert "DEVICE" not in second.data


def test_a_record_is_not_given_before_its_end(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    record = f"4,1,{time.monotonic_ns() // 1000},-;{XID}\n".encode()
    for cut in range(1, 40, 13):
        log.append(record[:cut])
        assert reader.poll() == []
        log.append(record[cut:])
        assert kinds(reader.poll()) == ["xid"]
        record = record.replace(f"4,{cut // 13 + 1},".encode(), f"4,{cut // 13 + 2},".encode())


def test_a_gap_in_the_sequence_is_counted(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    log.write("fine")
    log.write(XID, skip=7)
    lost, xid = reader.poll()
    assert (lost.kind, lost.data["count"], xid.kind) == ("records-lost", 7, "xid")
    log.write("fine")
    assert reader.poll() == []


def test_a_log_written_anew_is_read_from_its_start(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    for _ in range(5):
        log.write(XID)
    assert len(reader.poll()) == 5
    log.path.write_bytes(b"")
    log.sequence = 0
    log.write(XID)
    reader.poll()
    assert "xid" in kinds(reader.poll())


def test_times_bracket_the_moment_of_writing(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    for _ in range(5):
        before = time.monotonic()
        log.write(XID)
        after = time.monotonic()
        time.sleep(0.02)
        (found,) = reader.poll()
        assert found.time_s - found.uncertainty_s <= after
        assert found.time_s + found.uncertainty_s >= before
        assert found.data["arrival_s"] >= after
        assert found.data["kernel_s"] == pytest.approx(before, abs=0.01)


def test_every_poll_that_finds_nothing_narrows_what_comes_next(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    for _ in range(10):
        time.sleep(0.05)
        reader.poll()
    log.write(XID)
    (found,) = reader.poll()
    assert found.uncertainty_s < 0.2


def test_any_bytes_in_the_log(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    log.append(os.urandom(100_000) + b"\n \n\n DEVICE=x\n;;;,,,\n")
    reader.poll()
    log.append(b"\n")
    reader.poll()
    log.write(XID)
    assert "xid" in kinds(reader.poll())


def test_a_missing_log_is_a_blind_spot(tmp_path: Path) -> None:
    reader = KmsgReader(tmp_path / "kmsg", "host")
    assert reader.poll() == []
    (said,) = reader.blind_spots
    assert "kmsg cannot be read (No such file or directory)" in said
    reader.close()


def _as_nobody(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
            os._exit(0)
        finally:
            os._exit(1)  # the work raised
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(os.getuid() != 0, reason="giving up root needs root")
def test_no_permission_is_a_blind_spot(log: Log) -> None:
    log.path.chmod(0o000)
    for folder in log.path.parents:  # pytest's own folders are closed to others
        if folder.stat().st_mode & 0o001:
            break
        folder.chmod(0o711)

    def work() -> None:
        reader = KmsgReader(log.path, "host")
        assert reader.poll() == []
        assert "Permission denied" in reader.blind_spots[0]
        assert "run as root" in reader.blind_spots[0]

    assert _as_nobody(work) == 0


def scripted(script: Path) -> Callable[[int, int], fuse.Answer]:
    """Each read takes the next answer from the files ``script/N``: bytes, or an errno as ``!NAME``; EAGAIN after."""

    def read(_offset: int, _size: int) -> fuse.Answer:
        for path in sorted(script.iterdir()):
            data = path.read_bytes()
            path.unlink()
            return getattr(errno, data[1:].decode()) if data.startswith(b"!") else data
        return errno.EAGAIN

    return read


class Scripted:
    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def answer(self, *answers: bytes) -> None:
        for one in answers:
            (self.folder / f"{self.count:04}").write_bytes(one)
            self.count += 1


@pytest.fixture
def device(tmp_path: Path) -> Scripted:
    (tmp_path / "script").mkdir()
    (tmp_path / "mount").mkdir()
    return Scripted(tmp_path / "script")


def kmsg(sequence: int, text: str) -> bytes:
    return f"4,{sequence},{time.monotonic_ns() // 1000},-;{text}\n".encode()


def test_an_overwritten_log(device: Scripted, tmp_path: Path) -> None:
    try:
        with fuse.serve(tmp_path / "mount", {"kmsg": scripted(device.folder)}):
            reader = KmsgReader(tmp_path / "mount/kmsg", "host")
            assert (reader.blind_spots, reader.poll()) == ((), [])
            device.answer(kmsg(5, XID), b"!EPIPE", kmsg(25, XID), kmsg(26, XID))
            found = reader.poll()
            assert kinds(found) == ["xid", "records-lost", "xid", "xid"]
            assert found[1].data["count"] == 19
            device.answer(b"!EPIPE")
            assert [one.data["count"] for one in reader.poll()] == [None]
            device.answer(kmsg(90, XID))
            assert kinds(reader.poll()) == ["xid"]
            device.answer(b"!EIO")
            assert reader.poll() == []
            assert "Input/output error" in reader.blind_spots[0]
            reader.close()
    except fuse.Unavailable as reason:
        pytest.skip(str(reason))


def test_a_flooded_log_does_not_hold_the_caller(tmp_path: Path) -> None:
    """A log that has always more to read."""
    (tmp_path / "mount").mkdir()
    flood = b"".join(kmsg(n, XID) for n in range(100))
    try:
        with fuse.serve(tmp_path / "mount", {"kmsg": lambda _offset, _size: flood}):
            reader = KmsgReader(tmp_path / "mount/kmsg", "host")
            started = time.monotonic()
            found = reader.poll()
            assert time.monotonic() - started < 5
            assert len(found) >= 100
            reader.close()
    except fuse.Unavailable as reason:
        pytest.skip(str(reason))


REAL = Path("/dev/kmsg")


def test_the_real_device() -> None:
    """Nothing is written to it: from now on means that nothing old comes, and that the reader never waits."""
    reader = KmsgReader(REAL, "host")
    if reader.blind_spots:
        pytest.skip(reader.blind_spots[0])
    started = time.monotonic()
    found = reader.poll()
    assert time.monotonic() - started < 1
    assert all(one.data["kernel_s"] > started - 60 for one in found if one.kind != "records-lost")
    assert reader.blind_spots == ()
    reader.close()


@pytest.mark.skipif(not os.access(REAL, os.R_OK), reason="/dev/kmsg cannot be read here")
def test_the_real_device_from_its_start() -> None:
    """Every record that the kernel kept parses: none is lost in the reading."""
    reader = KmsgReader(REAL, "host")
    if reader._fd is None:
        pytest.skip(reader.blind_spots[0])
    os.lseek(reader._fd, 0, os.SEEK_SET)
    found = reader.poll()
    assert reader.lines > 0
    assert [one for one in found if one.kind == "records-lost" and one.data["count"]] == []
    reader.close()


SMMU = (
    "arm-smmu-v3 9050000.smmuv3: event 0x10 received:",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000010000000010",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000020000000000",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000000010200004",
    "arm-smmu-v3 9050000.smmuv3: \t0x0000000000000000",
)


def test_a_report_that_polls_cut_in_two_is_one_event(log: Log) -> None:
    reader = KmsgReader(log.path, "host")
    assert reader.settles_in_s == 0
    for line in SMMU[:3]:
        log.write(line)
    assert reader.poll() == []
    assert 0 < reader.settles_in_s <= 0.1
    for line in SMMU[3:]:
        log.write(line)
    found = reader.poll()
    end = time.monotonic() + 5
    while not found and time.monotonic() < end:
        time.sleep(reader.settles_in_s)
        found = reader.poll()
    assert [(one.kind, one.event and one.event.address) for one in found] == [("iommu-fault", 0x10200004)]
    assert reader.poll() == []
    reader.close()
