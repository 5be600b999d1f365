"""BARs exported as dma-bufs, so that another device's address space can hold them: VFIO_DEVICE_FEATURE_DMA_BUF.

Source: drivers/vfio/pci/vfio_pci_dmabuf.c. An export is *revoked* when its memory cannot be reached: memory decode
off, D3hot, low power, reset, close of the device. While revoked it cannot be mapped (ENODEV). A mapping in an IOAS does
not come back with it: it has to be unmapped and made anew (drivers/iommu/iommufd/pages.c, iopt_revoke_notify).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dmaproof.vfio import layouts
from dmaproof.vfio.device import Device, Feature

_FLAGS = os.O_RDWR | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Part:
    """``nbytes`` of a BAR from ``offset``; both are whole pages, or the export is refused with EINVAL."""

    offset: int
    nbytes: int


class DmaBuf:
    """An exported dma-buf: ``fd``, and the parts of BAR ``index`` of ``bdf`` that it stands for, one after another."""

    def __init__(self, fd: int, bdf: str, index: int, parts: tuple[Part, ...]) -> None:
        self.fd, self.bdf, self.index, self.parts = fd, bdf, index, parts

    @property
    def nbytes(self) -> int:
        """As the kernel says it, by seeking to the end (Documentation/driver-api/dma-buf.rst)."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def offered(device: Device) -> bool:
    """Whether the kernel can export this device's BARs."""
    return device.offers(Feature.DMA_BUF)


def export(device: Device, index: int, parts: Sequence[Part] | None = None) -> DmaBuf:
    """BAR ``index`` of ``device``, whole or in ``parts``. Raises IoctlError: EINVAL for parts outside the BAR or of
    broken pages, ENODEV for no such BAR, ENOTTY from a kernel without it (before 6.19, or CONFIG_VFIO_PCI_DMABUF)."""
    chosen = (Part(0, device.region(index).nbytes),) if parts is None else tuple(parts)
    fd = device.feature(Feature.DMA_BUF, payload(index, chosen))
    return DmaBuf(fd, device.bdf, index, chosen)


def payload(index: int, parts: Sequence[Part]) -> bytes:
    """What follows the feature's header: the request, then its ranges."""
    request = layouts.DmaBuf(region_index=index, open_flags=_FLAGS, nr_ranges=len(parts))
    return bytes(request) + b"".join(bytes(layouts.Range(one.offset, one.nbytes)) for one in parts)
