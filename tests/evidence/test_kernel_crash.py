"""Kernels that die: each form as the kernel's format strings make it, on x86 and arm64, of several eras."""

from __future__ import annotations

from typing import Any

import pytest

from dmaproof.evidence.decode import decode_whole, event_json

UVM = "uvm_hmm_unregister_gpu+0x40/0x90 [nvidia_uvm]"
NULL = """BUG: kernel NULL pointer dereference, address: 0000000000000040
#PF: supervisor read access in kernel mode
#PF: error_code(0x0000) - not-present page
Oops: Oops: 0000 [#1] SMP NOPTI
CPU: 3 UID: 1000 PID: 4711 Comm: python3 Tainted: P           OE       6.19.9 #1 PREEMPT(voluntary)
Tainted: [P]=PROPRIETARY_MODULE, [O]=OOT_MODULE, [E]=UNSIGNED_MODULE
RIP: 0010:uvm_hmm_unregister_gpu+0x40/0x90 [nvidia_uvm]
Code: 48 8b 47 40
RSP: 0018:ffffc9000a3f7d10 EFLAGS: 00010246
Call Trace:
 <TASK>
 unregister_gpu+0x40/0x90 [nvidia_uvm]
 do_syscall_64+0x80/0x90
RIP: 0033:0x7fea30a595f7
 </TASK>
Modules linked in: nvidia_uvm(OE) nvidia(OE)
CR2: 0000000000000040
---[ end trace 0000000000000000 ]---
"""
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "x86, from 6.9": (
        NULL,
        {
            "event": "null-dereference", "va": 0x40, "reason": 0, "pid": 4711, "process": "python3",
            "driver": "nvidia_uvm", "function": UVM, "bdf": None, "address": None,
        },
    ),
    "x86, before 6.9, in what a driver called": (
        """BUG: unable to handle page fault for address: ffffcd6002dcc5e0
Oops: 0002 [#7] PREEMPT SMP PTI
CPU: 0 PID: 83455 Comm: Web Content Not tainted 5.15.0-91-generic #101-Ubuntu
RIP: 0010:folio_mark_dirty+0x25/0x60
Call Trace:
 ? nv_drm_atomic_commit+0x1/0x2 [nvidia_drm]
 zap_pte_range+0x3f1/0x9d0
 uvm_vm_close_managed_entry+0x92/0xb0 [nvidia_uvm 0a1b2c3d4e5f60718293a4b5c6d7e8f901234567]
 remove_vma+0x31/0x90
---[ end trace 8f4d7a1b2c3d4e5f ]---
""",
        {
            "event": "page-fault", "va": 0xFFFFCD6002DCC5E0, "reason": 2, "pid": 83455, "process": "Web Content",
            "driver": "nvidia_uvm", "function": "folio_mark_dirty+0x25/0x60",
        },
    ),
    "x86, before 5.2": (
        """BUG: unable to handle kernel NULL pointer dereference at 0000000000000008
PGD 0 P4D 0
Oops: 0000 [#1] SMP
CPU: 12 PID: 991 Comm: irq/70-nvidia Tainted: P OE 3.10.0-957.el7.x86_64 #1
RIP: 0010:[<ffffffffc11371fc>]  [<ffffffffc11371fc>] _nv045796rm+0x2c/0x40 [nvidia]
---[ end trace 0123456789abcdef ]---
""",
        {"event": "null-dereference", "va": 8, "process": "irq/70-nvidia", "driver": "nvidia"},
    ),
    "x86, paging request": (
        "BUG: unable to handle kernel paging request at ffffa001d34d3920\nOops: 0010 [#1] SMP NOPTI\n",
        {"event": "page-fault", "va": 0xFFFFA001D34D3920, "reason": 0x10, "function": None, "driver": None},
    ),
    "x86, a pointer that is none": (
        """general protection fault, probably for non-canonical address 0x25b5f6bb1a24827e: 0000 [#1] SMP NOPTI
CPU: 3 PID: 77 Comm: nv_queue Kdump: loaded Tainted: G           OE     5.15.0 #1
RIP: 0010:vfio_pci_core_ioctl+0x12/0x80 [vfio_pci_core]
---[ end trace 0000000000000000 ]---
""",
        {"event": "general-protection", "va": 0x25B5F6BB1A24827E, "process": "nv_queue", "driver": "vfio_pci_core"},
    ),
    "x86, the same from 6.9": (
        "Oops: general protection fault, maybe for address 0xffff888100003fff: 0000 [#1] SMP NOPTI\n",
        {"event": "general-protection", "va": 0xFFFF888100003FFF},
    ),
    "x86, BUG": (
        """kernel BUG at drivers/iommu/iova.c:371!
Oops: invalid opcode: 0000 [#1] SMP NOPTI
CPU: 3 UID: 0 PID: 5 Comm: kworker/0:0 Not tainted 6.12.0 #1
RIP: 0010:free_iova_mem+0x1f/0x30
---[ end trace 0000000000000000 ]---
""",
        {"event": "bug", "reason": 0, "process": "kworker/0:0", "function": "free_iova_mem+0x1f/0x30", "driver": None},
    ),
    "x86, a jump to nowhere": (
        """Oops: Oops: 0010 [#2] SMP NOPTI
CPU: 3 UID: 0 PID: 6 Comm: ollama Tainted: P OE 6.18.7 #1
RIP: 0010:0x1297961b1077
Call Trace:
 _main_loop+0x89/0x150 [nvidia_uvm]
---[ end trace 0000000000000000 ]---
""",
        {"event": "oops", "function": None, "driver": "nvidia_uvm", "process": "ollama"},
    ),
    "arm64": (
        """Unable to handle kernel paging request at virtual address dead000000000108
Mem abort info:
  ESR = 0x0000000096000004
Internal error: Oops: 0000000096000004 [#1]  SMP
CPU: 71 UID: 0 PID: 4242 Comm: UVM GPU1 BH Tainted: G           OE       6.8.0-1021-nvidia-64k #23
pc : service_fault_batch+0x1a4/0xb10 [nvidia_uvm]
lr : service_fault_batch+0x180/0xb10 [nvidia_uvm]
Call trace:
 service_fault_batch+0x1a4/0xb10 [nvidia_uvm] (P)
---[ end trace 0000000000000000 ]---
""",
        {
            "event": "page-fault", "va": 0xDEAD000000000108, "reason": 0x96000004, "pid": 4242,
            "process": "UVM GPU1 BH", "driver": "nvidia_uvm",
        },
    ),
    "arm64, what a device on the bus did not answer": (
        """Internal error: synchronous external abort: 0000000096000210 [#1]  SMP
CPU: 3 UID: 0 PID: 7 Comm: qemu-system-aar Not tainted 6.12.0 #1
pc : vfio_pci_core_do_io_rw+0x7c/0x2f0 [vfio_pci_core]
""",
        {"event": "external-abort", "reason": 0x96000210, "driver": "vfio_pci_core", "process": "qemu-system-aar"},
    ),
    "arm64, SError": (
        """SError Interrupt on CPU3, code 0x00000000be000411 -- SError
CPU: 3 PID: 2930 Comm: p2pBandwidthLat Tainted: G           OE     6.2.0 #1
pc : os_io_read_dword+0x20/0x30 [nvidia]
""",
        {"event": "serror", "reason": 0xBE000411, "process": "p2pBandwidthLat", "driver": "nvidia"},
    ),
    "panic": (
        """Kernel panic - not syncing: sysrq triggered crash
CPU: 0 UID: 0 PID: 120 Comm: sh Not tainted 7.2.13 #1 PREEMPT(lazy)
Call Trace:
---[ end Kernel panic - not syncing: sysrq triggered crash ]---
""",
        {"event": "panic", "pid": 120, "process": "sh", "va": None, "reason": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_form(name: str, ends: str) -> None:
    report, expect = CASES[name]
    decoded = decode_whole([report.replace("\n", ends).encode()])
    assert [{key: event_json(event)[key] for key in expect} for event in decoded.events] == [expect]
    assert {event.kind for event in decoded.events} == {"kernel-crash"}


PREFIXES = {
    "dmesg": lambda n, line: f"[  100.{n:06}] {line}",
    "dmesg -T": lambda n, line: f"[Sun Nov 22 14:47:{n:02} 2026] {line}",
    "with the caller": lambda n, line: f"[  100.{n:06}][ T4711] {line}",
    "journal": lambda n, line: f"Nov 22 14:47:{n:02} dgx-1 kernel: {line}",
    "kmsg": lambda n, line: f"4,{n},{100000000 + n},-;{line}",
    "coloured": lambda n, line: (
        f"\x1b[32m[  100.{n:06}] \x1b[0m\x1b[33m{line.replace(': ', ': ' + chr(27) + '[0m', 1)}"
    ),
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_in_every_log(prefix: str) -> None:
    log = "".join(PREFIXES[prefix](n, line) + "\n" for n, line in enumerate(NULL.splitlines(), 1))
    (event,) = decode_whole([log.encode()]).events
    assert (event.event, event.va, event.function, event.process) == ("null-dereference", 0x40, UVM, "python3")


def test_an_oops_and_the_panic_that_follows_are_two() -> None:
    log = NULL.replace("[ end trace 0000000000000000 ]", "[ cut here ]") + CASES["panic"][0]
    assert [event.event for event in decode_whole([log.encode()]).events] == ["null-dereference", "panic"]


def test_a_report_that_is_cut_is_told_as_far_as_it_goes() -> None:
    heading, *_ = NULL.splitlines()
    (event,) = decode_whole([heading.encode()]).events
    assert (event.event, event.va, event.pid, event.text) == ("null-dereference", 0x40, None, heading)


def test_one_cut_off_by_another_minutes_later_does_not_take_its_thread() -> None:
    first = "[  100.000001] BUG: kernel NULL pointer dereference, address: 0000000000000040\n"
    later = "[  400.000001] INFO: task nv_queue:77 blocked for more than 120 seconds.\n"
    other = "[  400.000002] CPU: 3 UID: 0 PID: 77 Comm: nv_queue Tainted: G    W   6.12.0 #1\n"
    crash = next(one for one in decode_whole([(first + later + other).encode()]).events if one.kind == "kernel-crash")
    assert crash.process is None


NO_CRASH = """WARNING: CPU: 3 PID: 77 at drivers/iommu/dma-iommu.c:1042 iommu_dma_unmap_page+0x79/0x90
CPU: 3 PID: 77 Comm: nv_queue Tainted: P           OE     6.8.0 #1
RIP: 0010:iommu_dma_unmap_page+0x79/0x90
Call Trace:
 nv_unmap_dma_map_scatterlist+0x6f/0xc0 [nvidia]
---[ end trace 0000000000000000 ]---
INFO: task nv_queue:77 blocked for more than 120 seconds.
 nvidia_unlocked_ioctl+0x1d/0x40 [nvidia]
"""


def test_a_warning_is_none_and_neither_is_a_blocked_task() -> None:
    assert [event.kind for event in decode_whole([NO_CRASH.encode()]).events] == ["hung-task"]


def test_one_that_a_storm_hides_the_beginning_of_is_told_whole() -> None:
    """In a storm every line is looked at; the report goes on where the storm has ended."""
    refused = (
        "DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] PTE Write access is not set\n"
    )
    heading, rest = NULL.split("\n", 1)
    storm, quiet = refused * 2000, "usb 1-1: new high-speed USB device\n" * 4000
    log = storm + heading + "\n" + quiet[:40000].rpartition("\n")[0] + "\n" + rest + quiet
    crash = next(one for one in decode_whole([log.encode()]).events if one.kind == "kernel-crash")
    assert (crash.va, crash.process, crash.function) == (0x40, "python3", UVM)


@pytest.mark.parametrize(
    "module",
    [
        *("nvidia", "nvidia_uvm", "nvidia_drm", "nvidia_peermem", "nv_peer_mem", "gdrdrv", "vfio_pci_core", "iommufd"),
        *("amdgpu", "xe", "ib_core", "mlx5_ib", "mlx5_core", "nvme"),
    ],
)
def test_the_first_module_of_the_calls_is_found_in_a_whole_log(module: str) -> None:
    text = NULL.replace("RIP: 0010:uvm_hmm_unregister_gpu+0x40/0x90 [nvidia_uvm]", "RIP: 0010:dma_unmap_sg+0x4/0x9")
    text = text.replace("[nvidia_uvm]", f"[{module}]")
    (event,) = decode_whole([text.encode()]).events
    assert event.driver == module
