"""Machines as trees of bridges, numbered as firmware numbers them, and the rig tables that claim them.

The numbering here is written after SeaBIOS, bus by bus over bridges (src/fw/pciinit.c), knowing nothing of rigs: the
package computes it from the rig's tables instead, and the two must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st


@dataclass
class Device:
    """Something in a slot; a bridge where ``below`` is not None."""

    slot: int
    below: list[Device] | None = None
    bus: int = -1
    numa_node: int | None = None

    @property
    def bdf(self) -> str:
        return f"0000:{self.bus:02x}:{self.slot:02x}.0"


@dataclass
class Machine:
    roots: dict[int, list[Device]] = field(default_factory=dict)
    """Root ports by root bus."""


def number(devices: list[Device], bus: int, last: int) -> int:
    """Give ``devices`` on ``bus`` and all below them their buses; ``last`` is the last number given, returned anew."""
    for device in sorted(devices, key=lambda one: one.slot):
        device.bus = bus
        if device.below is not None:
            last += 1
            last = number(device.below, last, last)
    return last


def tables(machine: Machine) -> dict[str, Any]:
    """The node's ``endpoint`` and ``switch`` tables."""
    endpoints: dict[str, dict[str, Any]] = {}
    switches: dict[str, dict[str, Any]] = {}
    for port in (port for ports in machine.roots.values() for port in ports):
        (below,) = port.below or ()
        if below.below is None:
            endpoints[f"e{len(endpoints)}"] = _endpoint(below, port)
            continue
        switches[f"s{len(switches)}"] = {
            "port": port.bdf,
            "upstream": below.bdf,
            "downstream": [one.bdf for one in below.below],
        }
        for inner in below.below:
            for end in inner.below or ():
                endpoints[f"e{len(endpoints)}"] = _endpoint(end, inner)
    return {"endpoint": endpoints, "switch": switches}


def _endpoint(device: Device, port: Device) -> dict[str, Any]:
    return {"kind": "edu", "bdf": device.bdf, "port": port.bdf}


def _slots(low: int, high: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), unique=True, min_size=1, max_size=most)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Up to three root buses, each with ports of endpoints and of switches in any slots."""
    machine, last = Machine(), -1
    for nth in range(draw(st.integers(1, 3))):
        bus = 0 if nth == 0 and draw(st.booleans()) else last + 1 + draw(st.integers(0 if nth else 1, 9))
        ports = [Device(slot, [draw(_ends())]) for slot in draw(_slots(1, 0x1E, 4))]
        last = number(ports, bus, bus)
        machine.roots[bus] = ports
    return machine


@st.composite
def _ends(draw: st.DrawFn) -> Device:
    if draw(st.booleans()):
        return Device(0)
    ports = [Device(slot, [Device(0)] if draw(st.booleans()) else []) for slot in draw(_slots(0, 0x1F, 4))]
    return Device(0, ports)
