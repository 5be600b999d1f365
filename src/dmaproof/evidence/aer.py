"""PCIe Advanced Error Reporting: aer_print_source, aer_print_error and pci_print_aer of drivers/pci/pcie/aer.c.

One error takes several lines: the root port's message, the device's ``PCIe Bus Error``, its status and mask, one line
an error bit, and for some errors the header of the packet. All become one event of the device that saw the error:
severity, the errors' names in today's spelling whichever the log has, ``reason`` the unmasked status, and where a
memory request is at fault its address. Lines of several devices may be mixed, each carries its device's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

Severity = Literal["correctable", "nonfatal", "fatal"]

_SEVERITY = r"(?P<severity>Correct(?:able|ed)|Uncorrect(?:able|ed) \((?:Non-)?Fatal\))"
# "Corrected error received: id=00e5" up to 4.16, "..: 0000:00:1c.5" to 6.13, "Correctable error message received from".
_MESSAGE = re.compile(
    rf"AER: (?:Multiple )?{_SEVERITY} error(?: message)? received(?: from|:)"
    rf" (?:id=(?P<id>[0-9a-f]{{4}})|(?P<bdf>{BDF}))"
)
_BUS = re.compile(rf"(?P<bdf>{BDF}): (?:AER: )?PCIe Bus Error: severity={_SEVERITY}, type=(?P<type>[A-Za-z ]{{1,40}})")
_STATUS = re.compile(
    rf"(?P<bdf>{BDF}): (?:AER: )? *(?:device \[[0-9a-f]{{4}}:[0-9a-f]{{4}}\] error status/mask=|aer_status: 0x)"
    r"(?P<status>[0-9a-f]{8})(?:/|, aer_mask: 0x)(?P<mask>[0-9a-f]{8})"
)
_BIT = re.compile(
    rf"(?P<bdf>{BDF}): (?:AER: )?  +\[ ?(?P<bit>\d{{1,2}})\] "
    r"(?P<name>[A-Z][\w. -]{0,40}?)(?:\s{2}|\s*\(First\)|\s*$)"
)
_HEADER = re.compile(rf"(?P<bdf>{BDF}): (?:AER: )? *TLP Header:(?P<words>(?: (?:0x)?[0-9a-f]{{8}}){{4}})")
_SEVER = re.compile(rf"(?P<bdf>{BDF}): (?:AER: )?aer_uncor_severity: 0x(?P<severity>[0-9a-f]{{8}})")

CORRECTABLE = {
    0: "RxErr", 6: "BadTLP", 7: "BadDLLP", 8: "Rollover", 12: "Timeout", 13: "NonFatalErr", 14: "CorrIntErr",
    15: "HeaderOF",
}  # fmt: skip
UNCORRECTABLE = {
    0: "Undefined", 4: "DLP", 5: "SDES", 12: "TLP", 13: "FCP", 14: "CmpltTO", 15: "CmpltAbrt", 16: "UnxCmplt",
    17: "RxOF", 18: "MalfTLP", 19: "ECRC", 20: "UnsupReq", 21: "ACSViol", 22: "UncorrIntErr", 23: "BlockedTLP",
    24: "AtomicOpBlocked", 25: "TLPBlockedErr", 26: "PoisonTLPBlocked", 27: "DMWrReqBlocked", 28: "IDECheck",
    29: "MisIDETLP", 30: "PCRC_CHECK", 31: "TLPXlatBlocked",
}  # fmt: skip
_WITH_HEADER = 1 << 12 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 24 | 1 << 25
_MOST_OPEN = 64
_NEEDLES = (
    "error message received", "error received: ", "PCIe Bus Error", "error status/mask=", "aer_status: ",
    "aer_uncor_severity", "aer_layer=", "    [", "TLP Header:",
)  # fmt: skip


@dataclass
class _Report:
    """What is known of one device's error so far."""

    bdf: str
    time: float | None
    texts: list[str]
    severity: Severity | None = None
    status: int | None = None
    bits: dict[int, str] = field(default_factory=dict)
    address: int | None = None
    access: Literal["read", "write"] | None = None
    message_only: bool = False
    by_firmware: bool = False

    def wants(self) -> Literal["bits", "header", "nothing"]:
        """What is still to come, as far as the status tells."""
        if self.status is None:
            return "bits"
        if any(self.status >> bit & 1 and bit not in self.bits for bit in range(32)):
            return "bits"
        return "header" if self.severity != "correctable" and self.status & _WITH_HEADER else "nothing"

    def event(self) -> Event:
        severity = self.severity
        if severity is None and self.by_firmware:  # the device's setting of severities is printed for all others
            severity = "correctable"
        names = {} if severity is None else CORRECTABLE if severity == "correctable" else UNCORRECTABLE
        bits = self.bits or {bit: "" for bit in range(32) if (self.status or 0) >> bit & 1}
        return Event(
            kind="aer",
            family="pcie",
            text="\n".join(self.texts),
            time=self.time,
            bdf=self.bdf,
            severity=severity,
            reason=self.status,
            event=",".join(names.get(bit, name or f"bit {bit}") for bit, name in sorted(bits.items())) or None,
            address=self.address,
            access=self.access,
        )


def _severity(text: str) -> Severity:
    if text.startswith("Correct"):
        return "correctable"
    return "nonfatal" if "Non-Fatal" in text else "fatal"


class AerDecoder:
    """Decodes AER reports, one open report a device."""

    needles = _NEEDLES

    def __init__(self) -> None:
        self._open: dict[str, _Report] = {}
        self._handlers = (
            ("PCIe Bus Error", _BUS, self._bus),
            ("received", _MESSAGE, self._message),
            ("status", _STATUS, self._status),
            ("    [", _BIT, self._bit),
            ("TLP Header:", _HEADER, self._header),
            ("aer_uncor_severity", _SEVER, self._sever),
        )

    @property
    def idle(self) -> bool:
        return not self._open

    def feed(self, line: Line) -> Sequence[Event] | None:
        text = line.text
        if not any(needle in text for needle in _NEEDLES):
            return None
        for needle, pattern, handle in self._handlers:
            if needle in text and (match := pattern.search(text)):
                return handle(match, line)
        return () if "aer_layer=" in text else None

    def _start(self, report: _Report) -> list[Event]:
        done = self._close(report.bdf)
        if len(self._open) >= _MOST_OPEN:
            done += self._close(next(iter(self._open)))
        self._open[report.bdf] = report
        return done

    def _message(self, match: re.Match[str], line: Line) -> Sequence[Event]:
        source = bdf.from_requester_id(int(match["id"], 16)) if match["id"] else bdf.parse(match["bdf"])
        report = _Report(source, line.time, [line.text], severity=_severity(match["severity"]), message_only=True)
        return [*self._complete(), *self._start(report)]

    def _bus(self, match: re.Match[str], line: Line) -> Sequence[Event]:
        device, severity = bdf.parse(match["bdf"]), _severity(match["severity"])
        done = self._complete(but=device)
        message = self._message_for(device, severity)
        report = _Report(device, line.time, [line.text], severity=severity)
        if message is not None:
            report.time, report.texts = message.time, [*message.texts, line.text]
        done += self._start(report)
        return [*done, *self._close(device)] if match["type"].startswith("Inaccessible") else done

    def _message_for(self, device: str, severity: Severity) -> _Report | None:
        """The message that announced ``device``'s error: its own, else the only one that waits for details. A root port
        may have lost the number of the bus that an error came from."""
        own = self._open.get(device)
        if own is not None:
            return self._open.pop(device) if own.message_only and own.severity == severity else None
        waiting = [one for one in self._open.values() if one.message_only and one.severity == severity]
        return self._open.pop(waiting[0].bdf) if len(waiting) == 1 else None

    def _status(self, match: re.Match[str], line: Line) -> Sequence[Event]:
        device = bdf.parse(match["bdf"])
        done: list[Event] = []
        report = self._open.get(device)
        if report is None or report.status is not None or report.message_only:
            message = report if report is not None and report.message_only else None
            if message is not None:
                del self._open[device]
            report = message or _Report(device, line.time, [])
            report.message_only = False
            done = self._start(report)
        report.status = int(match["status"], 16) & ~int(match["mask"], 16)
        report.by_firmware = "aer_status" in line.text
        report.texts.append(line.text)
        return done + self._close_if_whole(report)

    def _bit(self, match: re.Match[str], line: Line) -> Sequence[Event] | None:
        report = self._open.get(bdf.parse(match["bdf"]))
        if report is None or report.message_only:
            return None if report is None else ()
        if int(match["bit"]) < 32:
            report.bits[int(match["bit"])] = match["name"].strip()
        report.texts.append(line.text)
        return self._close_if_whole(report)

    def _header(self, match: re.Match[str], line: Line) -> Sequence[Event]:
        report = self._open.get(bdf.parse(match["bdf"]))
        if report is None or report.message_only:
            return ()
        report.address, report.access = request([int(word, 16) for word in match["words"].split()])
        report.texts.append(line.text)
        return self._close(report.bdf) if report.severity is not None else ()

    def _sever(self, match: re.Match[str], line: Line) -> Sequence[Event]:
        """Firmware that handles errors first reports no severity; the device's own setting of each bit tells it."""
        report = self._open.get(bdf.parse(match["bdf"]))
        if report is None or report.status is None:
            return ()
        report.severity = "fatal" if report.status & int(match["severity"], 16) else "nonfatal"
        report.texts.append(line.text)
        return self._close_if_whole(report)

    def _close_if_whole(self, report: _Report) -> list[Event]:
        return self._close(report.bdf) if report.severity is not None and report.wants() == "nothing" else []

    def _complete(self, but: str | None = None) -> list[Event]:
        """Reports that lacked but a packet's header, which then would have been the next line."""
        whole = [one.bdf for one in self._open.values() if one.bdf != but and one.severity and one.wants() == "header"]
        return [event for device in whole for event in self._close(device)]

    def _close(self, device: str) -> list[Event]:
        report = self._open.pop(device, None)
        return [] if report is None else [report.event()]

    def finish(self) -> Sequence[Event]:
        done = [report.event() for report in self._open.values()]
        self._open.clear()
        return done


def request(words: list[int]) -> tuple[int | None, Literal["read", "write"] | None]:
    """The address and the access of a memory request whose TLP header is the four ``words``; None for other packets
    (PCIe base specification, 2.2.1: Fmt in bits 31:29, Type in 28:24; four-word headers have a 64-bit address)."""
    form, kind = words[0] >> 29 & 7, words[0] >> 24 & 0x1F
    if form > 3 or kind not in (0x00, 0x0C, 0x0D, 0x0E):  # memory, FetchAdd, Swap, CAS
        return None, None
    address = (words[2] << 32 | words[3] if form & 1 else words[2]) & ~3
    return address, "write" if form & 2 else "read"
