"""Workload: may an endpoint be used again? Asked in a fresh process, after a failure."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.endpoint import nvme
from dmaproof.endpoint.edu import Edu
from dmaproof.endpoint.mmio import ROOT, registers
from dmaproof.endpoint.testdev import TestDevice
from dmaproof.errors import EndpointError
from dmaproof.pci import config


@dataclass(frozen=True, slots=True)
class Answer:
    """An endpoint that answered: ``told`` is how it was found to."""

    bdf: str
    told: str


def probe(bdf: str, kind: str) -> Answer:
    """Ask endpoint ``bdf`` (``kind`` as in a rig file: edu, nvme, igb, iommu-testdev). Raises EndpointError."""
    state = config.state(ROOT, bdf)
    if state != "present":
        raise EndpointError(f"{bdf}: its configuration space is {state}")
    if kind == "edu":
        with registers(bdf) as mapped:
            Edu(mapped, bdf).check()
        return Answer(bdf, "its liveness register holds the complement of what was written")
    if kind == "iommu-testdev":
        with registers(bdf) as mapped:
            TestDevice(mapped, bdf).check()
        return Answer(bdf, "its registers hold what was written")
    if kind == "nvme":
        with nvme.scratch(bdf, nvme.BLOCK_NBYTES):
            return Answer(bdf, "its first block can be read")
    return Answer(bdf, "its configuration space answers")
