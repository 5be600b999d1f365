"""How large a guest's window for 64-bit BARs has to be, by the BARs of the GPUs that it is given. Pure.

On q35 it is ``pci-hole64-size`` (32 GiB: include/hw/pci-host/q35.h). SeaBIOS, which a kernel that is started directly
has before it, does not ask for it: it puts 64-bit BARs at the top of what the processor can address (src/fw/pciinit.c,
pci_bios_map_devices), and QEMU's ACPI tables tell the kernel of where they are in any case (hw/pci-host/q35.c,
q35_host_get_pci_hole64_end). But by this size QEMU refuses a processor with too few address bits as it starts, and with
AMD's moves memory and window out of the way of 0xfd00000000-0xffffffffff, which that IOMMU keeps (hw/i386/pc.c,
pc_max_used_gpa, pc_memory_init); and within it the kernel may place BARs anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dmaproof.rig.hardware import Function, Gpu
from dmaproof.rig.model import Node

GIB = 1 << 30
DEFAULT_NBYTES = 32 * GIB


def options(node: Node, lent: Mapping[str, Function]) -> Iterator[str]:
    """QEMU's option where the GPUs of ``lent`` declare BARs that do not fit into the window that q35 has anyway."""
    bars = [[bar.nbytes for bar in one.bars] for one in lent.values() if isinstance(one, Gpu)]
    needed = window_nbytes(bars) if node.guest is not None else 0
    if needed > DEFAULT_NBYTES:
        yield from ("-global", f"q35-pcihost.pci-hole64-size={needed // GIB}G")


def window_nbytes(devices: Iterable[Sequence[int]]) -> int:
    """What the BARs of ``devices`` (each its BARs' sizes, powers of two, in bytes) take at most, wherever it begins.

    Each is behind a port, whose own window is a multiple of its largest BAR (SeaBIOS: pci_bios_check_devices); the
    windows follow each other with the largest alignment first, and where memory ends nothing is aligned yet.
    """
    sizes = [list(bars) for bars in devices if bars]
    if not sizes:
        return 0
    windows = [_up(sum(bars), max(bars)) for bars in sizes]
    return _up(sum(windows) + max(max(bars) for bars in sizes), GIB)


def _up(nbytes: int, unit: int) -> int:
    return nbytes + -nbytes % unit
