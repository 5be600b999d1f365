"""ATS and shared virtual addressing that could not be set up: nv_pci_probe of
kernel-open/nvidia/nv-pci.c (open-gpu-kernel-modules 595), arm_smmu_enable_ats and arm_smmu_enable_pasid of
drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, and the like of other IOMMU drivers.

``reason`` is the errno (19: ENODEV), ``event`` what was to be enabled.
"""

from __future__ import annotations

import re

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, FormsDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_SVA = re.compile(
    rf"NVRM: (?:GPU (?P<bdf>{BDF}): )?Enabling SMMU (?P<what>SVA) feature failed"
    r"(?:! ret: -?(?P<errno>\d{1,5})| due to)"
)
_ATS = re.compile(
    rf"(?:(?P<bdf>{BDF}): )?(?:[\w-]{{1,20}}: )?[Ff]ailed to enable (?P<what>ATS|PASID|PRI|SVA)\b"
    r"(?:[^\n]{0,80}?[:= (]-(?P<errno>\d{1,5})\b)?"
)


def _failed(match: re.Match[str], line: Line) -> Event:
    return Event(
        kind="ats-setup",
        family="nvidia" if "SMMU SVA feature" in line.text else None,
        text=line.text,
        time=line.time,
        bdf=None if match["bdf"] is None else bdf.parse(match["bdf"]),
        reason=None if match["errno"] is None else int(match["errno"]),
        event=match["what"],
    )


FORMS = (Form("SMMU SVA feature failed", _SVA, _failed), Form("ailed to enable ", _ATS, _failed))


class AtsSetupDecoder(FormsDecoder):
    """Decodes failures to set up ATS; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS, ("NVRM: ", "ailed to enable "))
