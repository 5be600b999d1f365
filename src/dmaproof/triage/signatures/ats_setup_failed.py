"""ATS was meant and did not come to be: the kernel refused to enable SVA for the GPU, so UVM falls back.

ATS is parameter, platform and kernel SVA together (uvm_ats.c); the driver says one line while it loads and goes on
(``Enabling SMMU SVA feature failed! ret: -19``, kernel-open/nvidia/nv-pci.c). Programs then run, slower or not at all.
"""

from __future__ import annotations

from dmaproof.evidence.fact import AddressingSeen
from dmaproof.triage import about
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Read `dmesg | grep -iE 'SVA|SMMU|ATS'` from the driver's load on. The kernel needs CONFIG_IOMMU_SVA and "
    "CONFIG_ARM_SMMU_V3_SVA=y (`zgrep SVA /proc/config.gz`), its command line no pci=noats, the module no "
    "uvm_ats_mode=0 (`cat /sys/module/nvidia_uvm/parameters/uvm_ats_mode`), and firmware must say that the SMMU's "
    "root complex supports ATS (IORT). -19 is ENODEV: the SMMU or the function lacks ATS, PRI or PASID; compare "
    "`lspci -vvs <GPU>`: ATSCtl Enable+. Then reload the driver and look at `nvidia-smi -q | grep -i addressing`."
)


def _match(case: Case) -> Finding | None:
    """A state of the whole session: the driver says it once, when it loads."""
    lines = tuple(one for one in (*case.session, *case.evidence) if one.kind == "ats-setup")
    lines = tuple(one for one in lines if case.concerns(about.device(one)))
    differing = [(one, fact) for one, fact in case.facts(AddressingSeen) if case.concerns(fact.bdf) and _fell(fact)]
    if not differing and (not lines or _is_ats_after_all(case)):
        return None
    told = [_told(fact) for _, fact in differing]
    return Finding(
        confidence="certain" if differing and lines else "probable",
        summary="; ".join(told) if told else f"the driver could not set ATS up: {lines[0].text}",
        evidence=(*lines, *(one for one, _ in differing)),
    )


def _fell(seen: AddressingSeen) -> bool:
    return seen.declared == "ats" and any(found not in (None, "ats") for found in (seen.by_attributes, seen.by_nvml))


def _is_ats_after_all(case: Case) -> bool:
    """A line that an earlier load of the driver left, or a rig that never claimed ATS."""
    seen = [fact for _, fact in case.facts(AddressingSeen) if case.concerns(fact.bdf)]
    return bool(seen) or case.node.addressing in ("none", "hmm")


def _told(seen: AddressingSeen) -> str:
    ways = (("the device attributes say", seen.by_attributes), ("NVML says", seen.by_nvml))
    found = ", ".join(f"{who} {what}" for who, what in ways if what is not None)
    return f"{seen.bdf} does not use ATS though the rig declares it: {found}"


SIGNATURE = Signature(
    id="ats-setup-failed",
    title="ATS was declared and could not be set up: the GPU does not read the CPU's page tables.",
    needs="The driver's line that SVA could not be enabled, or a declared ATS that the GPU and NVML do not confirm.",
    excludes="A rig that declares no ATS, and a GPU that turns out to use it.",
    remedy=_REMEDY,
    references=(
        "open-gpu-kernel-modules kernel-open/nvidia/nv-pci.c: iommu_dev_enable_feature(IOMMU_DEV_FEAT_SVA)",
        "open-gpu-kernel-modules kernel-open/nvidia-uvm/uvm_ats.c",
    ),
    match=_match,
)
