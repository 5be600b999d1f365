"""Downstream Port Containment: a fatal error on a link takes the link down, and the kernel fails to bring back what is
under it (drivers/pci/pcie/dpc.c, err.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmaproof.virtual.machine import aer
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.kmsg import INFO, WARNING
from dmaproof.virtual.machine.topology import functions

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine

_STATUS = 0x1F01  # triggered, by an error that the port itself saw


def contain(machine: Machine, gpu: GpuModel) -> None:
    """``gpu``'s link went down; where that was its port's doing, the kernel tells of it before anybody else does."""
    port = next((one for one in functions(machine.node) if one.bdf == gpu.rig.port and one.has_dpc), None)
    if gpu.link.fatal is None or port is None:
        return
    log, above = machine.log, f"pcieport {port.bdf}"
    event = f"containment event, status:{_STATUS:#06x}: unmasked uncorrectable error detected"
    log.write(f"{above}: DPC: {event}", WARNING, port.bdf)
    aer.fatal(machine, port, gpu.link.fatal)
    log.write(f"nvidia {gpu.bdf}: AER: can't recover (no error_detected callback)", INFO, gpu.bdf)
    log.write(f"{above}: Data Link Layer Link Active not set in 100 msec", INFO, port.bdf)
    log.write(f"{above}: AER: subordinate device reset failed", WARNING, port.bdf)
    log.write(f"{above}: AER: device recovery failed", INFO, port.bdf)
