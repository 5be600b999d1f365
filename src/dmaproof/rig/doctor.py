"""What this machine can run: each thing tried, not looked up, and the one command that supplies what is missing."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmaproof.evidence import nvml_query
from dmaproof.evidence.nvml_query import NvmlState, Unanswered
from dmaproof.node.isolated import Outcome
from dmaproof.pci import config, iommu, sysfs
from dmaproof.rig import probes
from dmaproof.rig.owner import is_gpu

State = Literal["ok", "missing", "unknown"]
_PACKAGES = f"{sys.executable} -m pip install --upgrade cuda-python cuda-core nvidia-cuda-nvrtc"
_FIRST = 0.8  # of the time a probe has, for its own child: who is killed cannot end what it started
_AS_ROOT = "sudo $(command -v dmaproof) doctor"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing: ``purpose`` is what needs it, ``supply`` the command that brings it, or, where none can, why.

    ``required``: nothing at all can be run without it.
    """

    subject: str
    state: State
    detail: str
    purpose: str
    supply: str = ""
    required: bool = False


def examine(root: Path, env: Mapping[str, str], deadline_s: float) -> tuple[Row, ...]:
    """Every row, most needed first. No probe may take longer than ``deadline_s`` seconds."""
    gpus = tuple(one.bdf for one in sysfs.functions(root) if is_gpu(one))
    nvml = nvml_query.query(env, deadline_s)
    driven = isinstance(nvml, NvmlState) and bool(nvml.gpus)
    return (
        Row("Python", "ok", platform.python_version(), "everything", required=True),
        _bindings(probes.attempt(probes.bindings, deadline_s)),
        _nvrtc(probes.attempt(probes.nvrtc, deadline_s)),
        _compiler(probes.attempt(lambda: probes.compiler(_FIRST * deadline_s), deadline_s), required=not driven),
        _driver(root, nvml, gpus),
        _gpus(nvml, gpus),
        _kmsg(root, probes.attempt(lambda: probes.kmsg(root), deadline_s)),
        config_space(root),
        iommu_in_use(root),
        _fuse(root, probes.attempt(lambda: probes.fuse(root), deadline_s)),
        _kvm(root, probes.attempt(lambda: probes.kvm(root), deadline_s)),
    )


def _tried(subject: str, outcome: Outcome, purpose: str, supply: str, *, required: bool = False) -> Row:
    return Row(
        subject,
        "ok" if outcome.ok else "missing",
        plain(outcome.text),
        purpose,
        "" if outcome.ok else supply,
        required,
    )


def plain(reason: str) -> str:
    """An error's text without Python's names for it."""
    return re.sub(r"^(?:[\w.]+: )?(?:\[Errno \d+\] )?", "", reason) if "Error: " in reason else reason


def _bindings(outcome: Outcome) -> Row:
    return _tried("CUDA bindings", outcome, "every workload", _PACKAGES, required=True)


def _nvrtc(outcome: Outcome) -> Row:
    return _tried("NVRTC", outcome, "the kernels of every workload", _PACKAGES, required=True)


def _compiler(outcome: Outcome, *, required: bool) -> Row:
    supply = "sudo apt-get install -y gcc libc6-dev"
    return _tried("C compiler", outcome, "virtual rigs (their stub libraries)", supply, required=required)


def _driver(root: Path, nvml: NvmlState | Unanswered, gpus: tuple[str, ...]) -> Row:
    subject, purpose = "NVIDIA driver", "--rig=host"
    if isinstance(nvml, NvmlState):
        return Row(subject, "ok", f"{nvml.driver_version or 'unknown version'}, NVML answers", purpose)
    loaded = sysfs.text(root / "proc/driver/nvidia/version") is not None
    detail = f"{'kernel module loaded, but ' if loaded else ''}NVML does not answer: {nvml.reason}"
    if not gpus:
        return Row(subject, "missing", detail, purpose, "none here: this machine has no NVIDIA GPU; use a virtual rig")
    return Row(subject, "missing", detail, purpose, _driver_supply(root))


def _driver_supply(root: Path) -> str:
    ubuntu = re.search(r"^ID=\"?ubuntu\"?$", sysfs.text(root / "etc/os-release") or "", re.MULTILINE)
    if ubuntu:
        return "sudo apt-get install -y ubuntu-drivers-common && sudo ubuntu-drivers install"
    return "sudo apt-get install -y nvidia-driver"


def _gpus(nvml: NvmlState | Unanswered, on_bus: tuple[str, ...]) -> Row:
    subject, purpose = "GPUs", "--rig=host: copies and unified memory need one, peer access two"
    if isinstance(nvml, NvmlState) and nvml.gpus:
        return Row(subject, "ok", f"{len(nvml.gpus)} by NVML, {len(on_bus)} on the PCI bus", purpose)
    if on_bus:
        return Row(subject, "unknown", f"{len(on_bus)} on the PCI bus, no driver to ask", purpose, "supply the driver")
    return Row(subject, "missing", "none on the PCI bus", purpose, "none here: pytest suites --rig=virtual:hgx-h100")


def _kmsg(root: Path, outcome: Outcome) -> Row:
    if (root / "dev/kmsg").exists():
        supply = "sudo sysctl -w kernel.dmesg_restrict=0 && sudo chmod a+r /dev/kmsg"
    else:
        supply = "sudo mknod -m 644 /dev/kmsg c 1 11"
    return _tried("/dev/kmsg", outcome, "evidence: IOMMU faults, Xids, AER", supply)


def config_space(root: Path) -> Row:
    """Whether PCIe functions' extended space, where ACS and ATS are, is readable: 64 bytes is all that Linux gives to
    a process without CAP_SYS_ADMIN."""
    subject, purpose = "PCI config space", "evidence: ACS and ATS of every path"
    sizes = [len(config.read(root, one.bdf) or b"") for one in sysfs.functions(root)]
    if not sizes:
        return Row(subject, "unknown", f"no PCI function under /{sysfs.DEVICES}", purpose, "none: nothing to read")
    short = sum(size <= config.HEADER_NBYTES for size in sizes)
    if short:
        return Row(subject, "missing", f"64 bytes or less of {short} of {len(sizes)} functions", purpose, _AS_ROOT)
    return Row(subject, "ok", f"{max(sizes)} bytes at most, {len(sizes)} functions", purpose)


def iommu_in_use(root: Path) -> Row:
    """Whether an IOMMU is on; where not, what would turn it on."""
    subject, purpose = "IOMMU", "suites/iommu on this host, and VFIO guests"
    state = iommu.snapshot(root)
    detail = state.summary[0]
    if state.devices:
        return Row(subject, "ok", detail, purpose)
    if state.family == "unknown":
        return Row(subject, "unknown", detail, purpose, _AS_ROOT)
    if "DMAR" in state.tables:
        return Row(subject, "missing", detail, purpose, _on_command_line("intel_iommu=on"))
    if "IVRS" in state.tables:
        return Row(subject, "missing", detail, purpose, _on_command_line("amd_iommu=on"))
    return Row(
        subject, "missing", detail, purpose, "none here: turn on VT-d, AMD-Vi or the SMMU in the firmware's setup"
    )


def _on_command_line(word: str) -> str:
    line = f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {word}"'
    return f"echo '{line}' | sudo tee -a /etc/default/grub && sudo update-grub && sudo reboot"


def _fuse(root: Path, outcome: Outcome) -> Row:
    supply = "run the tests as root" if (root / "dev/fuse").exists() else "sudo modprobe fuse"
    return _tried("FUSE", outcome, "the library's own test of a worker in D state", supply)


def _kvm(root: Path, outcome: Outcome) -> Row:
    vendor = "kvm_amd" if "AuthenticAMD" in (sysfs.text(root / "proc/cpuinfo") or "") else "kvm_intel"
    there = (root / "dev/kvm").exists()
    supply = 'sudo usermod -aG kvm "$USER" && newgrp kvm' if there else f"sudo modprobe {vendor}"
    return _tried("KVM", outcome, "lab rigs at full speed (QEMU emulates without it)", supply)
