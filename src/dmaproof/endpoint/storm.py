"""Workload: a storm of refused DMAs. What an IOMMU and its kernel make of thousands a second is a test of both.

An edu does ten transfers a second, whatever their size (its timer); an iommu-testdev does one a register access.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from dmaproof import progress
from dmaproof.endpoint.mmio import registers
from dmaproof.endpoint.testdev import TestDevice

_TELL_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Storm:
    """``writer`` wrote ``count`` times, round and round over ``npages`` pages from ``address``; it was told no
    ``refused`` times: by the IOMMU, or because nothing is there. ``seconds`` is for all of them."""

    writer: str
    address: int
    npages: int
    count: int
    refused: int
    seconds: float


def storm(writer: str, address: int, count: int, npages: int = 1) -> Storm:
    """iommu-testdev ``writer`` writes ``count`` words to pages that are not mapped for it. The caller knows that
    nothing is there: where the IOMMU lets them pass, they land."""
    refused = 0
    began = time.monotonic()
    with registers(writer) as mapped:
        device = TestDevice(mapped, writer)
        for number in range(count):
            if npages > 1 or number == 0:
                device.aim(address + number % npages * 4096)
            refused += not device.write()
            if (number + 1) % _TELL_EVERY == 0:
                progress.note("storm", written=number + 1, refused=refused)
    seconds = time.monotonic() - began
    return Storm(writer=writer, address=address, npages=npages, count=count, refused=refused, seconds=seconds)
