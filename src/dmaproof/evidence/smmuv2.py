"""Arm SMMU before version 3: arm_smmu_context_fault, arm_smmu_print_context_fault_info and arm_smmu_global_fault of
drivers/iommu/arm/arm-smmu/arm-smmu.c, and the copies of its implementations (NVIDIA, Qualcomm).

The stream id of these SMMUs is a machine's own numbering: no PCI function is read out of it.
"""

from __future__ import annotations

import re

from dmaproof.evidence.decoder import Form, FormsDecoder, context, hexadecimal
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_CONTEXT = re.compile(
    r"Unhandled context fault: (?:smmu\d+ )?fsr=(?P<fsr>0x[0-9a-f]{1,8}), ?iova=(?P<iova>0x[0-9a-f]{1,16})"
    r"(?:, ?fsynr=(?P<fsynr>0x[0-9a-f]{1,8}))?",
    re.IGNORECASE,
)
_GLOBAL = re.compile(
    r"arm-smmu.{0,80}(?P<what>Unexpected global fault|Blocked unknown Stream ID 0x[0-9a-f]{1,8})", re.IGNORECASE
)
_DETAIL = re.compile(r"arm-smmu .*(?:\bFSR +=|\bFSYNR0 +=|GFSR 0x)")

_WRITE_NOT_READ = 1 << 4  # FSYNR0.WNR
# FSR, lowest bit first.
_NAMES = {1: "TF", 2: "AFF", 3: "PF", 4: "EF", 5: "TLBMCF", 6: "TLBLKF", 7: "ASF", 8: "UUT", 30: "SS", 31: "MULTI"}


def _fault(match: re.Match[str], line: Line) -> Event:
    fsr, fsynr = int(match["fsr"], 16), hexadecimal(match["fsynr"])
    return Event(
        kind="iommu-fault",
        family="smmuv2",
        text=line.text,
        time=line.time,
        address=int(match["iova"], 16),
        access=None if fsynr is None else "write" if fsynr & _WRITE_NOT_READ else "read",
        reason=fsr,
        event=",".join(name for bit, name in _NAMES.items() if fsr >> bit & 1) or None,
    )


def _global(match: re.Match[str], line: Line) -> Event:
    name = "UNKNOWN_STREAM" if match["what"].startswith("Blocked") else "GLOBAL_FAULT"
    return Event(kind="iommu-fault", family="smmuv2", text=line.text, time=line.time, event=name)


FORMS = (
    Form("context fault: ", _CONTEXT, _fault),
    Form("nexpected global fault", _GLOBAL, _global),
    Form("Blocked unknown Stream ID", _GLOBAL, _global),
    Form("arm-smmu ", _DETAIL, context),
)


class SmmuV2Decoder(FormsDecoder):
    """Decodes faults of SMMUs before version 3; the lines that follow one only spell its registers out."""

    def __init__(self) -> None:
        super().__init__(FORMS, ("arm-smmu", "context fault: "))
