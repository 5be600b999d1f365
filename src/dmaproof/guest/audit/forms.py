"""QEMU's trace events that the audit reads, in every form they have had, and what each changes in a State.

The formats are those of hw/vfio/trace-events, backends/trace-events and hw/pci/trace-events of QEMU 2.9 to 11.1:
until 7.2 the listener said ``SKIPPING region_add`` by events of its own, and ``[iommu]`` without a name; addresses of
BARs came with a pointer in place of a model's name until 6.2; dma-bufs came in 11.0, first without their descriptor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dmaproof.guest.audit import acts
from dmaproof.guest.audit.acts import Match
from dmaproof.guest.audit.state import State

Act = Callable[[State, Match], None]


@dataclass(frozen=True, slots=True)
class Form:
    """An event's text after its name, and what it does."""

    pattern: re.Pattern[str]
    act: Act


_HEX = r"0x[0-9a-f]{1,16}"
_SPAN = rf"(?P<first>{_HEX}) - (?P<last>{_HEX})"
_NAMED = rf'Region "(?P<name>[^"]{{1,200}})" (?P<first>{_HEX}) size=(?P<size>{_HEX})'
_SPACE = r" iommufd=(?P<iommufd>-?\d{1,9}) ioas=(?P<ioas>-?\d{1,9})"
_IOVA = rf"{_SPACE} iova=(?P<first>{_HEX}) size=(?P<size>{_HEX})"
_RESULT = r"\((?P<code>-?\d{1,6})\)"
_MADE = rf"readonly=(?P<readonly>\d) {_RESULT}"
_PART = r"Region (?P<name>.{1,200}) mmaps\[\d{1,4}\]"
_OF_GUEST = (
    r"(?:d=0x[0-9a-f]{1,16}|(?P<device>\S{1,80})) (?P<guest>[0-9a-f]{2,4}:[0-9a-f]{2}\.[0-9a-f]{1,2})"
    rf" (?P<bar>\d{{1,2}}),(?P<first>{_HEX})\+(?P<size>{_HEX})"
)
_ATTACH = r" \((?P<host>\S{1,80})\) group -?\d{1,9}"
_HOST = r"(?P<host>\S{1,80})"
_EVENTS: Mapping[str, tuple[str, Act]] = {
    "vfio_listener_region_add_ram": (rf"region_add \[ram\] {_SPAN} \[(?P<origin>[^\]]{{1,20}})\]", acts.add_ram),
    "vfio_listener_region_add_iommu": (rf"region_add \[iommu\] (?:(?P<name>.{{1,80}}) )?{_SPAN}", acts.add_iommu),
    "vfio_listener_region_del": (rf"region_del {_SPAN}", acts.remove),
    "vfio_listener_region_skip": (rf"SKIPPING (?P<what>\w{{1,40}}) {_SPAN}", acts.skip),
    "vfio_listener_region_add_skip": (rf"SKIPPING region_add {_SPAN}", acts.skip_add),
    "vfio_listener_region_del_skip": (rf"SKIPPING region_del {_SPAN}", acts.skip_del),
    "vfio_listener_region_add_no_dma_map": (
        rf"{_NAMED} is not aligned to {_HEX} and cannot be mapped for DMA",
        acts.lost,
    ),
    "vfio_listener_region_skip_dma_map": (rf"{_NAMED} marked to skip IOMMU mapping", acts.lost),
    "iommufd_backend_map_dma": (rf"{_IOVA} addr=(?P<origin>\S{{1,20}}) {_MADE}", acts.map_made),
    "iommufd_backend_map_file_dma": (rf"{_IOVA} (?P<origin>fd=-?\d{{1,9}}) start=-?\d{{1,20}} {_MADE}", acts.map_made),
    "iommufd_backend_unmap_dma": (rf"{_IOVA} {_RESULT}", acts.unmap),
    "iommufd_backend_unmap_dma_non_exist": (rf" Unmap nonexistent mapping:{_IOVA} {_RESULT}", acts.unmap_nothing),
    "iommufd_backend_free_id": (rf" iommufd=(?P<iommufd>-?\d{{1,9}}) id=(?P<id>-?\d{{1,9}}) {_RESULT}", acts.free),
    "vfio_realize": (_ATTACH, acts.attach),
    "vfio_attach_device": (_ATTACH, acts.attach),
    "vfio_device_attach": (_ATTACH, acts.attach),
    "iommufd_cdev_connect_and_bind": (
        r" \[iommufd=\d{1,9}\] Successfully bound device (?P<host>\S{1,80}) .*",
        acts.attach,
    ),
    "vfio_detach_device": (_ATTACH, acts.detach),
    "vfio_device_detach": (_ATTACH, acts.detach),
    "vfio_region_setup": (
        rf'Device {_HOST}, region (?P<index>\d{{1,3}}) "(?P<name>[^"]{{0,200}})", flags: (?P<flags>{_HEX}),'
        rf" offset: {_HEX}, size: (?P<size>{_HEX})",
        acts.setup,
    ),
    "vfio_region_mmap": (rf"{_PART} \[{_SPAN}\]", acts.mmap),
    "vfio_region_unmap": (rf"{_PART} unmap \[{_SPAN}\]", acts.unmmap),
    "vfio_region_mmap_fault": (rf"{_PART}, \[{_HEX} - {_HEX}\], fault: (?P<code>-?\d{{1,6}})", acts.mmap_fault),
    "vfio_region_mmaps_set_enabled": (r"Region (?P<name>.{1,200}) mmaps enabled: (?P<on>\d)", acts.enable),
    "vfio_region_finalize": (rf"Device {_HOST}, region (?P<index>\d{{1,3}})", acts.gone),
    "vfio_region_dmabuf": (
        rf'Device {_HOST},(?: dmabuf)?(?: fd (?P<fd>-?\d{{1,9}}))? region (?P<index>\d{{1,3}}) "[^"]{{0,200}}",'
        rf" offset: {_HEX}, size: {_HEX}",
        acts.dmabuf,
    ),
    "vfio_msix_early_setup": (
        rf"{_HOST} PCI MSI-X CAP @0x[0-9a-f]{{1,4}}, BAR (?P<bar>\d), offset (?P<offset>{_HEX}),"
        r" entries (?P<entries>\d{1,5})\b.*",
        acts.msix,
    ),
    "vfio_msix_relo": (r" \((?P<host>\S{1,80})\) BAR (?P<bar>\d) offset (?P<offset>0x[0-9a-f]{1,16})", acts.msix_moved),
    "vfio_pci_write_config": (
        r" \((?P<host>\S{1,80}), @(?P<at>0x(?:1[048c]|2[04])), (?P<value>0x[0-9a-f]{1,8}), len=0x4\)",
        acts.write,
    ),
    "pci_update_mappings_add": (_OF_GUEST, acts.place),
    "pci_update_mappings_del": (_OF_GUEST, acts.displace),
}
FORMS: Mapping[str, Form] = {name: Form(re.compile(pattern), act) for name, (pattern, act) in _EVENTS.items()}
REFUSED = Form(
    re.compile(
        rf"vfio_(?:container_)?dma_map\(\S{{1,20}}, (?P<first>{_HEX}), (?P<size>{_HEX}), \S{{1,20}}\)"
        r" = -(?P<errno>\d{1,5})"
    ),
    acts.refused,
)
BEGINNINGS = {"vfio_realize", "vfio_attach_device", "vfio_device_attach", "iommufd_cdev_connect_and_bind"}
"""What QEMU says first of a device."""
OF_NO_MATTER = {"vfio_pci_write_config"}
"""Events of which most are about something else."""
