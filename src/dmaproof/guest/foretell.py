"""What making a guest would change on the node that it is made on: the workload of a dry run, which changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dmaproof.errors import DmaproofError
from dmaproof.guest import hosting, hugepages
from dmaproof.guest.machine import Machine, command
from dmaproof.vfio.bind import loadable, planned
from dmaproof.vfio.plan import VFIO_PCI
from dmaproof.vfio.sysfs import PCI


@dataclass(frozen=True, slots=True)
class Foretold:
    """``changes``: a line each, in order. ``refusals``: why it would not be done. ``command``: QEMU's, complete."""

    changes: tuple[str, ...]
    refusals: tuple[str, ...]
    command: tuple[str, ...]


def foretell(machine: Machine) -> Foretold:
    """What dmaproof.guest.hosting.start would do with ``machine`` now."""
    changes, refusals, qemu = list[str](), list[str](), tuple[str, ...]()
    try:
        if (lacks := hosting.lacking(machine)) is not None:
            refusals.append(lacks)
        qemu = tuple(command(machine))
        if machine.functions:
            refusals += _lacking()
            plan = planned(machine.functions, may=machine.may)
            changes += plan.changes
            refusals += plan.refusals
        if machine.pages is not None and (change := hugepages.raised_to(machine.pages)):
            changes.append(f"{change[0]}: -> {change[1]}")
    except DmaproofError as error:
        refusals.append(str(error))
    return Foretold(tuple(changes), tuple(refusals), qemu)


def _lacking() -> list[str]:
    """What this process or this kernel lacks for binding anything."""
    lacking = []
    if not loadable(VFIO_PCI):
        lacking.append(f"this kernel has no driver {VFIO_PCI}, and it cannot be loaded as a module")
    if not os.access(PCI / "drivers_probe", os.W_OK):
        lacking.append(f"{PCI}/drivers_probe cannot be written: binding functions to {VFIO_PCI} needs root")
    return lacking
