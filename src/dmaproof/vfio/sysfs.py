"""Writing to sysfs with a deadline: a driver may take for ever to let a device go.

``unbind`` waits in the kernel until the last user has closed the device (vfio_unregister_group_dev; the NVIDIA driver
waits likewise), and a process in there cannot be killed. So the write is made by a thread that can be left behind.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dmaproof.errors import DmaproofError

PCI = Path("/sys/bus/pci")
_POLL_S = 0.02


def write(path: Path, value: str, patience_s: float = 30.0) -> None:
    """Write ``value``. Raises DmaproofError: refused, or not done within ``patience_s``."""
    failures: list[OSError] = []

    def doing() -> None:
        try:
            path.write_text(value, encoding="ascii")
        except OSError as error:
            failures.append(error)

    writer = threading.Thread(target=doing, daemon=True)
    writer.start()
    writer.join(patience_s)
    if writer.is_alive():
        raise DmaproofError(f"writing {value!r} to {path} has not come back for {patience_s:g} s: the device is in use")
    if failures:
        raise DmaproofError(f"cannot write {value.strip()!r} to {path}: {failures[0].strerror}") from failures[0]


def driver_of(bdf: str) -> str | None:
    try:
        return (PCI / "devices" / bdf / "driver").readlink().name
    except OSError:
        return None


def override_of(bdf: str) -> str | None:
    text = (PCI / "devices" / bdf / "driver_override").read_text(encoding="utf-8").strip()
    return None if text in ("", "(null)") else text


def wait_until_closed(bdf: str, patience_s: float) -> None:
    """Wait for the processes that have the VFIO files of ``bdf`` open. Raises DmaproofError naming those that stay."""
    files = {*_device_files(bdf)}
    until = time.monotonic() + patience_s
    while users := sorted(_users(files)):
        if time.monotonic() >= until:
            raise DmaproofError(
                f"{bdf} is in use by process {', '.join(map(str, users))}: it can be put back when they have ended"
            )
        time.sleep(_POLL_S)


def _device_files(bdf: str) -> Iterator[str]:
    folder = PCI / "devices" / bdf
    for one in (folder / "vfio-dev").iterdir() if (folder / "vfio-dev").is_dir() else ():
        yield f"/dev/vfio/devices/{one.name}"
    try:
        group = (folder / "iommu_group").readlink().name
    except OSError:
        return
    yield from (f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}")


def _users(files: set[str]) -> Iterator[int]:
    """Processes other than this one with one of ``files`` open; one's own is a mistake that ``unbind`` tells."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if any(str(fd.readlink()) in files for fd in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:  # it has ended, or a file of it has been closed, or it is not ours to look at
            continue
