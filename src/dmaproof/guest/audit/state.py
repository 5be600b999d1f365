"""What a trace says of one run of QEMU, event after event: sections, maps, regions of devices, places of BARs.

The listener of hw/vfio/listener.c is told of every section of the guest's memory; what it then maps is traced only by
backends/iommufd.c. So sections are what stage 2 should hold, and with type1 also what it is taken to hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.guest.audit.table import Entry, Range, Table

MMAP = 4
"""VFIO_REGION_INFO_FLAG_MMAP of include/uapi/linux/vfio.h: the kernel lets the region be mapped."""
_MOST_SPACES = 64
"""More than any guest has: a log that says the same without end must not be looked through for each line again."""


@dataclass(slots=True)
class Region:
    """A region of an assigned device, as QEMU set it up. ``mmaps`` are the parts that it mapped, by offset.

    ``fds`` are the descriptors of the dma-buf, -errno where it could not be exported.
    """

    flags: int
    nbytes: int
    name: str = ""
    mmaps: list[Range] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    fds: set[int] = field(default_factory=set)
    enabled: bool = True
    """Not while QEMU serves an INTx interrupt without KVM's help: then it takes the maps away, to see the access."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a BAR of a guest's device is. ``device`` is QEMU's name for its model, such as ``vfio-pci``."""

    device: str
    address: int
    nbytes: int


@dataclass(slots=True)
class Layer:
    """What one container was told of. ``lost`` are sections that it was told of and that are not mapped: ``origin`` is
    the region's name, ``code`` the result, where the log says them."""

    sections: Table = field(default_factory=Table)
    lost: Table = field(default_factory=Table)

    def maps(self) -> Table:
        """The sections but for the lost ones: what a type1 container holds."""
        held = Table()
        for entry in self.sections:
            held.add(entry)
        for entry in self.lost:
            held.remove(entry.range)
        return held


@dataclass(slots=True)
class Ioas:
    """An I/O address space of iommufd: what is mapped, and what could not be."""

    maps: Table = field(default_factory=Table)
    failed: Table = field(default_factory=Table)


@dataclass(slots=True)
class State:
    """All of one run. Regions are known by the host's BDF and index (``named``: by their names), places by the guest's
    bus:slot.function and BAR. ``written`` are the last values in a device's base address registers, by host BDF and
    register number.
    """

    layers: list[Layer] = field(default_factory=list)
    ioases: dict[tuple[int, int], Ioas] = field(default_factory=dict)
    skipped: Table = field(default_factory=Table)
    translated: Table = field(default_factory=Table)
    attached: set[str] = field(default_factory=set)
    regions: dict[tuple[str, int], Region] = field(default_factory=dict)
    named: dict[str, Region] = field(default_factory=dict)
    msix: dict[tuple[str, int], Range] = field(default_factory=dict)
    msix_entries: dict[str, int] = field(default_factory=dict)
    placed: dict[tuple[str, int], Placed] = field(default_factory=dict)
    written: dict[tuple[str, int], int] = field(default_factory=dict)
    last: Layer | None = None
    """The container that was told of a section last: what follows in the log is about it."""

    def add_section(self, entry: Entry) -> None:
        """A second container is told of what the first already has; no container is told twice."""
        free = (one for one in self.layers if not one.sections.within(entry.range))
        layer = next(free, None)
        if layer is None and len(self.layers) < _MOST_SPACES:
            layer = Layer()
            self.layers.append(layer)
        layer = layer or self.layers[-1]
        layer.sections.add(entry)
        self.last = layer

    def remove_section(self, gone: Range) -> None:
        self.translated.remove(gone)
        for ioas in self.ioases.values():
            ioas.failed.remove(gone)
        told = [one for one in self.layers if one.sections.within(gone)]
        # A section goes as it came, and each container hears of it by itself: who has another one there is not meant.
        exact = [one for one in told if any(entry.range == gone for entry in one.sections.within(gone))]
        for layer in (exact or told)[:1]:
            layer.sections.remove(gone)
            layer.lost.remove(gone)

    def lose(self, entry: Entry) -> None:
        """A section is not mapped after all. A later word on it does not take away what an earlier one said."""
        if self.last is None:
            return
        said = self.last.lost.within(entry.range)
        code = entry.code if entry.code is not None else next((one.code for one in said), None)
        origin = entry.origin or next((one.origin for one in said), None)
        self.last.lost.add(Entry(entry.range, origin=origin, code=code))

    def mapped(self, key: tuple[int, int], entry: Entry) -> None:
        if key not in self.ioases and len(self.ioases) >= _MOST_SPACES:
            return
        ioas = self.ioases.setdefault(key, Ioas())
        if entry.code:
            ioas.failed.add(entry)
        else:
            ioas.maps.add(entry)
            ioas.failed.remove(entry.range)

    def unmapped(self, key: tuple[int, int], gone: Range) -> None:
        """Of a space that nothing was seen mapped in, unmaps alone say nothing."""
        if (ioas := self.ioases.get(key)) is not None:
            ioas.maps.remove(gone)
            ioas.failed.remove(gone)
