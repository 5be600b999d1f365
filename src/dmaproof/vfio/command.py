"""What a driver sets in configuration space: memory decode, bus mastering, the power state (PCIe 6.0, 7.5.1-2)."""

from __future__ import annotations

import time
from typing import Literal

from dmaproof.errors import DmaproofError
from dmaproof.vfio.device import Device

COMMAND = 0x04
_STATUS, _CAPABILITIES = 0x06, 0x34
_MEMORY, _MASTER, _HAS_LIST = 1 << 1, 1 << 2, 1 << 4
_POWER_MANAGEMENT = 0x01
_PMCSR, _STATE = 4, 3
_TRANSITION_S = 0.01  # PCIe 6.0, 5.9: 10 ms for any step to or from D3hot

PowerState = Literal["D0", "D3hot"]
_STATES: dict[PowerState, int] = {"D0": 0, "D3hot": 3}


def set_memory_decode(device: Device, on: bool) -> None:
    """Off, the BARs answer nobody, and the kernel revokes the function's dma-bufs."""
    _set_command(device, _MEMORY, on)


def set_bus_master(device: Device, on: bool) -> None:
    """VFIO hands a function over with bus mastering off: without it there is no DMA."""
    _set_command(device, _MASTER, on)


def _set_command(device: Device, bit: int, on: bool) -> None:
    command = device.read_config(COMMAND, 2)
    device.write_config(COMMAND, 2, command | bit if on else command & ~bit)


def power_management(device: Device) -> int | None:
    """The offset of the power management capability, or None where the function has none."""
    if not device.read_config(_STATUS, 2) & _HAS_LIST:
        return None
    at = device.read_config(_CAPABILITIES, 1) & ~3
    for _ in range(48):  # as many as fit: a list in a loop ends too
        if not at:
            return None
        if device.read_config(at, 1) == _POWER_MANAGEMENT:
            return at
        at = device.read_config(at + 1, 1) & ~3
    return None


def set_power_state(device: Device, state: PowerState) -> None:
    """Through the power management capability. Raises DmaproofError where there is none."""
    at = power_management(device)
    if at is None:
        raise DmaproofError(f"{device.bdf} has no power management capability: it cannot be put into {state}")
    old = device.read_config(at + _PMCSR, 2)
    device.write_config(at + _PMCSR, 2, old & ~_STATE | _STATES[state])
    time.sleep(_TRANSITION_S)
