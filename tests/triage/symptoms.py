"""What each defect shows on GPU ``n`` of the box (rigs.py): real lines and facts, as a live run gathers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import (
    AddressingSeen,
    BarConflict,
    CounterStep,
    GpuHealth,
    KernelThread,
    LinkState,
    NvlinkState,
    RouteSeen,
    Stage2Finding,
)
from dmaproof.rig.model import Rig
from dmaproof.triage.verdict import Allocation
from tests.triage.cases import HANG, OTHER, OWN, UNKILLABLE, fact, nvml, observed, rate, seen, stack, wrote, xid
from tests.triage.rigs import BAR0, BAR1, GPUS, PORTS, box

VA = 0x7F12_3456_0000
MINE = (Allocation(VA, 1 << 20, "malloc"),)
WORKER = f"pid={OWN}, name=python3"
OTHERS = f"pid={OTHER}, name=train"


@dataclass(frozen=True)
class Symptom:
    """``shows(n)`` is the evidence where GPU ``n`` is the sick one (for a pair, with GPU ``n ^ 1``)."""

    shows: Callable[[int], list[Evidence]]
    rig: Rig = field(default_factory=box)
    hangs: bool = False


def vtd(requester: str, address: int, access: str = "Write", time_s: float = 1.0) -> Evidence:
    reason = {"Write": "0x05] PTE Write access is not set", "Read": "0x06] PTE Read access is not set"}[access]
    where = f"[{requester}] fault addr {address & -4096:#x}"
    return seen(f"DMAR: [DMA {access} NO_PASID] Request device {where} [fault reason {reason}", time_s)


def mmu_fault(n: int, va: int, kind: str, access: str, who: str = WORKER, time_s: float = 1.0) -> Evidence:
    return xid(
        GPUS[n],
        f"31, {who}, Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPC0 GPCCLIENT_T1_0 faulted @ "
        f"{va >> 32:#x}_{va & 0xFFFFFFFF:08x}. Fault is of type {kind} ACCESS_TYPE_VIRT_{access}",
        time_s,
    )


def recovery(n: int, action: str = "0x1 (GPU Reset Required)", time_s: float = 1.5) -> Evidence:
    return xid(GPUS[n], f"154, GPU recovery action changed from 0x0 (None) to {action}", time_s)


def removal(n: int, cause: int, who: str = WORKER, time_s: float = 1.4) -> Evidence:
    return xid(GPUS[n], f"45, {who}, Ch 00000008 caused by previous Xid {cause}", time_s)


def steps(n: int, **counters: int) -> Evidence:
    told = dict.fromkeys(("faults", "duplicates", "replays", "pages_in", "pages_out"), 0) | counters
    flat = told["pages_in"] == told["pages_out"] == 0
    return observed("uvm-fault-stats", gpu=f"GPU-{n}", climbing=flat and told["faults"] > 0, **told)


def mailbox(n: int) -> list[Evidence]:
    return [HANG, vtd(GPUS[n], BAR0 + ((n ^ 1) << 24) + 0x139000)]


def peer_bar(n: int) -> list[Evidence]:
    fault = vtd(GPUS[n], BAR1 + ((n ^ 1) << 40) + 0x4000)
    return [fault, wrote(GPUS[n], GPUS[n ^ 1], wrong=256, old=256, writer_wrong=256)]


def unmapped(n: int) -> list[Evidence]:
    return [vtd(GPUS[n], 0xFFE00000 - (n << 20), time_s=0.5)]


def dropped(n: int) -> list[Evidence]:
    return [wrote(GPUS[n], GPUS[n ^ 1], wrong=256, old=256, writer_wrong=256)]


def mirror(n: int) -> list[Evidence]:
    return [wrote(GPUS[n], GPUS[n ^ 1], wrong=256, old=256, writer_wrong=0)]


def slower(n: int) -> list[Evidence]:
    pair = GPUS[n], GPUS[n ^ 1]
    return [rate(*pair, 2.0, 20.0, peer=True), rate(*pair, 13.0, None, peer=False)]


def acs(n: int) -> list[Evidence]:
    route = RouteSeen(
        provider=GPUS[n ^ 1], client=GPUS[n], outcome="host-bridge", distance=4, decided_by=PORTS[n], acs=("RR", "CR")
    )
    return [fact(route), rate(GPUS[n], GPUS[n ^ 1], 15.0, 20.0, peer=True)]


def unmappable(n: int) -> list[Evidence]:
    conflict = BarConflict(
        bdf=GPUS[n], bar=1, address=BAR1 + (n << 40), nbytes=1 << 36, why="reserved", first=BAR1 + (n << 40),
        last=BAR1 + (n << 40) + (1 << 37) - 1,
    )  # fmt: skip
    first = BAR1 + (n << 40)
    line = f"NVRM: {GPUS[n ^ 1]}: Failed to DMA map MMIO range [{first:#x}-{first + (1 << 36) - 1:#x}]"
    return [fact(conflict), seen(line)]


def left_out(n: int, **more: object) -> Evidence:
    """An audit's finding: all of BAR1 of GPU ``n``."""
    first = BAR1 + (n << 40)
    given: dict[str, object] = {
        "why": "skipped", "guest": GPUS[n], "host": None, "bar": 1, "name": None, "first": first,
        "last": first + (1 << 36) - 1, "code": None, "consequence": "P2P and ATS to this range will fault",
    }  # fmt: skip
    return fact(Stage2Finding(**{**given, **more}))  # type: ignore[arg-type]


def audited(n: int) -> list[Evidence]:
    missed = wrote(GPUS[n ^ 1], GPUS[n], wrong=256, old=256, writer_wrong=None)
    return [vtd(GPUS[n ^ 1], BAR1 + (n << 40) + 0x5000), missed, left_out(n)]


def stage2_hole(n: int) -> list[Evidence]:
    return [HANG, steps(n, faults=900, replays=900), mmu_fault(n, VA + 4096, "FAULT_PTE", "WRITE", time_s=3.0)]


def no_ats(n: int) -> list[Evidence]:
    line = f"NVRM: GPU {GPUS[n]}: Enabling SMMU SVA feature failed! ret: -19\n"
    found = AddressingSeen(bdf=GPUS[n], declared="ats", by_attributes="none", by_nvml="none")
    return [seen(line), fact(found)]


def atomics(n: int) -> list[Evidence]:
    return [mmu_fault(n, VA + 64, "FAULT_PTE", "ATOMIC_STRONG")]


def thrashing(n: int) -> list[Evidence]:
    return [HANG, steps(n, faults=90, replays=90, pages_in=512, pages_out=512)]


def service_stuck(n: int) -> list[Evidence]:
    thread = KernelThread(
        pid=900 + n, comm=f"UVM GPU{n + 1} BH", state="D", wchan="uvm_va_block_lock", cpu_s=0.0, apart_s=1.0
    )
    line = f"INFO: task UVM GPU{n + 1} BH:{900 + n} blocked for more than 120 seconds."
    return [HANG, steps(n), fact(thread), seen(line)]


def driver_stuck(n: int) -> list[Evidence]:
    line = f"INFO: task python3:{OWN} blocked for more than 122 seconds."
    return [UNKILLABLE, stack("D", "rm_ioctl"), seen(line)]


def lost(n: int) -> list[Evidence]:
    return [
        xid(GPUS[n], "79, pid=1122, GPU has fallen off the bus."),
        nvml(GPUS[n], 79),
        seen(f"NVRM: GPU {GPUS[n]}: GPU has fallen off the bus."),
        recovery(n),
        observed("config-space", bdf=GPUS[n], state="lost"),
        fact(LinkState(bdf=GPUS[n], port=PORTS[n], generation=None, width=0, offered_generation=4, offered_width=16)),
    ]


def gsp(n: int) -> list[Evidence]:
    text = f"119, {WORKER}, Timeout after 6s of waiting for RPC response from GPU{n} GSP! Expected function 76 "
    return [
        xid(GPUS[n], text + "(GSP_RM_CONTROL) (0x20801702 0x8)."),
        nvml(GPUS[n], 119),
        recovery(n),
        fact(GpuHealth(bdf=GPUS[n], recovery_action="gpu-reset")),
    ]


def uncontained(n: int) -> list[Evidence]:
    dbe = "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at physAddr 0x7f000 "
    return [
        xid(GPUS[n], f"48, {WORKER}, {dbe}partition 3, subpartition 0."),
        xid(GPUS[n], f"63, {WORKER}, Row Remapper: New row (0x7f) marked for remapping, reset gpu to activate."),
        xid(GPUS[n], f"95, {WORKER}, Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No"),
        removal(n, 95),
        recovery(n),
        fact(GpuHealth(bdf=GPUS[n], recovery_action="gpu-reset", remap_pending=True, ecc_uncorrectable=1)),
        fact(CounterStep(bdf=GPUS[n], counter="ecc-uncorrectable", before=0, after=1)),
    ]


def contained(n: int) -> list[Evidence]:
    return [
        xid(GPUS[n], f"94, {WORKER}, Contained: SM (0x1). RST: No, D-RST: No"),
        fact(GpuHealth(bdf=GPUS[n], recovery_action="none", remap_pending=False, ecc_uncorrectable=1)),
        fact(CounterStep(bdf=GPUS[n], counter="ecc-uncorrectable", before=0, after=1)),
    ]


def remap_pending(n: int) -> list[Evidence]:
    row = (
        "63, pid='<unknown>', name=<unknown>, Row Remapper: New row (0x7f) marked for remapping, reset gpu to activate."
    )
    return [xid(GPUS[n], row), fact(GpuHealth(bdf=GPUS[n], recovery_action="none", remap_pending=True))]


def fatal_link(n: int) -> list[Evidence]:
    return [
        xid(GPUS[n], f"74, {WORKER}, NVLink: fatal error detected on link {n}(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)"),
        nvml(GPUS[n], 74),
        removal(n, 74),
        recovery(n),
        fact(NvlinkState(bdf=GPUS[n], active=11, declared=12)),
    ]


def links_down(n: int) -> list[Evidence]:
    return [
        fact(NvlinkState(bdf=GPUS[n], active=9, declared=12)),
        fact(CounterStep(bdf=GPUS[n], counter="nvlink-recovery", before=0, after=40, which="link 3")),
        xid(GPUS[n], "145, RLW_RXPIPE Nonfatal XC0 i0 Link 03 (0x00000004 0x00000000 0x00000000 0x00000000)"),
        rate(GPUS[n], GPUS[n ^ 1], 15.0, 20.0, peer=True),
    ]


def narrow_link(n: int) -> list[Evidence]:
    state = LinkState(bdf=GPUS[n], port=PORTS[n], generation=4, width=4, offered_generation=4, offered_width=16)
    return [fact(state), rate("host", GPUS[n], 6.6, 26.0), rate(GPUS[n], GPUS[n ^ 1], 6.0, 20.0, peer=True)]


def aer_line(device: str, severity: str, bit: str, status: int) -> str:
    return (
        f"pcieport {PORTS[0]}: AER: {severity} error message received from {device}\n"
        f"nvidia {device}: PCIe Bus Error: severity={severity}, type=Data Link Layer, (Receiver ID)\n"
        f"nvidia {device}:   device [10de:2230] error status/mask={status:08x}/0000a000\n"
        f"nvidia {device}:    {bit}\n"
    )


def marginal_link(n: int) -> list[Evidence]:
    return [
        seen(aer_line(GPUS[n], "Correctable", "[ 6] BadTLP", 0x40)),
        fact(CounterStep(bdf=GPUS[n], counter="aer-correctable", before=0, after=512, which="BadTLP")),
        fact(CounterStep(bdf=GPUS[n], counter="pcie-replay", before=3, after=515)),
        rate("host", GPUS[n], 20.8, 26.0),
    ]


def containment(n: int) -> list[Evidence]:
    port = PORTS[n]
    return [
        seen(f"pcieport {port}: DPC: containment event, status:0x1f01: unmasked uncorrectable error detected", 0.9),
        seen(aer_line(port, "Uncorrectable (Fatal)", "[ 4] DLP                    (First)", 0x10), 0.91),
        *lost(n),
    ]


def wants_reset(n: int) -> list[Evidence]:
    return [recovery(n, "0x4 (Drain and Reset)"), fact(GpuHealth(bdf=GPUS[n], recovery_action="drain-and-reset"))]


def wild_pointer(n: int) -> list[Evidence]:
    return [mmu_fault(n, 0x1000_0000_0000, "FAULT_PDE", "WRITE"), nvml(GPUS[n], 31)]


def innocent(n: int) -> list[Evidence]:
    text = f"13, {OTHERS}, Graphics SM Warp Exception on (GPC 7, TPC 7, SM 0): Out Of Range Address"
    return [xid(GPUS[n], text), removal(n, 13)]


def ended(n: int) -> list[Evidence]:
    return [observed("node-lost"), observed("node-lost", how="rebooted")]


def floods(n: int) -> list[Evidence]:
    return [observed("console-flood", text="guest-one has put 3.1 MiB on its console, and puts 90 KiB/s more")]


def oops(n: int) -> list[Evidence]:
    told = (
        "BUG: kernel NULL pointer dereference, address: 0000000000000058\n"
        "Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI\n"
        f"CPU: 3 UID: 0 PID: {OWN} Comm: python Tainted: G           OE      6.12.0 #1\n"
        "RIP: 0010:_nv014228rm+0x36/0x90 [nvidia]\n"
        "---[ end trace 0000000000000000 ]---"
    )
    return [seen(told), observed("worker-died")]


SYMPTOMS: dict[str, Symptom] = {
    "kernel-crash": Symptom(oops),
    "iommu-blocks-p2p-mailbox": Symptom(mailbox, hangs=True),
    "iommu-blocks-peer-bar": Symptom(peer_bar),
    "iommu-blocks-memory": Symptom(unmapped),
    "peer-writes-dropped": Symptom(dropped),
    "peer-mirror": Symptom(mirror),
    "p2p-slower-than-host": Symptom(slower),
    "acs-redirects-p2p": Symptom(acs),
    "bar-unmappable": Symptom(unmappable),
    "stage2-hole": Symptom(audited),
    "ats-stage2-hole": Symptom(stage2_hole, box("ats", "smmuv3"), hangs=True),
    "ats-setup-failed": Symptom(no_ats, box("ats", "smmuv3")),
    "hmm-shared-atomics": Symptom(atomics),
    "uvm-thrashing": Symptom(thrashing, hangs=True),
    "uvm-service-stuck": Symptom(service_stuck, hangs=True),
    "driver-stuck": Symptom(driver_stuck, hangs=True),
    "gpu-lost": Symptom(lost),
    "gsp-timeout": Symptom(gsp),
    "ecc-uncorrectable": Symptom(uncontained),
    "ecc-contained": Symptom(contained),
    "row-remap-pending": Symptom(remap_pending),
    "nvlink-fatal": Symptom(fatal_link, box(peers="nvlink")),
    "nvlink-degraded": Symptom(links_down, box(peers="nvlink")),
    "pcie-link-degraded": Symptom(narrow_link),
    "pcie-aer-storm": Symptom(marginal_link),
    "dpc-containment": Symptom(containment),
    "gpu-recovery-required": Symptom(wants_reset),
    "node-lost": Symptom(ended),
    "console-flood": Symptom(floods),
    "application-fault": Symptom(wild_pointer),
    "bystander": Symptom(innocent),
}
