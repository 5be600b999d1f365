"""Groups by the kernel's rule, on the tree that Linux 7.2 grouped so behind QEMU's VT-d, and on others."""

from __future__ import annotations

import dataclasses

from dmaproof.pci import config, grouping
from dmaproof.pci.capability import Acs, Express
from dmaproof.pci.config import ConfigSpace
from dmaproof.pci.root_complex import Cpu
from dmaproof.pci.route import Topology
from dmaproof.pci.sysfs import PciFunction

FULL = Acs(("SV", "RR", "CR", "UF"), ("SV", "RR", "CR", "UF"))
OFF = Acs(("SV", "RR", "CR", "UF"), ())
RP, UP, D0, D1 = "0000:00:10.0", "0000:01:00.0", "0000:02:00.0", "0000:02:01.0"
EDU0, EDU1 = "0000:03:00.0", "0000:04:00.0"
OTHER, OTHER_EDU = "0000:00:11.0", "0000:05:00.0"
PARENTS = {RP: None, UP: RP, D0: UP, D1: UP, EDU0: D0, EDU1: D1, OTHER: None, OTHER_EDU: OTHER}
KINDS = {RP: "root-port", UP: "upstream-port", D0: "downstream-port", D1: "downstream-port", OTHER: "root-port"}


def space(kind: str | None, acs: Acs | None) -> ConfigSpace:
    """Of a PCIe function of ``kind``, None for a conventional one."""
    blank = config.parse(bytes(4096))
    express = Express(kind, 1, 1, 1, 1) if kind else "absent"
    return dataclasses.replace(blank, lost=False, express=express, acs=acs or "absent", capabilities=(), extended=())


def topology(**acs_by_name: Acs | None) -> Topology:
    """The tree with the ACS of each port; by default that of root ports is on, and the switch has none."""
    acs = {RP: FULL, OTHER: FULL} | {globals()[name]: value for name, value in acs_by_name.items()}
    functions = tuple(PciFunction(bdf=bdf, vendor=1, device=1, class_code=0, parent=up) for bdf, up in PARENTS.items())
    spaces = {bdf: space(KINDS.get(bdf), acs.get(bdf)) for bdf in PARENTS}
    return Topology(functions, spaces, Cpu(None, None), {})


def group(of: str, where: Topology) -> set[str]:
    return set(grouping.predict(where)[of])


def test_a_switch_without_acs_gives_a_group_a_downstream_port() -> None:
    """As seen: {02:00.0, 03:00.0} and {02:01.0, 04:00.0}; the upstream port is alone."""
    where = topology()
    assert group(EDU0, where) == {D0, EDU0}
    assert group(EDU1, where) == {D1, EDU1}
    assert group(UP, where) == {UP}
    assert group(OTHER_EDU, where) == {OTHER_EDU}
    assert grouping.without_acs(where, EDU0) == (D0,)


def test_a_root_port_without_acs_takes_all_below_it() -> None:
    for acs in (None, OFF, Acs(FULL.capability, ("SV", "RR", "CR"))):
        where = topology(RP=acs)
        assert group(EDU0, where) == {RP, UP, D0, D1, EDU0, EDU1}
        assert group(OTHER_EDU, where) == {OTHER_EDU}


def test_a_bit_that_a_port_does_not_have_is_as_if_on() -> None:
    assert group(OTHER_EDU, topology(OTHER=Acs(("SV", "UF"), ("SV", "UF")))) == {OTHER_EDU}


def test_downstream_ports_with_acs_isolate_what_is_below_them() -> None:
    assert group(EDU0, topology(D0=FULL, D1=FULL)) == {EDU0}


def test_functions_of_a_slot_that_nothing_isolates_share_a_group_with_all_below_them() -> None:
    """As seen of two root ports without ACS at 18.0 and 18.1: one group, with the endpoints below both."""
    where = topology(RP=None, OTHER=None)
    second = "0000:00:10.1"
    functions = tuple(
        dataclasses.replace(one, bdf=second) if one.bdf == OTHER
        else dataclasses.replace(one, parent=second) if one.parent == OTHER
        else one
        for one in where.functions
    )  # fmt: skip
    where = dataclasses.replace(where, functions=functions, spaces={**where.spaces, second: where.spaces[OTHER]})
    assert group(OTHER_EDU, where) == {RP, UP, D0, D1, EDU0, EDU1, second, OTHER_EDU}


def test_what_was_not_read_is_left_out() -> None:
    where = topology()
    blind = {**where.spaces, RP: config.parse(b"")}
    known = grouping.predict(dataclasses.replace(where, spaces=blind))
    assert EDU0 not in known
    assert known[OTHER_EDU] == {OTHER_EDU}
