"""The types of an IOMMU snapshot (dmaproof.pci.iommu.snapshot); ``dataclasses.asdict`` makes JSON of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmaproof.pci.capability import Acs, Ats, Missing

Family = Literal["vtd", "amdvi", "smmuv3", "smmuv2", "virtio-iommu", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class IommuDevice:
    """One IOMMU instance as ``/sys/class/iommu`` names it, and the PCI functions behind it."""

    name: str
    family: Family
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReservedRegion:
    """Bus addresses that are never mapped: first and last, and why (direct, direct-relaxable, reserved, msi)."""

    first: int
    last: int
    type: str


@dataclass(frozen=True, slots=True)
class Group:
    """An IOMMU group; ``type`` is its default domain (DMA, DMA-FQ, identity, blocked, ..), None where unreadable.

    ``endpoints`` are those of ``members`` that are no bridges.
    """

    number: int
    type: str | None
    members: tuple[str, ...]
    endpoints: tuple[str, ...]
    reserved: tuple[ReservedRegion, ...] | None


@dataclass(frozen=True, slots=True)
class Hop:
    """One function on the way from an endpoint to its root port. ``readable``: its capability lists were read whole."""

    bdf: str
    readable: bool
    lost: bool
    acs: Acs | Missing
    ats: Ats | Missing

    @property
    def acs_text(self) -> str:
        return self.acs if isinstance(self.acs, str) else " ".join(self.acs.control) or "off"

    @property
    def ats_text(self) -> str:
        return self.ats if isinstance(self.ats, str) else "on" if self.ats.enabled else "off"


@dataclass(frozen=True, slots=True)
class EndpointPath:
    """The endpoint itself first, its root port last."""

    endpoint: str
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IommuState:
    """A snapshot; ``command_line`` and ``tables`` hold only what bears on DMA; ``summary`` is for people."""

    family: Family
    devices: tuple[IommuDevice, ...]
    groups: tuple[Group, ...]
    command_line: tuple[str, ...] | None
    tables: tuple[str, ...]
    paths: tuple[EndpointPath, ...]
    summary: tuple[str, ...] = ()

    @property
    def domain_types(self) -> tuple[str, ...]:
        """The default domain types in use, unreadable ones left out."""
        return tuple(sorted({group.type for group in self.groups if group.type is not None}))
