"""An IOMMU: a domain a device, what is mapped in it, and the stage-2 view that ATS answers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Access = Literal["read", "write"]
PAGE_NBYTES = 0x1000
_32_BIT = 1 << 32
_47_BIT = 1 << 47


@dataclass(frozen=True, slots=True)
class Mapping:
    """``nbytes`` at ``iova`` reach bus address ``address``."""

    iova: int
    nbytes: int
    address: int

    def holds(self, iova: int) -> bool:
        return self.iova <= iova < self.iova + self.nbytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A DMA that the IOMMU refused, at ``address``."""

    requester: str
    address: int
    access: Access


@dataclass(slots=True)
class Domain:
    """One translated domain. Addresses are given top down, below 4 GiB first (drivers/iommu/dma-iommu.c)."""

    mappings: list[Mapping] = field(default_factory=list)
    _low: int = _32_BIT
    _high: int = _47_BIT

    def map(self, address: int, nbytes: int) -> int:
        """The IOVA that now stands for ``nbytes`` at bus address ``address``."""
        if nbytes <= self._low - PAGE_NBYTES:
            self._low = iova = (self._low - nbytes) & -PAGE_NBYTES
        else:
            self._high = iova = (self._high - nbytes) & -PAGE_NBYTES
        self.mappings.append(Mapping(iova, nbytes, address))
        return iova

    def unmap(self, iova: int) -> None:
        """Removes the mapping that starts at ``iova``."""
        self.mappings = [one for one in self.mappings if one.iova != iova]

    def translate(self, iova: int) -> int | None:
        found = next((one for one in self.mappings if one.holds(iova)), None)
        return None if found is None else found.address + iova - found.iova


@dataclass(slots=True)
class Iommu:
    """``domains`` has an entry a device in a translated domain; any other device's DMA passes as it is.

    ``stage2`` are the ranges of system addresses that translations may end in: on a host all that firmware declares,
    in a guest what its hypervisor mapped. An ATS request for an address outside is answered with "no access", without
    a record: the endpoint asked, nothing was refused (PCIe 10.2.3; arm-smmu-v3 logs no event for it). No mapping may
    lead into ``reserved`` ranges, which the groups' reserved_regions show.
    """

    domains: dict[str, Domain] = field(default_factory=dict)
    stage2: list[range] = field(default_factory=list)
    reserved: list[range] = field(default_factory=list)

    def translate(self, requester: str, address: int, access: Access) -> int | Fault:
        domain = self.domains.get(requester)
        if domain is None:
            return address
        translated = domain.translate(address)
        return Fault(requester, address, access) if translated is None else translated

    def answers_ats(self, address: int) -> bool:
        return any(address in one for one in self.stage2)

    def is_reserved(self, address: int, nbytes: int) -> bool:
        """Whether a mapping of ``nbytes`` at bus address ``address`` would touch what is reserved."""
        return any(one.start < address + nbytes and address < one.stop for one in self.reserved)
