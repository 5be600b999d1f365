"""Arm SMMUv3: arm_smmu_evtq_thread, arm_smmu_dump_event, arm_smmu_priq_thread and arm_smmu_cmdq_skip_err of
drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c. Bits of the words: Arm IHI 0070, event records.

One fault takes a heading, four words and, since 6.14, one or two lines that spell them out; all become one event. The
lines of several SMMUs may be mixed: each line carries its SMMU's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_NEEDLE = "arm-smmu-v3"
_LINE = re.compile(r"arm-smmu-v3 (?P<smmu>[\w.:@-]{1,64}): ?(?P<rest>.*)", re.DOTALL)
_HEADING = re.compile(r"event 0x(?P<id>[0-9a-f]{2}) received:")
_WORD = re.compile(r"\s*0x(?P<word>[0-9a-f]{16})\s*$")
_DECODED = re.compile(
    r"event: (?P<event>\w{1,40}) client: (?P<client>\S+|\(unassigned sid\)) sid: (?P<sid>0x[0-9a-f]{1,8})"
    r" ssid: (?P<ssid>0x[0-9a-f]{1,8})(?: iova: (?P<iova>0x[0-9a-f]{1,16}))?"
)
_CLASS = re.compile(r"(?:un)?priv (?:inst|data) (?P<access>read|write) s(?P<stage>[12]) ")
_OVERFLOW = re.compile(r"(?P<queue>EVTQ|PRIQ) overflow detected")
_COMMAND = re.compile(r"CMDQ error \(cons 0x[0-9a-f]{1,8}\): (?P<what>[A-Za-z][\w ]{1,40})")

_NAMES = {
    0x01: "F_UUT", 0x02: "C_BAD_STREAMID", 0x03: "F_STE_FETCH", 0x04: "C_BAD_STE", 0x05: "F_BAD_ATS_TREQ",
    0x06: "F_STREAM_DISABLED", 0x07: "F_TRANSL_FORBIDDEN", 0x08: "C_BAD_SUBSTREAMID", 0x09: "F_CD_FETCH",
    0x0A: "C_BAD_CD", 0x0B: "F_WALK_EABT", 0x10: "F_TRANSLATION", 0x11: "F_ADDR_SIZE", 0x12: "F_ACCESS",
    0x13: "F_PERMISSION", 0x20: "F_TLB_CONFLICT", 0x21: "F_CFG_CONFLICT", 0x24: "E_PAGE_REQUEST", 0x25: "F_VMS_FETCH",
}  # fmt: skip
_OF_AN_ADDRESS = (0x01, 0x05, 0x07, 0x0B, 0x10, 0x11, 0x12, 0x13, 0x20, 0x24)
_OF_A_STAGE = (0x0B, 0x10, 0x11, 0x12, 0x13)
_NWORDS = 4
_MOST_SMMUS = 64


@dataclass
class _Report:
    """What is known of one fault so far."""

    time: float | None
    texts: list[str]
    id: int | None = None
    words: list[int] = field(default_factory=list)
    decoded: re.Match[str] | None = None
    detail: re.Match[str] | None = None

    def event(self) -> Event:
        raw = _of_words(self.id, self.words)
        if self.decoded is None:
            return Event(kind="iommu-fault", family="smmuv3", text="\n".join(self.texts), time=self.time, **raw)
        found = {name: value for name, value in _of_lines(self.decoded, self.detail).items() if value is not None}
        return Event(
            kind="iommu-fault", family="smmuv3", text="\n".join(self.texts), time=self.time, **{**raw, **found}
        )


def _of_words(number: int | None, words: list[int]) -> dict[str, Any]:
    """An event's fields by its raw words; fewer than four words are a report that was cut."""
    fields: dict[str, Any] = {}
    if number is not None:
        fields["event"] = _NAMES.get(number, f"{number:#04x}")
    if words:
        requester = words[0] >> 32
        fields["bdf"] = bdf.from_requester_id(requester) if requester <= 0xFFFF else None
        fields["pasid"] = words[0] >> 12 & 0xFFFFF if words[0] >> 11 & 1 else None
    if len(words) > 1 and number in _OF_AN_ADDRESS:
        fields["access"] = "read" if words[1] >> 35 & 1 else "write"
    if len(words) > 1 and number in _OF_A_STAGE:
        fields["stage"] = 2 if words[1] >> 39 & 1 else 1
    if len(words) > 2 and number in _OF_AN_ADDRESS:
        fields["address"] = words[2]
    return fields


def _of_lines(decoded: re.Match[str], detail: re.Match[str] | None) -> dict[str, Any]:
    """An event's fields by the lines that the kernel decoded; a substream of 0 is most often none at all."""
    client = decoded["client"]
    return {
        "event": decoded["event"],
        "bdf": bdf.parse(client) if re.fullmatch(BDF, client) else None,
        "pasid": int(decoded["ssid"], 16) or None,
        "address": None if decoded["iova"] is None else int(decoded["iova"], 16),
        "access": None if detail is None else detail["access"],
        "stage": None if detail is None else int(detail["stage"]),
    }


class SmmuV3Decoder:
    """Decodes SMMUv3 reports, one open report an SMMU."""

    needles = ("arm-smmu",)

    def __init__(self) -> None:
        self._open: dict[str, _Report] = {}

    @property
    def idle(self) -> bool:
        return not self._open

    def feed(self, line: Line) -> Sequence[Event] | None:
        match = _LINE.search(line.text) if _NEEDLE in line.text else None
        if match is None:
            return None
        smmu, rest = match["smmu"], match["rest"]
        if word := _WORD.match(rest):
            return self._word(smmu, line, int(word["word"], 16))
        if heading := _HEADING.match(rest):
            return self._start(smmu, _Report(line.time, [line.text], id=int(heading["id"], 16)))
        if decoded := _DECODED.match(rest):
            return self._decoded(smmu, line, decoded)
        if detail := _CLASS.match(rest):
            return self._detail(smmu, line, detail)
        return self._other(smmu, line, rest)

    def _start(self, smmu: str, report: _Report) -> Sequence[Event]:
        done = self._close(smmu)
        if len(self._open) >= _MOST_SMMUS:
            done += self._close(next(iter(self._open)))
        self._open[smmu] = report
        return done

    def _word(self, smmu: str, line: Line, word: int) -> Sequence[Event]:
        report = self._open.get(smmu)
        if report is not None and report.id is not None and len(report.words) < _NWORDS and report.decoded is None:
            report.words.append(word)
            report.texts.append(line.text)
        return ()

    def _decoded(self, smmu: str, line: Line, decoded: re.Match[str]) -> Sequence[Event]:
        report = self._open.get(smmu)
        done: Sequence[Event] = ()
        if report is None or report.decoded is not None or not _same(report, decoded):
            report = _Report(line.time, [])
            done = self._start(smmu, report)
        report.decoded = decoded
        report.texts.append(line.text)
        return done if decoded["iova"] is not None else [*done, *self._close(smmu)]

    def _detail(self, smmu: str, line: Line, detail: re.Match[str]) -> Sequence[Event]:
        report = self._open.get(smmu)
        if report is None or report.decoded is None:
            return ()
        report.detail = detail
        report.texts.append(line.text)
        return self._close(smmu)

    def _other(self, smmu: str, line: Line, rest: str) -> Sequence[Event] | None:
        if match := _OVERFLOW.match(rest):
            name = match["queue"]
            lost = Event(kind="overflow", family="smmuv3", text=line.text, time=line.time, overflow=True, event=name)
            return [*self._close(smmu), lost]
        if match := _COMMAND.match(rest):
            what = match["what"].strip()
            failed = Event(kind="iommu-fault", family="smmuv3", text=line.text, time=line.time, event=what)
            return [*self._close(smmu), failed]
        return None

    def _close(self, smmu: str) -> list[Event]:
        report = self._open.pop(smmu, None)
        return [] if report is None else [report.event()]

    def finish(self) -> Sequence[Event]:
        done = [report.event() for report in self._open.values()]
        self._open.clear()
        return done


def _same(report: _Report, decoded: re.Match[str]) -> bool:
    """The decoded line tells of the words before it: the same stream, where there are words."""
    return not report.words or report.words[0] >> 32 == int(decoded["sid"], 16)
