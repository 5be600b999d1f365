"""The route predictor: against the rule written down a second time, naively, and on trees of real files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.pci import config, route
from dmaproof.pci.capability import Acs
from dmaproof.pci.root_complex import Cpu
from dmaproof.pci.route import Topology, predict
from dmaproof.pci.route_changes import already_asked, changes
from dmaproof.pci.sysfs import PciFunction
from tests.pci.machine_tree import MachineTree, express, gpu_config, header, port_config

INTEL = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
ZEN = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\n"
GRACE = "processor\t: 0\nBogoMIPS\t: 2000.00\nCPU implementer\t: 0x41\n"
WANTED = 0x1D  # what the kernel sets under an active IOMMU: SV RR CR UF


def naive(parents: Mapping[str, str | None], redir: Mapping[str, bool], provider: str, client: str) -> tuple[str, int]:
    """The kernel's rule, line by line; what passes the host bridge is told apart elsewhere."""
    acs = da = db = 0
    a: str | None = provider
    while a is not None:
        db = 0
        acs += redir[a]
        bb: str | None = client
        while bb is not None:
            if bb == a:
                bb = client
                while bb is not None and bb != a:
                    acs += redir[bb]
                    bb = parents[bb]
                return "bus" if acs == 0 else "host", da + db
            bb = parents[bb]
            db += 1
        a = parents[a]
        da += 1
    return "host", da + db


def space(acs: Acs | str) -> config.ConfigSpace:
    if acs == "unknown":
        return config.parse(b"")
    if acs == "absent":
        return config.parse(bytes(express(header(), port=4)))
    assert isinstance(acs, Acs)
    bits = {"SV": 1, "TB": 2, "RR": 4, "CR": 8, "UF": 16, "EC": 32, "DT": 64}
    return config.parse(port_config(acs_control=sum(bits[bit] for bit in acs.control)))


CONTROLS = [(), ("SV", "UF"), ("RR",), ("SV", "CR"), ("EC",), ("SV", "RR", "CR", "UF")]
KNOWN_ACS = st.sampled_from([*(Acs((), control) for control in CONTROLS), "absent"])


@st.composite
def topologies(draw: st.DrawFn, acs: st.SearchStrategy[Acs | str] = KNOWN_ACS) -> Topology:
    """A forest of up to 14 functions, each under an earlier one or on one of two root buses."""
    functions: list[PciFunction] = []
    for number in range(draw(st.integers(1, 14))):
        above = draw(st.sampled_from([None, *(one.bdf for one in functions)]))
        bus = draw(st.sampled_from(["0000:00", "0000:80"])) if above is None else f"0000:{number + 1:02x}"
        functions.append(
            PciFunction(bdf=f"{bus}:{number:02x}.0", vendor=0x8086, device=0x09A2, class_code=0x060400, parent=above)
        )
    functions.sort(key=lambda one: one.bdf)
    spaces = {one.bdf: space(draw(acs)) for one in functions}
    return Topology(tuple(functions), spaces, Cpu(True, "AuthenticAMD", 0x19), {})


@given(topologies(), st.data())
def test_the_rule_written_twice(topology: Topology, data: st.DataObject) -> None:
    names = [one.bdf for one in topology.functions]
    provider, client = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    parents = {one.bdf: one.parent for one in topology.functions}
    redir = {bdf: isinstance(one.acs, Acs) and one.acs.redirects for bdf, one in topology.spaces.items()}
    outcome, distance = naive(parents, redir, provider, client)
    found = predict(topology, provider, client)
    assert (found.outcome.removesuffix("-bridge"), found.distance) == (outcome, distance)
    assert predict(topology, client, provider).outcome == found.outcome
    assert {step.bdf for step in found.steps if step.counts and step.redirects} == set(found.redirecting)
    assert len({step.bdf for step in found.steps}) == len(found.steps)
    if found.redirecting:
        assert found.decided_by in found.redirecting
        assert found.acs


@given(topologies(st.one_of(KNOWN_ACS, st.just("unknown"))), st.data())
def test_what_cannot_be_read_never_decides(topology: Topology, data: st.DataObject) -> None:
    """Whatever the unreadable ports hide, the answer given stands; and where it is unknown, both answers could be."""
    names = [one.bdf for one in topology.functions]
    provider, client = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    parents = {one.bdf: one.parent for one in topology.functions}
    possible = set()
    for hidden in (False, True):
        redir = {
            bdf: hidden if one.acs == "unknown" else isinstance(one.acs, Acs) and one.acs.redirects
            for bdf, one in topology.spaces.items()
        }
        possible.add(naive(parents, redir, provider, client)[0])
    outcome = predict(topology, provider, client).outcome.removesuffix("-bridge")
    assert possible == ({"bus", "host"} if outcome == "unknown" else {outcome})


@given(topologies(), st.data())
def test_the_parameter_that_is_named_does_it(topology: Topology, data: st.DataObject) -> None:
    """With the bits off at exactly the ports that the change names, peers meet below; with one left on, they do not."""
    names = [one.bdf for one in topology.functions]
    provider, client = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    found = predict(topology, provider, client)
    if not found.redirecting:
        return
    parameter = changes(found, topology)[0].what
    ports = parameter.removeprefix("pci=disable_acs_redir=").split(";")
    off = {**topology.spaces, **{bdf: space(Acs((), ())) for bdf in ports}}
    after = Topology(topology.functions, off, topology.cpu, {})
    assert predict(after, provider, client).outcome == "bus"
    kept = data.draw(st.sampled_from(ports))
    almost = Topology(topology.functions, {**off, kept: topology.spaces[kept]}, topology.cpu, {})
    assert predict(almost, provider, client).outcome == "host-bridge"


PORT, UP, DOWN, GPUS = (
    "0000:16:01.0",
    "0000:17:00.0",
    ("0000:18:00.0", "0000:18:01.0"),
    ("0000:19:00.0", "0000:1a:00.0"),
)


def switch(
    root: Path, *, acs: int = 0, root_device: tuple[int, int] = (0x8086, 0x09A2), cpu: str = INTEL
) -> MachineTree:
    """Two GPUs under one switch under one root port; ``acs`` is the downstream ports' control."""
    tree = MachineTree(root)
    (root / "proc/cpuinfo").write_text(f"{cpu}\n\n{ZEN}")
    ids = {"vendor": f"{root_device[0]:#06x}", "device": f"{root_device[1]:#06x}", "class": "0x088000"}
    tree.function("0000:16:00.0", config=bytes(header(first_capability=0)[:256]), **ids)
    tree.port(PORT, config=port_config(acs_control=WANTED))
    tree.port(UP, under=PORT, config=bytes(express(header(), port=5)))
    for port, gpu in zip(DOWN, GPUS, strict=True):
        tree.port(port, under=UP, config=port_config(acs_control=acs))
        tree.function(gpu, under=port, config=gpu_config())
    return tree


def test_under_one_switch_peers_meet(tmp_path: Path) -> None:
    found = predict(switch(tmp_path).root, *GPUS)
    assert (found.outcome, found.distance, found.common) == ("bus", 4, UP)
    assert (found.decided_by, found.acs, found.redirecting) == (None, (), ())
    assert [(step.bdf, step.side, step.counts) for step in found.steps] == [
        (GPUS[0], "provider", True),
        (DOWN[0], "provider", True),
        (UP, "common", True),
        (PORT, "common", False),  # its ACS redirects, and nobody asks it
        (DOWN[1], "client", True),
        (GPUS[1], "client", True),
    ]
    assert changes(found, route.look(tmp_path)) == ()


def test_an_active_iommu_redirects(tmp_path: Path) -> None:
    tree = switch(tmp_path, acs=WANTED)
    found = predict(tree.root, *GPUS)
    assert (found.outcome, found.distance) == ("host-bridge", 4)
    assert (found.decided_by, found.acs, found.redirecting) == (DOWN[0], ("RR", "CR"), DOWN)
    assert "8086:09a2" in found.reason
    assert [(one.kind, one.what) for one in changes(found, route.look(tree.root))] == [
        ("kernel-parameter", "pci=disable_acs_redir=0000:18:00.0;0000:18:01.0"),
        ("kernel-parameter", "pci=config_acs=xxx00xx@0000:18:00.0;xxx00xx@0000:18:01.0"),
        ("register", "setpci -s 0000:18:00.0 ECAP_ACS+6.w=0:c"),
        ("register", "setpci -s 0000:18:01.0 ECAP_ACS+6.w=0:c"),
    ]


@pytest.mark.parametrize(
    ("control", "mask", "value"), [(0x04, "xxxx0xx", "4"), (0x28, "x0x0xxx", "28"), (0x7F, "x0x00xx", "2c")]
)
def test_the_mask_leaves_the_other_bits(control: int, mask: str, value: str, tmp_path: Path) -> None:
    tree = switch(tmp_path, acs=control)
    told = [one.what for one in changes(predict(tree.root, *GPUS), route.look(tree.root))]
    assert f"pci=config_acs={mask}@{DOWN[0]};{mask}@{DOWN[1]}" in told
    assert f"setpci -s {DOWN[0]} ECAP_ACS+6.w=0:{value}" in told


def test_a_parameter_without_effect_is_noticed(tmp_path: Path) -> None:
    tree = switch(tmp_path, acs=WANTED)
    tree.command_line("quiet pci=disable_acs_redir=18:00.0 intel_iommu=on")
    topology = route.look(tree.root)
    assert already_asked(topology, predict(topology, *GPUS)) == ("pci=disable_acs_redir=18:00.0",)


@pytest.mark.parametrize(
    ("device", "cpu", "outcome"),
    [
        ((0x8086, 0x09A2), INTEL, "host-bridge"),
        ((0x8086, 0x29C0), INTEL, "unsupported"),
        ((0x8086, 0x29C0), ZEN, "host-bridge"),
        ((0x1022, 0x1450), "vendor_id\t: AuthenticAMD\ncpu family\t: 21\n", "unsupported"),
        ((0x1022, 0x1450), "vendor_id\t: HygonGenuine\ncpu family\t: 24\n", "unsupported"),
        ((0x10DE, 0x22B2), GRACE, "unsupported"),
        ((0x10DE, 0x2F95), GRACE, "unknown"),
        ((0x8086, 0x2F00), INTEL, "host-bridge"),
        ((0x8086, 0x29C0), "", "unknown"),
        ((0x8086, 0x2020), "", "host-bridge"),
    ],
)
def test_who_passes_the_host_bridge(device: tuple[int, int], cpu: str, outcome: str, tmp_path: Path) -> None:
    tree = switch(tmp_path, acs=WANTED, root_device=device, cpu=cpu)
    if not cpu:
        (tmp_path / "proc/cpuinfo").unlink()
    found = predict(tree.root, *GPUS)
    assert found.outcome == outcome, found.reason
    told = [one.what for one in changes(found, route.look(tree.root)) if one.kind == "whitelist"]
    assert bool(told) == (outcome != "host-bridge")
    assert all(f"{{0x{device[0]:04x}, 0x{device[1]:04x}}}" in what for what in told)


def two_sockets(root: Path, devices: tuple[int, int], *, devfn: str = "00.0") -> MachineTree:
    tree = MachineTree(root)
    (root / "proc/cpuinfo").write_text(INTEL)
    for bus, device, gpu in zip(("0000:16", "0000:64"), devices, GPUS, strict=True):
        ids = {"vendor": "0x8086", "device": f"{device:#06x}", "class": "0x088000"}
        tree.function(f"{bus}:{devfn}", config=port_config(acs_control=0), **ids)
        tree.port(f"{bus}:1f.0", config=port_config(acs_control=WANTED))
        tree.function(gpu, under=f"{bus}:1f.0", config=gpu_config())
    return tree


@pytest.mark.parametrize(
    ("devices", "outcome"),
    [
        ((0x09A2, 0x09A2), "host-bridge"),
        ((0x2F00, 0x2F00), "unsupported"),  # listed for peers under one bridge only
        ((0x09A2, 0x1234), "unsupported"),
        ((0x1234, 0x09A2), "unsupported"),
        ((0x0B25, 0x09A2), "unknown"),  # listed by later kernels only
        ((0x0B25, 0x1234), "unsupported"),  # whichever kernel it is, the other bridge stops it
    ],
)
def test_between_host_bridges_both_must_be_listed(devices: tuple[int, int], outcome: str, tmp_path: Path) -> None:
    found = predict(two_sockets(tmp_path, devices).root, *GPUS)
    assert (found.outcome, found.distance, found.common, found.redirecting) == (outcome, 4, None, ())
    assert not any(step.counts for step in found.steps)
    if outcome == "unsupported":
        assert found.decided_by in ("0000:16:00.0", "0000:64:00.0")


def test_a_root_port_may_stand_for_its_bridge(tmp_path: Path) -> None:
    """Skylake's root ports head their bus at any number (whitelist commit 1af7c26c59eb); other devices must be 00.0."""
    tree = two_sockets(tmp_path, (0x2031, 0x2031), devfn="02.0")
    assert predict(tree.root, *GPUS).outcome == "host-bridge"
    path = tree.root / "sys/bus/pci/devices/0000:16:02.0/config"
    path.write_bytes(gpu_config())
    assert predict(tree.root, *GPUS).outcome == "unsupported"
    path.write_bytes(gpu_config()[:64])
    assert predict(tree.root, *GPUS).outcome == "unknown"


def test_without_root_the_route_is_unknown(tmp_path: Path) -> None:
    tree = switch(tmp_path)
    for path in (tmp_path / "sys/bus/pci/devices").glob("*/config"):
        path.write_bytes(path.read_bytes()[:64])
    found = predict(tree.root, *GPUS)
    assert (found.outcome, found.decided_by) == ("unknown", None)
    assert "run as root" in found.reason
    assert [one.kind for one in changes(found, route.look(tree.root))] == ["privilege"]


def test_one_redirecting_port_is_enough_to_know(tmp_path: Path) -> None:
    tree = switch(tmp_path, acs=WANTED)
    path = tree.root / "sys/bus/pci/devices" / DOWN[0] / "config"
    path.write_bytes(path.read_bytes()[:64])
    found = predict(tree.root, *GPUS)
    assert (found.outcome, found.decided_by) == ("host-bridge", DOWN[1])


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no PCI function 0000:ff:00\.0"):
        predict(switch(tmp_path).root, GPUS[0], "0000:ff:00.0")
