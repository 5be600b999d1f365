"""What would change a route: kernel parameters, a port's register, another slot, or merely more rights to look.

``pci=disable_acs_redir=`` and ``pci=config_acs=`` are in Documentation/admin-guide/kernel-parameters.txt (the first
character of a mask is bit 6, DT; the last bit 0, SV; ``x`` leaves a bit as it is); ECAP_ACS+6 is pciutils' name for the
ACS control register.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dmaproof.pci.capability import Acs
from dmaproof.pci.route import Route, Step, Topology, redirecting_bits

_BITS = ("DT", "EC", "UF", "CR", "RR", "TB", "SV")  # bit 6 first, as config_acs= has them
_ISOLATION = "the functions below these ports can then reach each other unseen by the IOMMU, and share one IOMMU group"


@dataclass(frozen=True, slots=True)
class Change:
    """``what`` is to be written, run or done; ``effect`` says what it brings and costs."""

    kind: Literal["kernel-parameter", "register", "whitelist", "slot", "privilege"]
    what: str
    effect: str


def changes(route: Route, topology: Topology) -> tuple[Change, ...]:
    """What would change ``route``, the mildest first; nothing for a direct one."""
    if route.outcome == "bus":
        return ()
    return (*_privilege(route), *_acs(route), *_slot(route), *_whitelist(route, topology))


def _privilege(route: Route) -> Iterator[Change]:
    if any(step.counts and step.redirects is None for step in route.steps):
        yield Change("privilege", "run as root (CAP_SYS_ADMIN)", "ACS becomes readable, and the route known")


def _acs(route: Route) -> Iterator[Change]:
    ports = [step for step in route.steps if step.bdf in route.redirecting]
    if not ports:
        return
    listed = ";".join(step.bdf for step in ports)
    yield Change("kernel-parameter", f"pci=disable_acs_redir={listed}", f"peers go straight; {_ISOLATION}")
    masks = ";".join(f"{config_acs_mask(step)}@{step.bdf}" for step in ports)
    yield Change("kernel-parameter", f"pci=config_acs={masks}", "the same, bit by bit (Linux 6.11 and later)")
    for step in ports:
        what = f"setpci -s {step.bdf} ECAP_ACS+6.w=0:{_redirecting_value(step):x}"
        yield Change("register", what, "the same until the next boot; not while devices work")


def config_acs_mask(step: Step) -> str:
    """Switches off the redirecting bits that are on at ``step``, and leaves the others."""
    off = redirecting_bits(step.acs)
    return "".join("0" if bit in off else "x" for bit in _BITS)


def _redirecting_value(step: Step) -> int:
    off = redirecting_bits(step.acs) if isinstance(step.acs, Acs) else ()
    return sum(1 << (len(_BITS) - 1 - place) for place, bit in enumerate(_BITS) if bit in off)


def _slot(route: Route) -> Iterator[Change]:
    if route.common is None:
        yield Change("slot", "put both under one PCIe switch", "peers meet below the root complex, where ACS lets them")


def _whitelist(route: Route, topology: Topology) -> Iterator[Change]:
    passage = route.passage
    if passage is None or passage.allowed or passage.root is None:
        return
    root = next(one for one in topology.functions if one.bdf == passage.root)
    what = f"an entry {{0x{root.vendor:04x}, 0x{root.device:04x}}} in pci_p2pdma_whitelist (drivers/pci/p2pdma.c)"
    yield Change(
        "whitelist", what, "the kernel lets peers through this host bridge, if the hardware really forwards them"
    )


def already_asked(topology: Topology, route: Route) -> tuple[str, ...]:
    """The words of the command line that name a port which redirects all the same: misspelt, or undone since."""
    return tuple(
        word
        for word in topology.command_line
        if word.startswith("pci=") and ("disable_acs_redir" in word or "config_acs" in word)
        and any(bdf in word or bdf.removeprefix("0000:") in word for bdf in route.redirecting)
    )  # fmt: skip
