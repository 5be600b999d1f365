"""Which functions to take from which driver, and why not: computed from facts, carried out by dmaproof.vfio.bind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dmaproof.vfio.functions import Function
from dmaproof.vfio.journal import Binding

VFIO_PCI = "vfio-pci"


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be taken although the machine seems to need it."""

    group: bool = False
    """Functions in use that share an IOMMU group with those asked for."""
    boot_display: bool = False
    disk: bool = False


NOTHING = Permission()


@dataclass(frozen=True, slots=True)
class Plan:
    """``bind``: what will be done, in this order; ``kept``: functions that are VFIO's already and will stay so.
    With ``refusals`` nothing is done."""

    bind: tuple[Binding, ...]
    kept: tuple[str, ...]
    refusals: tuple[str, ...]

    @property
    def text(self) -> str:
        """For a dry run: one line a function, then the refusals."""
        taken = [
            f"{one.bdf}: {one.driver or 'no driver'} -> {one.ours}"
            + (f" (driver_override {one.override!r} comes back afterwards)" if one.override else "")
            for one in self.bind
        ]
        return "\n".join((*taken, *(f"{bdf}: stays with VFIO" for bdf in self.kept), *self.refusals))


def plan(
    functions: Mapping[str, Function],
    wanted: Iterable[str],
    *,
    may: Permission = NOTHING,
    held: Collection[str] = (),
    driver: str = VFIO_PCI,
) -> Plan:
    """How ``wanted`` and the functions that share their groups come to the VFIO driver ``driver``.

    ``functions`` are the facts (dmaproof.vfio.functions.look), ``held`` the functions that another living process has
    bound. Bridges stay with their driver: a group is viable with them (drivers/iommu/iommu.c, driver_managed_dma).
    """
    asked = tuple(dict.fromkeys(wanted))
    groups = {functions[bdf].group for bdf in asked} - {None}
    shared = sorted(one.bdf for one in functions.values() if one.group in groups and not one.bridge)
    chosen = [functions[bdf] for bdf in dict.fromkeys((*asked, *shared))]
    refusals = tuple(reason for one in chosen for reason in _refusals(one, one.bdf in asked, may, held, driver))
    if refusals:
        return Plan((), (), refusals)
    return Plan(
        bind=tuple(Binding(one.bdf, one.driver, one.override, driver) for one in chosen if one.driver != driver),
        kept=tuple(one.bdf for one in chosen if one.driver == driver),
        refusals=(),
    )


def _refusals(one: Function, asked: bool, may: Permission, held: Collection[str], driver: str) -> Iterable[str]:
    if one.bdf in held:
        yield f"{one.bdf} is bound by another run that is still alive: wait for its end, or stop it"
    if one.bridge:
        yield f"{one.bdf} is a bridge: name the function behind it"
    if not asked and one.driver not in (None, driver) and not may.group:
        yield (
            f"{one.bdf} shares IOMMU group {one.group} and is in use by {one.driver}: "
            "unbind it first, or allow taking the whole group"
        )
    if one.boot_display and not may.boot_display:
        yield f"{one.bdf} is the display this machine booted with: allow taking the boot display if you mean it"
    if one.holds and not may.disk:
        yield f"{one.bdf} is the disk under {', '.join(one.holds)}: unmount it, or allow taking a disk in use"
