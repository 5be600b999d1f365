"""A link that trained below what its device can do: __pcie_print_link_status of drivers/pci/pci.c.

``event`` is the link as it is, ``5.0 GT/s x4 at 0000:00:1c.0`` (the port that limits); the text has both figures.
"""

from __future__ import annotations

import re

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, FormsDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_LIMITED = re.compile(
    rf"(?P<bdf>{BDF}): [\d.]{{1,12}} Gb/s available PCIe bandwidth, limited by "
    rf"(?P<speed>[\d.]{{1,6}} GT/s|Unknown(?: speed)?)(?: PCIe)?"
    rf" x(?P<width>\d{{1,2}}) link at (?P<port>{BDF}|<unknown>)"
)


def _limited(match: re.Match[str], line: Line) -> Event:
    return Event(
        kind="link",
        family="pcie",
        text=line.text,
        time=line.time,
        bdf=bdf.parse(match["bdf"]),
        event=f"{match['speed']} x{match['width']} at {match['port']}",
    )


FORMS = (Form("available PCIe bandwidth, limited", _LIMITED, _limited),)


class LinkDecoder(FormsDecoder):
    """Decodes the kernel's lines about limited links; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS)
