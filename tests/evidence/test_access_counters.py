"""What nvidia-uvm's access_counters file says."""

from __future__ import annotations

from pathlib import Path

from dmaproof.evidence import access_counters
from dmaproof.evidence.access_counters import AccessCounters

ONE = "migrations:\n  num_pages_in         512 (2 MB)\n  num_pages_out        3 (0 MB)\n"
TWO = (
    "migrations - buffer index 0:\n  num_pages_in         512 (2 MB)\n  num_pages_out        0 (0 MB)\n"
    "migrations - buffer index 1:\n  num_pages_in         1024 (4 MB)\n  num_pages_out        7 (0 MB)\n"
)
UUID = "GPU-4d6f6f66-0000-4000-8000-000000000901"


def test_drivers_with_one_buffer_and_with_several() -> None:
    assert access_counters.parse(ONE) == AccessCounters(512, 3)
    assert access_counters.parse(TWO) == AccessCounters(1536, 7)
    assert access_counters.parse("") == AccessCounters(0, 0)


def test_the_file_of_the_gpu_is_read(tmp_path: Path) -> None:
    assert access_counters.read(tmp_path, UUID) is None
    folder = tmp_path / "proc/driver/nvidia-uvm/gpus" / UUID
    folder.mkdir(parents=True)
    assert access_counters.read(tmp_path, UUID) is None
    (folder / "access_counters").write_text(ONE)
    assert access_counters.read(tmp_path, UUID) == AccessCounters(512, 3)
