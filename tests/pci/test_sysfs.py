"""PCI functions and the tree above them, from real files and links, and from this machine's own /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.pci.sysfs import Bar, Link, PciFunction, functions
from dmaproof.pci.tree import upstream
from tests.pci.machine_tree import MachineTree, gpu_config, port_config

PORT, SWITCH, DOWN, GPU = "0000:15:01.0", "0000:16:00.0", "0000:17:00.0", "0000:18:00.0"
RESOURCE = """0x0000000094000000 0x0000000094ffffff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000a0000000000 0x00000a1fffffffff 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000a2042000000 0x00000a2043ffffff 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000b0000000000 0x00000b0000ffffff 0x000000000014220c
"""


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    tree = MachineTree(tmp_path)
    tree.port(PORT, config=port_config())
    tree.port(SWITCH, under=PORT, config=port_config())
    tree.port(DOWN, under=SWITCH, config=port_config())
    return tree


def gpu_of(tree: MachineTree, **files: str) -> PciFunction:
    tree.function(GPU, under=DOWN, config=gpu_config(), **files)
    return next(one for one in functions(tree.root) if one.bdf == GPU)


def test_a_gpu_with_everything(machine: MachineTree) -> None:
    speeds = {"current_link_speed": "16.0 GT/s PCIe", "max_link_speed": "32.0 GT/s PCIe"}
    widths = {"current_link_width": "8", "max_link_width": "16"}
    found = gpu_of(machine, numa_node="1", resource=RESOURCE, power_state="D0", **speeds, **widths)
    assert (found.vendor, found.device, found.class_code) == (0x10DE, 0x2330, 0x030200)
    assert (found.numa_node, found.power_state, found.is_bridge) == (1, "D0", False)
    assert found.link == Link(current_generation=4, current_width=8, max_generation=5, max_width=16)
    assert found.parent == DOWN
    assert found.bars == (
        Bar(0, 0x94000000, 16 << 20, 0x40200),
        Bar(2, 0xA0000000000, 128 << 30, 0x14220C),
        Bar(4, 0xA2042000000, 32 << 20, 0x14220C),
    )


def test_what_cannot_be_read_is_none(machine: MachineTree) -> None:
    found = gpu_of(machine)
    assert (found.link, found.bars, found.numa_node, found.driver, found.iommu_group) == (None,) * 5


def test_links_name_driver_and_group(machine: MachineTree) -> None:
    folder = machine.function(GPU, under=DOWN, config=gpu_config())
    (machine.root / "sys/bus/pci/drivers/nvidia").mkdir(parents=True)
    (folder / "driver").symlink_to("../../../../../../bus/pci/drivers/nvidia")
    machine.group(12, "DMA-FQ", GPU)
    found = next(one for one in functions(machine.root) if one.bdf == GPU)
    assert (found.driver, found.iommu_group) == ("nvidia", 12)


def test_numa_minus_one_is_unknown(machine: MachineTree) -> None:
    assert gpu_of(machine, numa_node="-1").numa_node is None


@pytest.mark.parametrize(
    ("speed", "width", "expected"),
    [
        ("8 GT/s", "16", (3, 16)),
        ("2.5 GT/s PCIe", "1", (1, 1)),
        ("64.0 GT/s PCIe", "16", (6, 16)),
        ("Unknown", "63", (None, None)),
        ("", "x", (None, None)),
    ],
)
def test_link_spellings(machine: MachineTree, speed: str, width: str, expected: tuple[int | None, int | None]) -> None:
    link = gpu_of(machine, current_link_speed=speed, current_link_width=width).link
    assert link is not None
    assert (link.current_generation, link.current_width) == expected


def test_a_function_that_has_gone_is_left_out(machine: MachineTree) -> None:
    (machine.root / "sys/bus/pci/devices/0000:99:00.0").symlink_to("../../../devices/gone")
    (machine.root / "sys/bus/pci/devices/not-a-function").mkdir()
    assert [one.bdf for one in functions(machine.root)] == [PORT, SWITCH, DOWN]


def test_upstream_leads_to_the_root_port(machine: MachineTree) -> None:
    gpu_of(machine)
    found = functions(machine.root)
    assert upstream(found, GPU) == (DOWN, SWITCH, PORT)
    assert upstream(found, PORT) == ()
    assert upstream(found, "0000:ff:00.0") == ()


def test_upstream_ends_in_a_circle() -> None:
    circle = [PciFunction(bdf=a, vendor=1, device=1, class_code=0, parent=b) for a, b in ((PORT, DOWN), (DOWN, PORT))]
    assert upstream(circle, PORT) == (DOWN,)


def test_no_pci_at_all(tmp_path: Path) -> None:
    assert functions(tmp_path) == ()


REAL = Path("/sys/bus/pci/devices")


@pytest.mark.skipif(not REAL.exists() or not any(REAL.iterdir()), reason="this machine has no PCI bus")
def test_this_machine() -> None:
    found = functions(Path("/"))
    assert [one.bdf for one in found] == sorted(path.name for path in REAL.iterdir())
    for one in found:
        assert f"{one.vendor:#06x}" == (REAL / one.bdf / "vendor").read_text().strip()
        assert all(bar.address > 0 and bar.nbytes & bar.nbytes - 1 == 0 for bar in one.bars or ())
        assert one.parent is None or one.parent in {other.bdf for other in found}
