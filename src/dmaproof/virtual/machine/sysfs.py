"""What a node's sysfs shows of its PCI functions and its IOMMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmaproof.rig.hardware import Gpu, PcieLink
from dmaproof.rig.model import Node
from dmaproof.virtual.machine.aer import Errors
from dmaproof.virtual.machine.config_space import GONE, config_space, is_64_bit, link_down, windows
from dmaproof.virtual.machine.link import speed
from dmaproof.virtual.machine.topology import Function, functions, has_iommu, units
from dmaproof.virtual.machine.tree import Folder, Link, Tree

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine

_MEM, _MEM_WINDOW, _MEM64_PREFETCH, _PREFETCH_WINDOW = 0x40200, 0x200, 0x14220C, 0x102201  # include/linux/ioport.h
_COR = ("RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout", "NonFatalErr", "CorrIntErr", "HeaderOF")
_UNCOR = (
    *("Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF", "MalfTLP", "ECRC"),
    *("UnsupReq", "ACSViol", "UncorrIntErr", "BlockedTLP", "AtomicOpBlocked", "TLPBlockedErr", "PoisonTLPBlocked"),
)
_ERROR_FILES = (("correctable", _COR, "COR"), ("fatal", _UNCOR, "FATAL"), ("nonfatal", _UNCOR, "NONFATAL"))
_NRESOURCES, _NRESOURCES_BRIDGE, _BRIDGE_MEM, _BRIDGE_PREFETCH = 13, 17, 14, 15


def sysfs(machine: Machine) -> Tree:
    """The tree of a node that has just booted."""
    tree: Tree = {"sys/kernel/iommu_groups": Folder(), "sys/class/iommu": Folder()}
    for function in functions(machine.node):
        tree |= _function(machine, function)
        if function.group is not None:
            tree |= _group(machine, function, function.group)
    return tree | _units(machine.node)


def lost(machine: Machine, gpu: str) -> Tree:
    """What changes when ``gpu`` no longer answers: reads of it give all ones, and the port above has no link."""
    tree: Tree = {}
    for one in functions(machine.node):
        if one.bdf == gpu:
            tree[f"{one.path}/config"] = GONE
            tree[f"{one.path}/current_link_speed"] = "Unknown\n"  # speed code 0xf: pci_speed_string()
            tree[f"{one.path}/current_link_width"] = "63\n"
        elif one.link_gpu == gpu:
            tree[f"{one.path}/config"] = link_down(_config(machine, one))
    return tree


def errors(machine: Machine) -> Tree:
    """The AER counters of all functions that have counted any error (drivers/pci/pcie/aer.c)."""
    if not machine.fabric.errors:  # asked at every message: what is usual costs nothing
        return {}
    counted = [one for one in functions(machine.node) if one.bdf in machine.fabric.errors]
    return {name: entry for one in counted for name, entry in _errors(one, machine.fabric.errors[one.bdf]).items()}


def _errors(one: Function, seen: Errors) -> Tree:
    """Every error a counter, and their sum; root ports count the messages that they got."""
    tree: Tree = {}
    for name, names, total in _ERROR_FILES:
        rows = [f"{error} {seen.count[name, error]}\n" for error in names]
        tree[f"{one.path}/aer_dev_{name}"] = "".join(rows) + f"TOTAL_ERR_{total} {seen.events[name]}\n"
    if one.kind == "root-port":
        for name, short in (("correctable", "cor"), ("fatal", "fatal"), ("nonfatal", "nonfatal")):
            tree[f"{one.path}/aer_rootport_total_err_{short}"] = f"{seen.messages[name]}\n"
    return tree


def _config(machine: Machine, function: Function) -> bytes:
    node = machine.node
    return config_space(function, link=_trained(machine, function), ats=node.addressing == "ats" and has_iommu(node))


def _trained(machine: Machine, function: Function) -> PcieLink | None:
    gpu = machine.gpus.get(function.link_gpu or "")
    return (gpu.link.trained if gpu is not None else None) or function.link


def _function(machine: Machine, one: Function) -> Tree:
    base, identity = one.path, one.identity
    tree: Tree = {
        f"{base}/config": _config(machine, one),
        f"{base}/vendor": f"{identity.vendor:#06x}\n",
        f"{base}/device": f"{identity.device:#06x}\n",
        f"{base}/class": f"{identity.class_code:#08x}\n",
        f"{base}/revision": f"{identity.revision:#04x}\n",
        f"{base}/resource": _resource(one),
        f"{base}/numa_node": f"{_numa_node(one)}\n",
        f"{base}/power_state": "D0\n",
        f"{base}/enable": "1\n",
        f"{base}/subsystem": Link("sys/bus/pci"),
        f"sys/bus/pci/devices/{one.bdf}": Link(base),
    }
    if identity.driver is not None:
        tree[f"{base}/driver"] = Link(f"sys/bus/pci/drivers/{identity.driver}")
        tree[f"sys/bus/pci/drivers/{identity.driver}/{one.bdf}"] = Link(base)
    if one.gpu is not None:
        tree[f"{base}/reset_method"] = "flr bus\n"
    if one.kind != "root-device":
        tree |= _errors(one, Errors())
    return tree | _link(base, one.link, _trained(machine, one))


def _link(base: str, offered: PcieLink | None, now: PcieLink | None) -> Tree:
    if offered is None or now is None:
        return {}
    return {
        f"{base}/{when}_link_{what}": text
        for when, link in (("current", now), ("max", offered))
        for what, text in (("speed", f"{speed(link.generation)}\n"), ("width", f"{link.width}\n"))
    }


def _numa_node(one: Function) -> int:
    gpus = (one.gpu,) if one.gpu is not None else one.below
    return next((gpu.numa_node for gpu in gpus if gpu.numa_node is not None), -1)


def _resource(one: Function) -> str:
    """``start end flags`` a line: BARs, ROM, virtual functions; bridges have their windows behind."""
    rows: dict[int, tuple[int, int, int]] = {}
    if one.gpu is not None:
        rows = _bar_rows(one.gpu)
    if one.below:
        low, high = windows(one.below)
        if low:
            rows[_BRIDGE_MEM] = low.start, low.stop - 1, _MEM_WINDOW
        if high:
            rows[_BRIDGE_PREFETCH] = high.start, high.stop - 1, _PREFETCH_WINDOW
    count = _NRESOURCES_BRIDGE if one.is_port else _NRESOURCES
    return "".join("0x{:016x} 0x{:016x} 0x{:016x}\n".format(*rows.get(index, (0, 0, 0))) for index in range(count))


def _bar_rows(gpu: Gpu) -> dict[int, tuple[int, int, int]]:
    return {
        bar.index: (bar.address, bar.address + bar.nbytes - 1, _MEM64_PREFETCH if is_64_bit(bar) else _MEM)
        for bar in gpu.bars
    }


def _group(machine: Machine, one: Function, number: int) -> Tree:
    node, base = machine.node, f"sys/kernel/iommu_groups/{number}"
    return {
        f"{base}/type": f"{_group_type(node)}\n",
        f"{base}/reserved_regions": _reserved(machine),
        f"{base}/devices/{one.bdf}": Link(one.path),
        f"{one.path}/iommu_group": Link(base),
    }


def _group_type(node: Node) -> str:
    """x86 kernels flush lazily by default (DMA-FQ), Arm ones strictly (drivers/iommu/Kconfig)."""
    if node.iommu.domain != "translated":
        return "identity"
    return "DMA" if node.iommu.family in ("smmuv3", "smmuv2") else "DMA-FQ"


def _reserved(machine: Machine) -> str:
    """Where interrupts are written, and where no mapping may lead (drivers/iommu/intel/iommu.c, amd/iommu.c,
    arm/arm-smmu-v3/arm-smmu-v3.c)."""
    arm = machine.node.iommu.family in ("smmuv3", "smmuv2")
    rows = [(0x8000000, 0x80FFFFF, "msi") if arm else (0xFEE00000, 0xFEEFFFFF, "msi")]
    rows += [(one.start, one.stop - 1, "reserved") for one in machine.iommu.reserved]
    return "".join(f"0x{first:016x} 0x{last:016x} {kind}\n" for first, last, kind in sorted(rows))


def _units(node: Node) -> Tree:
    """One IOMMU a root bus, named as its driver names it."""
    if not has_iommu(node):
        return {}
    tree: Tree = {}
    found = functions(node)
    for bus, number in units(node).items():
        name, parent = _unit(node, number)
        tree[f"sys/class/iommu/{name}"] = Link(f"{parent}/{name}")
        for one in (one for one in found if one.root_bus == bus):
            tree[f"{parent}/{name}/devices/{one.bdf}"] = Link(one.path)
            tree[f"{one.path}/iommu"] = Link(f"{parent}/{name}")
    return tree


def _unit(node: Node, number: int) -> tuple[str, str]:
    if node.iommu.family == "vtd":
        return f"dmar{number}", "sys/devices/virtual/iommu"
    if node.iommu.family == "amdvi":
        return f"ivhd{number}", f"sys/devices/pci{functions(node)[0].root_bus}/iommu"
    if node.iommu.family in ("smmuv3", "smmuv2"):
        driver, prefix = ("arm-smmu-v3", "smmu3") if node.iommu.family == "smmuv3" else ("arm-smmu", "smmu")
        return f"{prefix}.{0x11000000 + number * 0x1000000:#018x}", f"sys/devices/platform/{driver}.{number}.auto/iommu"
    return f"0000:00:{0x18 + number:02x}.0", "sys/devices/virtual/iommu"  # virtio-iommu: its own PCI function
