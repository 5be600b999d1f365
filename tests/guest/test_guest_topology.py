"""QEMU's arguments for a guest with all that a rig may say of one, and that a real QEMU takes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import capability, program
from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.rig import load
from dmaproof.rig.guests import lent
from dmaproof.rig.model import Rig

EVERYTHING = """
name = "bench"
kind = "host"
[node.host.gpu_defaults]
bars = [{ index = 0, address = 0, nbytes = 0x1000000 }, { index = 1, address = 0x1000000, nbytes = 0x2000000000 }]
[node.host.gpu.gpu0]
bdf = "17:00.0"
[node.host.gpu.gpu1]
bdf = "65:00.0"
[node.host.endpoint.nvme0]
kind = "nvme"
bdf = "41:00.0"
port = "40:01.0"
[node.one]
role = "guest"
iommu = { family = "vtd", domain = "translated" }
qemu = { cpus = 2, memory_nbytes = 0x40000000 }
[node.one.guest]
on = "host"
backend = "iommufd"
no_mmap = ["nvme0"]
numa_node = 0
arguments = ["-global", "vfio-pci.x-balloon-allowed=off"]
[node.one.gpu_defaults]
clique = 5
[node.one.gpu.gpu0]
bdf = "02:00.0"
port = "00:11.0"
[node.one.gpu.gpu1]
bdf = "01:00.0"
port = "00:10.0"
[node.one.endpoint.nvme0]
kind = "nvme"
bdf = "03:00.0"
port = "00:12.0"
"""


@pytest.fixture
def rig() -> Rig:
    return load.parse(EVERYTHING, "everything")


def test_a_guest_with_everything(rig: Rig) -> None:
    one = rig.node["one"]
    said = arguments(one, lent(rig, one))
    assert list(zip(said[::2], said[1::2], strict=True)) == [
        ("-machine", "q35,kernel-irqchip=split"),
        ("-smp", "2"),
        ("-m", "1024M"),
        ("-object", "memory-backend-memfd,id=ram,size=1024M,share=on,host-nodes=0,policy=bind"),
        ("-machine", "memory-backend=ram"),
        ("-global", "q35-pcihost.pci-hole64-size=640G"),  # two windows of 256 GiB, and 128 GiB before the first
        ("-device", "intel-iommu,intremap=on,device-iotlb=on,aw-bits=48,caching-mode=on"),
        ("-device", "pcie-root-port,id=port-00-10,bus=pcie.0,addr=10,chassis=1"),
        ("-device", "pcie-root-port,id=port-00-11,bus=pcie.0,addr=11,chassis=2"),
        ("-device", "pcie-root-port,id=port-00-12,bus=pcie.0,addr=12,chassis=3"),
        ("-object", "iommufd,id=iommufd0"),
        (
            "-device",
            "vfio-pci,host=0000:17:00.0,id=endpoint-gpu0,bus=port-00-11,addr=00,iommufd=iommufd0,x-nv-gpudirect-clique=5",
        ),
        (
            "-device",
            "vfio-pci,host=0000:65:00.0,id=endpoint-gpu1,bus=port-00-10,addr=00,iommufd=iommufd0,x-nv-gpudirect-clique=5",
        ),
        (
            "-device",
            "vfio-pci,host=0000:41:00.0,id=endpoint-nvme0,bus=port-00-12,addr=00,iommufd=iommufd0,x-no-mmap=on",
        ),
    ]
    assert kernel_parameters(one) == ("intel_iommu=on", "iommu.passthrough=0")


def test_gpus_that_say_less_take_less(rig: Rig) -> None:
    plain = EVERYTHING.replace("clique = 5", "").replace("0x2000000000", "0x10000000")
    said = arguments(load.parse(plain, "plain").node["one"], lent(load.parse(plain, "plain"), rig.node["one"]))
    assert not any("clique" in word or "hole64" in word for word in said)


def test_a_node_that_is_no_guest_has_no_caching_iommu() -> None:
    assert not any("caching-mode" in word for word in arguments(load.load("lab:vtd").node["host"]))


@pytest.mark.parametrize("suite", [program.AUTO, "trixie"])
def test_qemu_takes_them(rig: Rig, suite: str) -> None:
    """All but the functions, which are not here: of vfio-pci it is asked whether it has the options."""
    one = rig.node["one"]
    said = arguments(one, lent(rig, one))
    needs = capability.needed(said)
    assert {"vfio-pci.x-nv-gpudirect-clique", "vfio-pci.x-no-mmap", "vfio-pci.iommufd"} <= {*needs}
    try:
        qemu = program.choose(suite, "x86_64", needs)
    except UsageError as error:
        pytest.skip(str(error))
    here = [
        word
        for option, value in zip(said[::2], said[1::2], strict=True)
        if not value.startswith(("vfio-pci", "iommufd"))
        for word in (option, value)
    ]
    places = {"/machine/q35": "pci-hole64-size", "/objects/ram": "policy", "/machine": "memory-backend"}
    assert _asked(qemu, here, places) == [640 << 30, "bind", "/objects/ram"]


_AT = "/machine/peripheral"


def _asked(qemu: program.Program, said: Sequence[str], places: Mapping[str, str]) -> list[object]:
    """The properties of a machine that was made and not started."""
    questions = [{"execute": "qom-get", "arguments": {"path": at, "property": one}} for at, one in places.items()]
    lines = [{"execute": "qmp_capabilities"}, *questions, {"execute": "quit"}]
    words = [*qemu.argv, "-nodefaults", "-display", "none", "-S", "-cpu", "max", "-qmp", "stdio", *said]
    asked = "".join(json.dumps(one) for one in lines)
    done = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    found = [one["return"] for one in answers if one.get("return")]
    assert len(found) == len(places), f"QEMU refused: {done.stderr}"
    return found


def test_a_processor_with_too_few_address_bits_is_refused_as_it_starts(rig: Rig) -> None:
    one = rig.node["one"]
    said = arguments(one, lent(rig, one))
    (window,) = ((a, b) for a, b in pairwise(said) if "hole64" in b)
    try:
        qemu = program.choose(program.AUTO, "x86_64", ())
    except UsageError as error:
        pytest.skip(str(error))
    words = [*qemu.argv, "-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-machine", "q35", *window]
    done = subprocess.run([*words, "-cpu", "max,phys-bits=39"], capture_output=True, text=True, timeout=60, check=False)
    assert "phys-bits too low (39)" in done.stderr


CXL = """
name = "x"
kind = "host"
node.host.gpu.gpu0.bdf = "17:00.0"
node.one.role = "guest"
[node.one.guest]
on = "host"
arguments = [
    "-machine", "cxl=on,cxl-fmw.0.targets.0=root-40,cxl-fmw.0.size=256G",
    "-set", "device.root-40.driver=pxb-cxl",
    "-set", "device.port-40-00.driver=cxl-rp",
]
[node.one.gpu.gpu0]
bdf = "41:00.0"
port = "40:00.0"
"""


def test_arguments_make_the_port_above_a_gpu_one_of_cxl() -> None:
    rig = load.parse(CXL, "x")
    one = rig.node["one"]
    assert one.guest is not None
    try:
        qemu = program.choose(program.AUTO, "x86_64", ("pxb-cxl", "cxl-rp"))
    except UsageError as error:
        pytest.skip(str(error))
    said = [word.replace("vfio-pci,host=0000:17:00.0", "edu") for word in arguments(one, lent(rig, one))]
    kinds = _asked(qemu, [*said, *one.guest.arguments], {f"{_AT}/root-40": "type", f"{_AT}/port-40-00": "type"})
    assert kinds == ["pxb-cxl", "cxl-rp"]
