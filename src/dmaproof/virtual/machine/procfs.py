"""What a node's /proc and /sys/module show of the kernel, of nvidia and of nvidia-uvm."""

from __future__ import annotations

import time

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.cpu import cpuinfo, is_arm
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.hung import TIMEOUT_S
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.nvrm import VERSION
from dmaproof.virtual.machine.threads import threads
from dmaproof.virtual.machine.tree import Folder, Link, Tree
from dmaproof.virtual.machine.uvm import fault_stats

UVM_FOLDER = "proc/driver/nvidia-uvm/gpus"
_MAX_SUB_PROCESSORS = 8  # UVM_PARENT_ID_MAX_SUB_PROCESSORS
_UVM_PARAMETERS = {
    "uvm_ats_mode": "1",
    "uvm_debug_prints": "0",
    "uvm_disable_hmm": "N",
    "uvm_enable_builtin_tests": "0",
    "uvm_enable_debug_procfs": "1",
    "uvm_global_oversubscription": "1",
    "uvm_perf_access_counter_migration_enable": "-1",
    "uvm_perf_access_counter_threshold": "256",
    "uvm_perf_fault_batch_count": "256",
    "uvm_perf_fault_replay_policy": "2",
    "uvm_perf_prefetch_enable": "1",
    "uvm_perf_thrashing_enable": "1",
}
_COMMAND_LINE = {
    ("vtd", "translated"): "intel_iommu=on",
    ("vtd", "passthrough"): "intel_iommu=on iommu=pt",
    ("vtd", "none"): "intel_iommu=off",
    ("amdvi", "translated"): "amd_iommu=on",
    ("amdvi", "passthrough"): "amd_iommu=on iommu=pt",
    ("amdvi", "none"): "amd_iommu=off",
    ("smmuv3", "translated"): "iommu.passthrough=0",
    ("smmuv3", "passthrough"): "iommu.passthrough=1",
    ("smmuv2", "passthrough"): "iommu.passthrough=1",
    ("virtio-iommu", "passthrough"): "iommu.passthrough=1",
}


def command_line(node: Node) -> str:
    """The parameters that give ``node`` the IOMMU domain it declares."""
    words = ["BOOT_IMAGE=/boot/vmlinuz", "root=/dev/vda1", "ro"]
    words += _COMMAND_LINE.get((node.iommu.family, node.iommu.domain), "").split()
    return " ".join([*words, *node.parameters])


def architecture(node: Node) -> str:
    return "aarch64" if is_arm(node) else "x86_64"


def module_id(node: Node) -> str:
    """How the open kernel modules introduce themselves."""
    return f"NVIDIA UNIX Open Kernel Module for {architecture(node)}  {VERSION}  Release Build  (dmaproof@virtual)"


def procfs(machine: Machine) -> Tree:
    """The tree of a machine that has just booted."""
    node = machine.node
    tree: Tree = {
        "proc/sys/kernel/hung_task_timeout_secs": f"{TIMEOUT_S}\n",
        "proc/cmdline": command_line(node) + "\n",
        "proc/cpuinfo": cpuinfo(node),
        "proc/driver/nvidia/version": f"NVRM version: {module_id(node)}\nGCC version:  gcc version 13.3.0\n",
        "proc/driver/nvidia/params": _params(machine),
        "sys/module/nvidia/version": f"{VERSION}\n",
        "sys/module/nvidia_uvm/version": f"{VERSION}\n",
        UVM_FOLDER: Folder(),
        **{f"sys/module/nvidia_uvm/parameters/{name}": f"{value}\n" for name, value in _uvm_parameters(node).items()},
    }
    for gpu in machine.gpus.values():
        tree |= _gpu(gpu)
    return tree | counters(machine)


def counters(machine: Machine) -> Tree:
    """What changes as faults are served."""
    stats: Tree = {
        f"{UVM_FOLDER}/{gpu.uuid}/fault_stats": fault_stats(gpu.faults) for gpu in machine.gpus.values() if not gpu.lost
    }
    return stats | threads(list(machine.gpus.values()), time.monotonic())


def _gpu(gpu: GpuModel) -> Tree:
    """nv_procfs_read_gpu_info (nv-procfs.c), and the folders of init_procfs_dirs (uvm_gpu.c)."""
    wide = (gpu.rig.compute_capability or "").startswith(("9.", "10.", "12."))
    nbits = 52 if wide else 47
    information = {
        "Model": gpu.rig.product or "Unknown",
        "IRQ": str(64 + gpu.minor),
        "GPU UUID": gpu.uuid,
        "Video BIOS": "??.??.??.??.??",
        "Bus Type": "PCIe",
        "DMA Size": f"{nbits} bits",
        "DMA Mask": f"{(1 << nbits) - 1:#x}",
        "Bus Location": gpu.bdf,
        "Device Minor": str(gpu.minor),
        "GPU Firmware": VERSION,
    }
    text = "".join(_INFORMATION.get(name, "{}: \t {}\n").format(name, value) for name, value in information.items())
    number = gpu.minor * _MAX_SUB_PROCESSORS + 1  # uvm_gpu_id_t; the CPU is 0
    folder = f"{UVM_FOLDER}/{gpu.uuid}"
    return {
        f"proc/driver/nvidia/gpus/{gpu.bdf}/information": text + "GPU Excluded:\t No\n",
        f"{folder}/peers": Folder(),
        f"{folder}/0": Folder(),
        f"{UVM_FOLDER}/{number}": Link(f"{folder}/0"),
        f"{UVM_FOLDER}/GI-{gpu.uuid.removeprefix('GPU-')}": Link(f"{folder}/0"),
    }


_INFORMATION = {"Model": "{}: \t\t {}\n", "IRQ": "{}:   \t\t {}\n"}


def _params(machine: Machine) -> str:
    numbers = {
        "ResmanDebugLevel": 0xFFFFFFFF,
        "RmLogonRC": 1,
        "ModifyDeviceFiles": 1,
        "EnableMSI": 1,
        "EnableStreamMemOPs": 0,
        "EnableUserNUMAManagement": 1,
        "NvLinkDisable": 0,
        "EnableGpuFirmware": 18,
        "EnableResizableBar": 0,
        "DmaRemapPeerMmio": int(machine.peermap.dma_remap_peer_mmio),
        "GrdmaPciTopoCheckOverride": 0,
    }
    words = ("CoherentGPUMemoryMode", "RegistryDwords", "RegistryDwordsPerDevice", "RmMsg", "GpuBlacklist")
    rows = [f"{name}: {value}\n" for name, value in numbers.items()]
    return "".join([*rows, *(f'{name}: ""\n' for name in (*words, "TemporaryFilePath", "ExcludedGpus"))])


def _uvm_parameters(node: Node) -> dict[str, str]:
    """HMM is off where it is neither declared nor would be: the parameter says intent, not result."""
    return {**_UVM_PARAMETERS, "uvm_disable_hmm": "Y" if node.addressing == "none" else "N"}
