"""What the kernel says of peer-to-peer DMA between two devices: calc_map_type_and_dist and host_bridge_whitelist of
drivers/pci/p2pdma.c.

``bdf`` is the client; the provider is in the text. ``event``: ``acs-redirect`` (the way leads through the root port),
``not-supported``, ``not-whitelisted`` (that host bridge is not known to forward between its ports).
"""

from __future__ import annotations

import re

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, FormsDecoder, context
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_NOT_SUPPORTED = re.compile(rf"(?P<bdf>{BDF}): cannot be used for peer-to-peer DMA as ")
_ACS = re.compile(rf"(?P<bdf>{BDF}): ACS redirect is set between the client and (?:the )?provider")
_BRIDGE = re.compile(rf"(?:(?P<bdf>{BDF}): )?Host bridge not in P2PDMA whitelist: [0-9a-f]{{4}}:[0-9a-f]{{4}}")
_ADVICE = re.compile(r"to disable ACS redirect for this path, add the kernel parameter: ")


def _verdict(name: str, match: re.Match[str], line: Line) -> Event:
    client = None if match["bdf"] is None else bdf.parse(match["bdf"])
    return Event(kind="p2pdma", family="pcie", text=line.text, time=line.time, bdf=client, event=name)


def _not_supported(match: re.Match[str], line: Line) -> Event:
    """Before 5.10 an ACS redirect alone was the reason for it."""
    return _verdict("acs-redirect" if "ACS redirect is set" in line.text else "not-supported", match, line)


def _acs(match: re.Match[str], line: Line) -> Event:
    return _verdict("acs-redirect", match, line)


def _bridge(match: re.Match[str], line: Line) -> Event:
    return _verdict("not-whitelisted", match, line)


FORMS = (
    Form("peer-to-peer DMA as ", _NOT_SUPPORTED, _not_supported),
    Form("ACS redirect is set", _ACS, _acs),
    Form("P2PDMA whitelist", _BRIDGE, _bridge),
    Form("disable ACS redirect", _ADVICE, context),
)


class P2pdmaDecoder(FormsDecoder):
    """Decodes p2pdma verdicts; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS, ("peer-to-peer DMA as ", "ACS redirect", "P2PDMA whitelist"))
