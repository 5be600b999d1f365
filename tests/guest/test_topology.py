"""QEMU's arguments: what they are, that QEMU takes them, and that what they say of the bus is what the rig says."""

from __future__ import annotations

import json
import subprocess

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import capability, program
from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.rig import load
from dmaproof.rig.model import Node
from tests.guest import topologies

EVERYTHING = """
name = "everything"
kind = "lab"
[node.host]
iommu = { family = "vtd", domain = "passthrough" }
parameters = ["quiet"]
[node.host.qemu]
cpus = 3
memory_nbytes = 0x60100000
iommu_options = ["aw-bits=39", "caching-mode=on"]
no_acs = ["0000:00:1e.0", "0000:40:03.0"]
[node.host.switch.sw]
port = "0000:40:03.0"
upstream = "0000:42:00.0"
downstream = ["0000:43:1f.0", "0000:43:01.0"]
[node.host.endpoint.t0]
kind = "iommu-testdev"
bdf = "0000:01:00.0"
port = "0000:00:1e.0"
[node.host.endpoint.i0]
kind = "igb"
bdf = "0000:41:00.0"
port = "0000:40:00.0"
numa_node = 1
[node.host.endpoint.n0]
kind = "nvme"
bdf = "0000:45:00.0"
port = "0000:43:1f.0"
numa_node = 1
"""


def everything() -> Node:
    return load.parse(EVERYTHING, "everything").node["host"]


def test_no_argument_of_any_profile_has_changed_unread() -> None:
    assert topologies.text() == topologies.FILE.read_text(encoding="utf-8"), (
        "where that is meant: python -m tests.guest.topologies, and read what it changed"
    )


def test_a_node_with_everything() -> None:
    said = arguments(everything())
    assert list(zip(said[::2], said[1::2], strict=True)) == [
        ("-machine", "q35,kernel-irqchip=split"),
        ("-smp", "3"),
        ("-m", "1537M"),
        ("-object", "memory-backend-memfd,id=numa0,size=769M,share=on"),
        ("-numa", "node,nodeid=0,cpus=0,cpus=1,memdev=numa0"),
        ("-object", "memory-backend-memfd,id=numa1,size=768M,share=on"),
        ("-numa", "node,nodeid=1,cpus=2,memdev=numa1"),
        ("-device", "intel-iommu,intremap=on,device-iotlb=on,aw-bits=39,caching-mode=on"),
        ("-device", "pxb-pcie,id=root-40,bus=pcie.0,addr=1c,bus_nr=64,numa_node=1"),
        ("-device", "ioh3420,id=port-00-1e,bus=pcie.0,addr=1e,chassis=1"),
        ("-device", "pcie-root-port,id=port-40-00,bus=root-40,addr=00,chassis=2"),
        ("-device", "ioh3420,id=port-40-03,bus=root-40,addr=03,chassis=3"),
        ("-device", "x3130-upstream,id=switch-sw,bus=port-40-03,addr=00"),
        ("-device", "xio3130-downstream,id=port-43-01,bus=switch-sw,addr=01,chassis=4"),
        ("-device", "xio3130-downstream,id=port-43-1f,bus=switch-sw,addr=1f,chassis=5"),
        ("-device", "iommu-testdev,id=endpoint-t0,bus=port-00-1e,addr=00"),
        ("-device", "igb,id=endpoint-i0,bus=port-40-00,addr=00,romfile="),
        ("-drive", "if=none,id=drive-n0,driver=null-co,size=64M,read-zeroes=on,snapshot=on"),
        ("-device", "nvme,id=endpoint-n0,bus=port-43-1f,addr=00,serial=n0,drive=drive-n0"),
    ]
    assert kernel_parameters(everything()) == ("intel_iommu=on", "iommu=pt")


@pytest.mark.parametrize("slot", ["01", "10", "1e"])
@pytest.mark.parametrize("family", ["vtd", "amdvi", "virtio-iommu"])
def test_what_is_put_on_bus_0_besides_leaves_the_rig_its_places(slot: str, family: str) -> None:
    text = f"""
name = "x"
kind = "lab"
[node.host]
iommu = {{ family = "{family}", domain = "translated" }}
[node.host.endpoint.a]
kind = "edu"
bdf = "01:00.0"
port = "00:{slot}.0"
[node.host.endpoint.b]
kind = "edu"
bdf = "09:00.0"
port = "08:00.0"
"""
    devices = [word for word in arguments(load.parse(text, "x").node["host"]) if "bus=pcie.0" in word]
    places = [part for word in devices for part in word.split(",") if part.startswith("addr=")]
    assert f"addr={slot}" in places
    assert len(set(places)) == len(places)


def test_an_smmu_with_options_is_a_device_of_its_own() -> None:
    text = """
extends = "lab:smmuv3"
name = "x"
[node.host.qemu]
iommu_options = ["ril=off"]
"""
    said = arguments(load.parse(text, "x").node["host"])
    assert "virt,gic-version=3" in said
    assert "arm-smmuv3,primary-bus=pcie.0,ril=off" in said


@pytest.mark.parametrize("word", [*topologies.profiles(), "everything"])
def test_qemu_takes_the_arguments_and_has_the_devices_where_they_say(word: str) -> None:
    node = everything() if word == "everything" else load.load(word).node["host"]
    arch = node.qemu.arch if node.qemu is not None else "x86_64"
    said = arguments(node)
    try:
        qemu = program.choose(program.AUTO, arch, capability.needed(said))
    except UsageError as error:
        pytest.skip(str(error))
    wanted = {f"endpoint-{one.name}": (_id(one.port), "00.0") for one in node.endpoints}
    wanted |= {f"switch-{one.name}": (_id(one.port), "00.0") for one in node.switch.values()}
    for switch in node.switch.values():
        wanted |= {_id(port): (f"switch-{switch.name}", f"{port[8:10]}.0") for port in switch.downstream}
    assert _places(qemu, said, list(wanted)) == wanted


def _id(bdf: str) -> str:
    return f"port-{bdf[5:-2].replace(':', '-')}"


def _places(qemu: program.Program, said: tuple[str, ...], ids: list[str]) -> dict[str, tuple[str, str]]:
    """The device above each, and its place there, in a machine that was made and not started. (Without firmware
    query-pci sees only root buses.)"""
    questions = [
        {"execute": "qom-get", "arguments": {"path": f"/machine/peripheral/{one}", "property": name}}
        for one in ids
        for name in ("parent_bus", "addr")
    ]
    words = [*qemu.argv, "-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-qmp", "stdio", *said]
    lines = [{"execute": "qmp_capabilities"}, *questions, {"execute": "quit"}]
    asked = "".join(json.dumps(one) for one in lines)
    done = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = [one["return"] for one in answers if isinstance(one.get("return"), str | int)]
    assert len(found) == len(questions), f"QEMU refused: {done.stderr}"
    above = [bus.split("/")[3] for bus in found[::2]]  # /machine/peripheral/ID/BUS
    places = [f"{devfn >> 3:02x}.{devfn & 7}" for devfn in found[1::2]]
    return dict(zip(ids, zip(above, places, strict=True), strict=True))
