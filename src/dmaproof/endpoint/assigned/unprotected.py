"""Workloads: no-IOMMU mode, which is refused unless allowed, and then works and taints the kernel."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dmaproof.endpoint import ram
from dmaproof.endpoint.edu import Edu
from dmaproof.errors import DmaproofError, IoctlError, Unsupported
from dmaproof.vfio import command, container, noiommu
from dmaproof.vfio.bind import bound, kept_journal
from dmaproof.vfio.iommufd import BoundDevice, Iommufd

_NBYTES = 64


@dataclass(frozen=True, slots=True)
class Refused:
    """Why ``bdf`` could not be bound with the mode off; None: it was."""

    reason: str | None


def refused(bdf: str) -> Refused:
    """Try to have ``bdf``, which has no IOMMU, with the mode off. Raises Unsupported where the kernel has no such mode,
    or an IOMMU."""
    _need_no_iommu(bdf)
    with kept_journal() as ours:
        noiommu.allow(ours, False)
        try:
            with bound((bdf,)):
                return Refused(None)
        except DmaproofError as error:
            return Refused(str(error))


@dataclass(frozen=True, slots=True)
class Unprotected:
    """``group`` is the file under /dev/vfio; ``cdev`` says what becomes of binding by the cdev: ``works``, ``no cdev``,
    or the errno. ``wrote``, ``read``: DMA by physical addresses."""

    group: str
    tainted_before: bool
    tainted: bool
    cdev: str
    wrote: bool
    read: bool


def unprotected(bdf: str) -> Unprotected:
    """edu ``bdf`` in no-IOMMU mode: DMA to a page by its physical address. Raises Unsupported, as ``refused`` does."""
    _need_no_iommu(bdf)
    before = noiommu.tainted()
    with ExitStack() as made:
        noiommu.allow(made.enter_context(kept_journal()), True)
        page = made.enter_context(ram.page())
        made.enter_context(bound((bdf,)))
        cdev = _cdev(bdf)
        _, (device,) = made.enter_context(container.opened((bdf,), "no-iommu"))
        command.set_bus_master(device, True)
        edu = Edu(made.enter_context(device.bar(0)), bdf)
        sent = secrets.token_bytes(_NBYTES)
        page.fill(sent)
        edu.from_memory(page.physical, _NBYTES)
        edu.to_memory(page.physical + _NBYTES, _NBYTES)
        arrived = page.read()[_NBYTES : 2 * _NBYTES]
        return Unprotected(
            group=container.group_name(bdf),
            tainted_before=before,
            tainted=noiommu.tainted(),
            cdev=cdev,
            wrote=any(arrived),
            read=arrived == sent,
        )


def _cdev(bdf: str) -> str:
    """What iommufd says to a function without an IOMMU: up to 7.2 it has no cdev, or refuses it."""
    try:
        with Iommufd() as iommufd, BoundDevice(bdf, iommufd):
            return "works"
    except IoctlError as error:
        return error.name
    except Unsupported:
        return "no cdev"


def _need_no_iommu(bdf: str) -> None:
    if Path("/sys/bus/pci/devices", bdf, "iommu_group").exists():
        raise Unsupported(f"{bdf} has an IOMMU: no-IOMMU mode is for functions without one")
