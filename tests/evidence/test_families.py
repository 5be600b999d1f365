"""Every form of every family but VT-d and Xids (test_decode.py), as the kernel's format strings make them."""

from __future__ import annotations

from typing import Any

import pytest

from dmaproof.evidence.decode import decode_whole, event_json

Case = tuple[str, dict[str, Any]]
PORT, GPU = "pcieport 0000:00:1c.0", "nvidia 0000:01:00.0"
AMD = {"kind": "iommu-fault", "family": "amdvi"}
V2 = {"kind": "iommu-fault", "family": "smmuv2"}
VIRTIO = {"kind": "iommu-fault", "family": "virtio-iommu"}
LOST = {"kind": "device-lost", "family": "pcie"}
P2P = {"kind": "p2pdma", "family": "pcie"}
BAR = {"kind": "bar", "family": "pcie"}

CASES: dict[str, Case] = {
    "amdvi, a device the kernel knows": (
        f"{GPU}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0010 address=0xfea00000 flags=0x0020]",
        {**AMD, "bdf": "0000:01:00.0", "driver": "nvidia", "address": 0xFEA00000, "access": "write", "reason": 0x20},
    ),
    "amdvi, a device without a driver": (
        "pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0010 address=0x1000 flags=0x0000]",
        {**AMD, "bdf": "0000:01:00.0", "driver": None, "access": "read"},
    ),
    "amdvi, a bare driver": (
        "xhci_hcd: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0005 address=0xffa09000 flags=0x0000]",
        {**AMD, "bdf": None, "driver": "xhci_hcd", "access": "read"},
    ),
    "amdvi, unknown device with its segment, from 6.0": (
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=0001:c1:00.2 domain=0x0000 address=0x6fff0ff8000 flags=0x0070]",
        {**AMD, "bdf": "0001:c1:00.2", "driver": None, "address": 0x6FFF0FF8000, "access": "write"},
    ),
    "amdvi, blocked interrupt": (
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=08:00.0 domain=0x0000 address=0xfffffffdf8000000 flags=0x0008]",
        {**AMD, "bdf": "0000:08:00.0", "access": None, "address": 0xFFFFFFFDF8000000},
    ),
    "amdvi, device table": (
        "AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=0000:02:00.0 pasid=0x00000 address=0xffff flags=0x0a00]",
        {**AMD, "bdf": "0000:02:00.0", "event": "ILLEGAL_DEV_TABLE_ENTRY", "access": None},
    ),
    "amdvi, a device that does not answer an invalidation": (
        "AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:81:00.0 address=0x10a2f0c40]",
        {**AMD, "bdf": "0000:81:00.0", "event": "IOTLB_INV_TIMEOUT", "address": 0x10A2F0C40},
    ),
    "amdvi, page request": (
        "AMD-Vi: Event logged [INVALID_PPR_REQUEST device=0000:81:00.0 pasid=0x00012 address=0x1 flags=0x0000 tag=0x1]",
        {**AMD, "event": "INVALID_PPR_REQUEST", "pasid": 0x12},
    ),
    "amdvi, RMP": (
        f"{GPU}: AMD-Vi: Event logged [RMP_PAGE_FAULT vmg_tag=0x0001, gpa=0x7000, flags_rmp=0x0000, flags=0x0020]",
        {**AMD, "event": "RMP_PAGE_FAULT", "bdf": "0000:01:00.0", "address": 0x7000},
    ),
    "amdvi, no end of a command": (
        "AMD-Vi: Completion-Wait loop timed out",
        {**AMD, "bdf": None, "event": "COMPLETION_WAIT_TIMEOUT"},
    ),
    "amdvi, overflow": (
        "AMD-Vi: IOMMU Event log restarting",
        {"kind": "overflow", "family": "amdvi", "overflow": True},
    ),
    "amdvi, what QEMU writes for any fault": (
        "pci 0000:00:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x0 flags=0x000a]",
        {**AMD, "bdf": None, "address": None, "access": None},
    ),
    "smmuv2": (
        "arm-smmu 15.iommu: Unhandled context fault: fsr=0x402, iova=0xd65504710, fsynr=0x100011, cbfrsynra=0x0, cb=6",
        {**V2, "bdf": None, "address": 0xD65504710, "access": "write", "event": "TF", "reason": 0x402},
    ),
    "smmuv2, global": (
        "arm-smmu 1.iommu: Unexpected global fault, this could be serious",
        {**V2, "event": "GLOBAL_FAULT"},
    ),
    "virtio-iommu": (
        "virtio_iommu virtio0: page fault from EP 264 at 0xfe000004 [W]",
        {**VIRTIO, "bdf": "0000:01:01.0", "address": 0xFE000004, "access": "write", "event": "page"},
    ),
    "virtio-iommu, no address": (
        "virtio_iommu virtio0: domain fault from EP 8",
        {**VIRTIO, "address": None, "event": "domain"},
    ),
    "virtio-iommu, beyond one segment": (
        "virtio_iommu virtio0: page fault from EP 65544 at 0x0 [R]",
        {**VIRTIO, "bdf": None},
    ),
    "dpc, to 6.15": (
        f"{PORT}: DPC: containment event, status:0x1f01 source:0x0000",
        {"kind": "dpc", "bdf": "0000:00:1c.0", "reason": 0x1F01, "event": "unmasked uncorrectable error"},
    ),
    "dpc, from 6.16": (
        f"{PORT}: DPC: containment event, status:0x1f05, ERR_FATAL received from 0000:01:00.0",
        {"kind": "dpc", "bdf": "0000:00:1c.0", "event": "ERR_FATAL", "severity": "fatal"},
    ),
    "dpc, 4.x": (
        "dpc 0000:00:1c.0:pcie010: DPC containment event, status:0x1f07 source:0x0000",
        {"kind": "dpc", "bdf": "0000:00:1c.0", "event": "RP PIO error"},
    ),
    "lost, 5.18": (
        f"{GPU}: Unable to change power state from D3cold to D0, device inaccessible",
        {**LOST, "bdf": "0000:01:00.0", "event": "power-state"},
    ),
    "lost, 5.5": (f"{GPU}: can't change power state from D3cold to D0 (config space inaccessible)", LOST),
    "lost, 5.4": (f"{GPU}: Refused to change power state, currently in D3", LOST),
    "lost in a reset": (f"{GPU}: not ready 65535ms after bus reset; giving up", {**LOST, "event": "not-ready"}),
    "slot, link": (f"{PORT}: pciehp: Slot(3-1): Link Down", {**LOST, "bdf": "0000:00:1c.0", "event": "link-down"}),
    "slot, card": (f"{PORT}: pciehp: Slot(3-1): Card not present", {**LOST, "event": "card-not-present"}),
    "slot, 4.x": ("pciehp 0000:00:1c.0:pcie004: Slot(3): Link Down", {**LOST, "bdf": "0000:00:1c.0"}),
    "p2pdma, redirect": (
        f"{GPU}: ACS redirect is set between the client and provider (0000:02:00.0)",
        {**P2P, "bdf": "0000:01:00.0", "event": "acs-redirect"},
    ),
    "p2pdma, redirect before 5.10": (
        f"{GPU}: cannot be used for peer-to-peer DMA as ACS redirect is set between the client and provider (..)",
        {**P2P, "event": "acs-redirect"},
    ),
    "p2pdma, no": (
        f"{GPU}: cannot be used for peer-to-peer DMA as the client and provider (0000:02:00.0) do not share an",
        {**P2P, "event": "not-supported"},
    ),
    "p2pdma, bridge": (f"{GPU}: Host bridge not in P2PDMA whitelist: 8086:09a2", {**P2P, "event": "not-whitelisted"}),
    "hung task": (
        "INFO: task cuda-EvtHandlr:4711 blocked for more than 120 seconds.",
        {"kind": "hung-task", "pid": 4711, "process": "cuda-EvtHandlr", "duration_s": 120.0, "event": "blocked"},
    ),
    "hung task, a name with a colon": (
        "INFO: task kworker/u8:3:99 blocked for more than 241 seconds.",
        {"process": "kworker/u8:3"},
    ),
    "soft lockup": (
        "watchdog: BUG: soft lockup - CPU#12 stuck for 22s! [UVM GPU1 BH:1234]",
        {"kind": "hung-task", "pid": 1234, "process": "UVM GPU1 BH", "duration_s": 22.0, "event": "soft-lockup"},
    ),
    "hard lockup": (
        "watchdog: Watchdog detected hard LOCKUP on cpu 3",
        {"kind": "hung-task", "event": "hard-lockup", "pid": None, "process": None},
    ),
    "hard lockup, as older kernels say it": (
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3",
        {"kind": "hung-task", "event": "hard-lockup"},
    ),
    "rcu": ("rcu: INFO: rcu_preempt self-detected stall on CPU", {"kind": "hung-task", "event": "rcu-stall"}),
    "rcu, another processor": (
        "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
        {"kind": "hung-task", "event": "rcu-stall"},
    ),
    "rcu, expedited": (
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 3-...D } 21033 jiffies s: 4589 root: 0x8/.",
        {"kind": "hung-task", "event": "rcu-stall"},
    ),
    "ats, NVIDIA": (
        "NVRM: GPU 0009:01:00.0: Enabling SMMU SVA feature failed! ret: -19",
        {"kind": "ats-setup", "family": "nvidia", "bdf": "0009:01:00.0", "reason": 19, "event": "SVA"},
    ),
    "ats, NVIDIA, a kernel without it": (
        "NVRM: GPU 0009:01:00.0: Enabling SMMU SVA feature failed due to lack of necessary kernel configs.",
        {"kind": "ats-setup", "reason": None},
    ),
    "ats, SMMUv3": (
        f"{GPU}: Failed to enable ATS (STU 12)",
        {"kind": "ats-setup", "bdf": "0000:01:00.0", "event": "ATS"},
    ),
    "bar, no space": (
        "pci 0000:01:00.0: BAR 1 [mem size 0x400000000 64bit pref]: can't assign; no space",
        {**BAR, "bdf": "0000:01:00.0", "reason": 1, "address": None, "event": "can't assign; no space"},
    ),
    "bar, no space before 6.8": (
        "pci 0000:01:00.0: BAR 2: no space for [mem size 0x10000000 64bit pref]",
        {**BAR, "reason": 2, "event": "no space"},
    ),
    "bar, clash": (
        "pci 0000:01:00.0: BAR 0 [mem 0xf0000000-0xf0ffffff]: can't claim; no compatible bridge window",
        {**BAR, "reason": 0, "address": 0xF0000000},
    ),
    "bar, NVIDIA": (
        "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\n"
        "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:01:00.0)",
        {"kind": "bar", "family": "nvidia", "bdf": "0000:01:00.0", "reason": 1, "address": None, "event": "invalid"},
    ),
    "bar, a peer's": (
        "NVRM: 0000:04:00.0: Failed to DMA map MMIO range [0x380000000000-0x38000fffffff]",
        {"kind": "bar", "family": "nvidia", "bdf": "0000:04:00.0", "address": 0x380000000000, "event": "dma-map"},
    ),
    "bar, QEMU": (
        "qemu-kvm: warning: IOMMU_IOAS_MAP failed: Bad address, PCI BAR?\n"
        "qemu-kvm: vfio_container_dma_map(0x555558282db0, 0x8800010000, 0x4000, 0x7ffff7ff0000) = -14 (Bad address)",
        {**BAR, "address": 0x8800010000, "reason": 14, "event": "dma-map"},
    ),
    "bar, QEMU, with the errno of another call": (
        "qemu-system-x86_64: warning: IOMMU_IOAS_MAP failed: No such file or directory, PCI BAR?",
        {**BAR, "bdf": None, "address": None, "reason": 14, "event": "dma-map"},
    ),
    "link": (
        "pci 0000:01:00.0: 8.000 Gb/s available PCIe bandwidth, limited by 2.5 GT/s PCIe x4 link at 0000:00:02.0 "
        "(capable of 252.048 Gb/s with 16.0 GT/s PCIe x16 link)",
        {"kind": "link", "bdf": "0000:01:00.0", "event": "2.5 GT/s x4 at 0000:00:02.0"},
    ),
    "suppressed, amdvi": (
        "amd_iommu_report_page_fault: 1374 callbacks suppressed",
        {"kind": "suppressed", "family": "amdvi", "count": 1374, "event": "amd_iommu_report_page_fault"},
    ),
    "suppressed, smmuv3": ("arm_smmu_evtq_thread: 2 callbacks suppressed", {"family": "smmuv3"}),
    "suppressed, smmuv2": ("arm_smmu_context_fault: 2 callbacks suppressed", {"family": "smmuv2"}),
    "suppressed, virtio": ("viommu_fault_handler: 1330 callbacks suppressed", {"family": "virtio-iommu"}),
    "suppressed, AER": ("aer_ratelimit: 4 callbacks suppressed", {"family": "pcie"}),
    "suppressed, nobody's": ("net_ratelimit: 23807 callbacks suppressed", {"kind": "suppressed", "family": None}),
    "dropped by printk": ("** 48 printk messages dropped **", {"kind": "overflow", "count": 48, "event": "dropped"}),
    "missed by journald": ("systemd-journald[412]: Missed 7 kernel messages", {"kind": "overflow", "count": 7}),
}


@pytest.mark.parametrize("name", CASES)
def test_form(name: str) -> None:
    line, expect = CASES[name]
    decoded = decode_whole([line.encode()])
    assert [{key: event_json(event)[key] for key in expect} for event in decoded.events] == [expect]
    assert decoded.unknown == 0
    assert decoded.events[0].text == line


NOTHING = (
    "pci 0000:01:00.0: 126.016 Gb/s available PCIe bandwidth (8.0 GT/s PCIe x16 link)",
    "pcieport 0000:00:1c.0: AER: enabled with IRQ 122",
    "pcieport 0000:00:1c.0: DPC: enabled with IRQ 122",
    "pci 0000:00:01.0: bridge window [io  size 0x1000]: can't assign; no space",
    "pci 0000:06:00.0: VF BAR 0 [mem size 0x02000000 64bit pref]: can't assign; no space",
    "nvme 0000:01:00.0: not ready 1023ms after FLR; waiting",
    "pcieport 0000:00:1c.0: pciehp: Slot(3): Link Down/Up ignored",
    "arm-smmu-v3 arm-smmu-v3.0.auto: ias 44-bit, oas 44-bit (features 0x00041fef)",
    "DMAR: IOMMU enabled",
    "AMD-Vi: Interrupt remapping enabled",
    "qemu-kvm: vfio_container_dma_map(0x555558282db0, 0x8800010000, 0x4000, 0x7ffff7ff0000) = -12 (Cannot allocate)",
    "NVRM: GPU 0009:01:00.0: SMMU SVA feature already enabled!",
)


@pytest.mark.parametrize("line", NOTHING)
def test_what_is_no_fault_is_none(line: str) -> None:
    assert decode_whole([line.encode()]).events == ()
