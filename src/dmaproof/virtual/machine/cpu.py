"""What a node's /proc/cpuinfo shows of its first processor: as much as tells its kind."""

from __future__ import annotations

from dmaproof.rig.model import Node

_ARM = ("smmuv3", "smmuv2")
_INTEL = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "143"}  # Sapphire Rapids
_AMD = {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17"}  # Genoa
_NEOVERSE = {"CPU implementer": "0x41", "CPU architecture": "8", "CPU part": "0xd4f"}  # V2


def is_arm(node: Node) -> bool:
    """By its IOMMU: no rig says it otherwise."""
    return node.iommu.family in _ARM


def cpuinfo(node: Node) -> str:
    """In the form of show_cpuinfo (arch/x86/kernel/cpu/proc.c), or of c_show (arch/arm64/kernel/cpuinfo.c)."""
    intel_or_amd = _AMD if node.iommu.family == "amdvi" else _INTEL
    fields = _NEOVERSE if is_arm(node) else intel_or_amd
    flags = {"flags": "fpu vme msr apic hypervisor"} if node.role == "guest" else {}
    return "".join(f"{name:<15} : {value}\n" for name, value in {"processor": "0", **fields, **flags}.items())
