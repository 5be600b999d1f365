"""Devices that no longer answer: pci_power_up and pci_dev_wait of drivers/pci/pci.c, and
pciehp_handle_presence_or_link_change of drivers/pci/hotplug/pciehp_ctrl.c.

``event`` tells which: ``power-state`` and ``not-ready`` name the device itself, ``link-down`` and ``card-not-present``
the port above it.
"""

from __future__ import annotations

import re

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, FormsDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

# "device inaccessible" since 5.18; "config space inaccessible" before; "Refused to change .." up to 5.4.
_POWER = re.compile(
    rf"(?P<bdf>{BDF}): (?:Unable to change power state from \w+ to \w+, device inaccessible"
    r"|can't change power state from \w+ to \w+ \(config space inaccessible\)"
    r"|[Rr]efused to change power state,? (?:currently in|from) D\w+)"
)
_NOT_READY = re.compile(rf"(?P<bdf>{BDF}): not ready \d{{1,9}}ms after [\w -]{{1,40}}; giving up")
_SLOT = re.compile(
    rf"(?P<bdf>{BDF})(?::pcie?\d+)?: (?:pciehp: )?Slot\([^)]{{1,40}}\): (?P<what>Link Down|Card not present)$"
)


def _lost(name: str, match: re.Match[str], line: Line) -> Event:
    lost = bdf.parse(match["bdf"])
    return Event(kind="device-lost", family="pcie", text=line.text, time=line.time, bdf=lost, event=name)


def _power(match: re.Match[str], line: Line) -> Event:
    return _lost("power-state", match, line)


def _not_ready(match: re.Match[str], line: Line) -> Event:
    return _lost("not-ready", match, line)


def _slot(match: re.Match[str], line: Line) -> Event:
    return _lost("link-down" if match["what"] == "Link Down" else "card-not-present", match, line)


FORMS = (
    Form("change power state", _POWER, _power),
    Form("; giving up", _NOT_READY, _not_ready),
    Form("Slot(", _SLOT, _slot),
)


class DeviceLostDecoder(FormsDecoder):
    """Decodes what the PCI core says of a device that is gone; every line stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS)
