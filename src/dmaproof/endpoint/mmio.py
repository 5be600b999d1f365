"""Registers of a PCI function that no driver has, through sysfs: decoding switched on for as long as they are used.

Sources: pci_mmap_resource, enable_store and pci_write_config of drivers/pci/pci-sysfs.c. A driver's device is refused
by the kernel itself (EBUSY).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from dmaproof.errors import EndpointError
from dmaproof.pci import sysfs
from dmaproof.vfio.mmio import Mmio

ROOT = Path("/")
_COMMAND, _MEMORY, _MASTER = 0x04, 0x2, 0x4  # PCI_COMMAND_*: include/uapi/linux/pci_regs.h


class Registers(Protocol):
    """What a driver of this room needs of a BAR, however it was mapped: aligned accesses of exactly their width."""

    def read32(self, offset: int, /) -> int: ...
    def write32(self, offset: int, value: int, /) -> None: ...
    def read64(self, offset: int, /) -> int: ...
    def write64(self, offset: int, value: int, /) -> None: ...


@contextmanager
def enabled(bdf: str, root: Path = ROOT) -> Iterator[None]:
    """Memory decode and bus mastering of ``bdf`` are on, those of the bridges above as well; what the function had
    before is put back.

    The end of bus mastering is also the end of any DMA still on its way: memory that the function was told of may be
    freed after it, and not before. Raises EndpointError where a driver has the function, or it is not there.
    """
    folder = root / sysfs.DEVICES / bdf
    try:
        before = _command(folder)
        (folder / "enable").write_text("1")
    except OSError as error:
        raise EndpointError(_refusal(folder, error)) from None
    try:
        _set_command(folder, before | _MEMORY | _MASTER)
        yield
    finally:
        (folder / "enable").write_text("0")  # first: it leaves bits behind that were not there
        _set_command(folder, before)


@contextmanager
def registers(bdf: str, bar: int = 0, root: Path = ROOT) -> Iterator[Mmio]:
    """BAR ``bar`` of ``bdf``, a function without a driver, ``enabled`` meanwhile. Raises EndpointError, or
    DmaproofError where the kernel does not let it be mapped (lockdown)."""
    claimed = bar_of(bdf, bar, root)
    resource = root / sysfs.DEVICES / bdf / f"resource{bar}"
    with (
        enabled(bdf, root),
        resource.open("r+b", buffering=0) as file,
        Mmio(file.fileno(), claimed.nbytes, subject=f"BAR{bar} of {bdf}") as mapped,
    ):
        yield mapped


def bar_of(bdf: str, bar: int = 0, root: Path = ROOT) -> sysfs.Bar:
    """Where BAR ``bar`` of ``bdf`` is. Raises EndpointError where the function has none, or is not there."""
    function = next((one for one in sysfs.functions(root) if one.bdf == bdf), None)
    found = next((one for one in (function.bars if function else None) or () if one.index == bar), None)
    if found is None:
        why = "no such PCI function" if function is None else f"it has no BAR{bar}"
        raise EndpointError(f"{bdf}: {why}; `lspci -v -s {bdf}` shows what there is")
    return found


def _command(folder: Path) -> int:
    with (folder / "config").open("rb", buffering=0) as file:
        return int.from_bytes(os.pread(file.fileno(), 2, _COMMAND), "little")


def _set_command(folder: Path, value: int) -> None:
    with (folder / "config").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), value.to_bytes(2, "little"), _COMMAND)


def _refusal(folder: Path, error: OSError) -> str:
    driver = sysfs.target(folder / "driver")
    if driver is not None:
        return f"{folder.name} belongs to driver {driver}: echo {folder.name} > {folder}/driver/unbind"
    if not folder.exists():
        return f"{folder.name}: no such PCI function under /{sysfs.DEVICES}"
    return f"{folder.name} cannot be enabled: {error.strerror} ({error.filename}); this needs root"
