"""What a lab rig may claim: every claim that comes true is taken, every other is refused with what will be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmaproof.errors import RigError
from dmaproof.rig import load
from dmaproof.rig.lab import root_bus_of, root_ports
from tests.rig.lab_machines import Machine, machines, tables

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no defect
HEAD = 'name = "mine"\nkind = "lab"\n'
EDU = '[node.host.endpoint.{name}]\nkind = "edu"\nbdf = "{bdf}"\nport = "{port}"\n'
SWITCH = '[node.host.switch.sw]\nport = "00:02.0"\nupstream = "01:00.0"\ndownstream = ["02:00.0", "02:01.0"]\n'


def edu(name: str, bdf: str, port: str) -> str:
    return EDU.format(name=name, bdf=bdf, port=port)


def refusal(body: str) -> str:
    with pytest.raises(RigError) as caught:
        load.parse(HEAD + body, "mine.toml")
    message = str(caught.value)
    assert message.startswith("mine.toml: ")
    assert "\n" not in message
    return message


def rig(node: dict[str, Any]) -> str:
    return load.tomli_w.dumps({"name": "mine", "kind": "lab", "node": {"host": node}})


@UNHURRIED
@given(machines())
def test_the_numbers_that_firmware_gives_are_taken_and_survive_being_written_out(machine: Machine) -> None:
    node = load.parse(rig(tables(machine)), "mine.toml").node["host"]
    ports = root_ports(node.switch.values(), node.endpoints)
    assert [port.bdf for port in ports] == sorted(one.bdf for ports in machine.roots.values() for one in ports)
    assert {root_bus_of(one, node.switch.values()) for one in node.endpoints} <= set(machine.roots)
    again = load.parse(rig(tables(machine)), "mine.toml")
    assert load.parse(load.dump(again), "again") == again


@UNHURRIED
@given(machines(), st.data())
def test_another_number_is_refused_with_the_right_one(machine: Machine, data: st.DataObject) -> None:
    node = tables(machine)
    claims = [(one, "bdf") for one in node["endpoint"].values()]
    claims += [(one, "upstream") for one in node["switch"].values()]
    table, key = data.draw(st.sampled_from(claims))
    right = table[key]
    taken = {one["bdf"] for one in node["endpoint"].values()} | {one["port"] for one in node["endpoint"].values()}
    taken |= {one["port"] for one in node["switch"].values()}
    taken |= {bdf for one in node["switch"].values() for bdf in (one["upstream"], *one["downstream"])}
    wrong = data.draw(st.integers(0, 255).map(lambda bus: f"0000:{bus:02x}:00.0").filter(lambda bdf: bdf not in taken))
    table[key] = wrong
    with pytest.raises(RigError) as caught:
        load.parse(rig(node), "mine.toml")
    assert f"{key} = {wrong!r}" in str(caught.value)
    assert str(caught.value).endswith(f"it will be {right!r}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            edu("a", "01:00.0", "00:02.0") + edu("b", "03:00.0", "00:03.0"),
            "node.host.endpoint.b.bdf = '0000:03:00.0': the bus behind 0000:00:03.0 gets number 02, "
            "so it will be '0000:02:00.0'",
        ),
        (
            SWITCH.replace('"02:00.0", ', '"03:00.0", '),
            "node.host.switch.sw.downstream = '0000:03:00.0': the bus behind 0000:01:00.0 gets number 02, "
            "so it will be '0000:02:00.0'",
        ),
        (
            SWITCH + edu("a", "03:00.0", "02:01.0"),
            "endpoint.a.bdf = '0000:03:00.0': the bus behind 0000:02:01.0 gets number 04, so it will be '0000:04:00.0'",
        ),
        (
            SWITCH + edu("a", "04:00.0", "03:00.0"),
            "port 0000:03:00.0: bus 03 cannot be a root bus, firmware gives the numbers up to 04 to what is below the "
            "root bus before it; the next free one is 05",
        ),
        (edu("a", "01:00.0", "00:00.0"), "port 0000:00:00.0: the chipset's; free on bus 0 are"),
        (edu("a", "01:00.0", "00:1f.0"), "port 0000:00:1f.0: the chipset's; free on bus 0 are"),
        (edu("a", "0001:01:00.0", "00:02.0"), "0001:01:00.0: QEMU's machines have one PCI domain, 0000"),
        (edu("a", "01:00.0", "00:02.1"), "0000:00:02.1: every device here has one function, 0"),
        (
            edu("a", "01:00.0", "00:02.0") + edu("b", "01:01.0", "00:02.0"),
            "a and b are both under 0000:00:02.0, but a port has one link",
        ),
        (
            "".join(edu(f"e{nth}", f"{nth:02x}:00.0", f"00:{nth:02x}.0") for nth in range(1, 0x1F)),
            "31 places on bus 0 for ports, other root buses and the IOMMU, where 30 are free",
        ),
        (SWITCH + edu("a", "05:00.0", "00:02.0"), "sw and a are both under 0000:00:02.0"),
        (SWITCH + "pcie = { generation = 4, width = 16 }\n", "switch.sw.pcie: the link of QEMU's switch cannot"),
        (edu("a", "01:00.0", "00:02.0") + "numa_node = 1\n", "endpoint.a.numa_node = 1: root bus 00 has none"),
        (
            edu("a", "41:00.0", "40:00.0") + "numa_node = 1\n" + edu("b", "42:00.0", "40:01.0"),
            "endpoint.b.numa_node = None: on the same root bus a has 1",
        ),
        ("[node.host]\niommu = { family = 'smmuv3', domain = 'translated' }\n", "has vtd, amdvi, virtio-iommu, none"),
        ("[node.host]\niommu = { family = 'vtd' }\n", "iommu.domain = 'none' cannot be with family 'vtd'"),
        ("[node.host.qemu]\niommu_options = ['aw-bits=39']\n", "there is no IOMMU to take aw-bits=39"),
        (
            "[node.host.qemu]\nno_acs = ['02:00.0']\n" + SWITCH,
            "qemu.no_acs: 0000:02:00.0 is not among the root ports 0000:00:02.0; ports of switches have no ACS",
        ),
        (
            "[node.host.qemu]\narch = 'aarch64'\nno_acs = ['00:02.0']\n" + edu("a", "01:00.0", "00:02.0"),
            "qemu.no_acs: 0000:00:02.0: the one root port without ACS is Intel's (ioh3420)",
        ),
        (
            "[node.host.qemu]\narch = 'aarch64'\n" + edu("a", "41:00.0", "40:00.0"),
            "port 0000:40:00.0: without ACPI the aarch64 machine has one root bus, 00",
        ),
        ("[node.host.gpu.g0]\nbdf = '01:00.0'\n", "node.host.gpu.g0: QEMU has no GPUs; a lab has endpoints"),
    ],
)
def test_what_qemu_cannot_make_is_refused_in_one_line(body: str, said: str) -> None:
    assert said in refusal(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            edu("a", "01:00.0", "00:02.0") + "cmb_nbytes = 0x100000\n",
            "only NVMe drives have a controller memory buffer",
        ),
        (
            edu("a", "01:00.0", "00:02.0").replace("edu", "nvme") + "cmb_nbytes = 4096\n",
            "endpoint.a.cmb_nbytes = 4096: QEMU takes whole MiB",
        ),
        (edu("a", "01:00.0", "00:02.0").replace("edu", "nvm"), "kind = 'nvm': did you mean 'nvme'?"),
        (edu("a", "01:00.0", "00:02.0") + "cmb_nbyte = 1\n", "did you mean 'cmb_nbytes'?"),
        ("[node.host.endpoint.a]\nkind = 'edu'\nbdf = '01:00.0'\n", "node.host.endpoint.a.port is missing"),
        (edu("a", "01:00.0", "00:02.0") + edu("b", "01:00.0", "00:03.0"), "b and a both claim 0000:01:00.0"),
        (
            edu("a", "01:00.0", "00:02.0") + edu("b", "02:00.0", "01:00.0"),
            "b.port 0000:01:00.0 must be a port",
        ),
        (edu("host", "01:00.0", "00:02.0"), "an endpoint cannot be called 'host'"),
        ("[node.host.qemu]\nkernel = 'onw'\n", "'onw' is neither one of own, stock, host, selftests nor the path"),
        ("[node.host.qemu]\ncpu = 'EPYC v4'\n", "'EPYC v4' is not a CPU of QEMU's"),
        ("[node.host.qemu]\nmemory_nbytes = 1000000000\n", "node.host.qemu.memory_nbytes = 1000000000"),
        ("[node.host.qemu]\ncpus = 0\n", "node.host.qemu.cpus = 0"),
        ("[node.host.qemu]\niommu_options = ['caching-mode']\n", "'caching-mode' is not one option of QEMU's"),
        ("[node.host.qemu]\nmemory = 1\n", "did you mean 'memory_nbytes'?"),
    ],
)
def test_a_wrong_endpoint_or_qemu_is_told_of_in_one_line(body: str, said: str) -> None:
    assert said in refusal(body)


def test_only_a_lab_is_made_by_qemu() -> None:
    with pytest.raises(
        RigError, match=r"node\.host\.qemu: QEMU makes guests, and nodes of rigs of kind lab; this one is host"
    ):
        load.parse('name = "mine"\nkind = "host"\n[node.host.qemu]\n', "mine.toml")


def test_a_real_machine_may_have_endpoints_anywhere() -> None:
    node = load.parse('name = "mine"\nkind = "host"\n' + edu("a", "0001:c1:00.1", "0001:c0:03.1"), "mine.toml").nodes[0]
    assert [(one.name, one.bdf) for one in node.endpoints] == [("a", "0001:c1:00.1")]


def test_paths_may_end_at_endpoints() -> None:
    node = load.load("lab:vtd-pt").nodes[0]
    path = node.path_between("edu0", "edu1")
    assert path is not None
    assert path.peer
