"""Switches in rig files, and on the machines that they are discovered on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.errors import RigError
from dmaproof.pci import sysfs
from dmaproof.rig import switches
from dmaproof.rig.load import dump, load, parse
from dmaproof.virtual.power import provision

WORD = "virtual:pcie-switch"
RIG = """
name = "x"
kind = "virtual"
[node.a.gpu.g0]
bdf = "0000:1a:00.0"
port = "0000:19:00.0"
[node.a.switch.s0]
port = "{port}"
upstream = "{upstream}"
downstream = ["0000:19:00.0", "{second}"]
"""
PORTS = {"port": "0000:17:00.0", "upstream": "0000:18:00.0", "second": "0000:19:04.0"}


def test_a_gpu_is_under_the_switch_that_has_its_port() -> None:
    node = parse(RIG.format(**PORTS), "x.toml").nodes[0]
    assert node.switch_above(node.gpu["g0"]) is node.switch["s0"]
    assert node.switch["s0"].name == "s0"
    other = load("virtual:pcie-pair").nodes[0]
    assert other.switch_above(other.gpu["gpu0"]) is None


def test_switches_survive_being_written_and_read() -> None:
    assert parse(dump(load(WORD)), "copy") == load(WORD)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"upstream": "0000:1a:00.0"}, "s0 and g0 both claim 0000:1a:00.0"),
        ({"second": "0000:18:00.0"}, "s0 and s0 both claim 0000:18:00.0"),
        ({"port": "0000:19:00.0"}, "s0.port 0000:19:00.0 must be a root port, but is s0's"),
        ({"port": "17"}, "'17' is not a PCI address"),
    ],
)
def test_ports_that_cannot_be_are_told_of(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(RigError, match=message):
        parse(RIG.format(**{**PORTS, **wrong}), "x.toml")


def test_without_configuration_space_no_switch_is_claimed(tmp_path: Path) -> None:
    """Only root may read the capability that tells a downstream port from a root port."""
    with provision(load(WORD), tmp_path / "machines") as nodes:
        root = nodes["host"].root
        functions = sysfs.functions(root)
        known, ports = {one.bdf: one for one in functions}, [one.parent for one in functions]
        assert switches.above(root, known, ports)["switch0"]["port"] == "0000:17:00.0"
        for one in functions:
            file = root / sysfs.DEVICES / one.bdf / "config"
            file.write_bytes(file.read_bytes()[:64])
        assert switches.above(root, known, ports) == {}
