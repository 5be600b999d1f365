"""Which functions to take from which driver, and why not: computed from facts, carried out by dmaproof.vfio.bind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from dmaproof.vfio.functions import Function
from dmaproof.vfio.journal import Binding, Entry

VFIO_PCI = "vfio-pci"


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be taken although the machine seems to need it. A rig says so of a guest by the names of these fields,
    with dashes: ``may = ["boot-display"]``."""

    group: bool = False
    """Functions in use that share an IOMMU group with those asked for."""
    boot_display: bool = False
    disk: bool = False


NOTHING = Permission()


@dataclass(frozen=True, slots=True)
class Plan:
    """``bind``: what will be done, in this order; ``kept``: functions that are VFIO's already and will stay so.
    With ``refusals`` nothing of it is done. ``first``: what a crashed run left, which is put back before all else."""

    bind: tuple[Binding, ...]
    kept: tuple[str, ...]
    refusals: tuple[str, ...]
    first: tuple[Entry, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """For a dry run: what is put back first, then one line a function."""
        first = [f"{undone(entry)}, put back first: a run that was killed has left it so" for entry in self.first]
        taken = [
            f"{one.bdf}: {one.driver or 'no driver'} -> {one.ours}"
            + (f" (driver_override {one.override!r} comes back afterwards)" if one.override else "")
            for one in self.bind
        ]
        return (*first, *taken, *(f"{bdf}: stays with VFIO" for bdf in self.kept))

    @property
    def text(self) -> str:
        """The changes, then the refusals."""
        return "\n".join((*self.changes, *self.refusals))


def undone(entry: Entry) -> str:
    """What putting ``entry`` back does."""
    if isinstance(entry, Binding):
        return f"{entry.bdf}: {entry.ours} -> {entry.driver or 'no driver'}"
    return f"{entry.path}: -> {entry.was}"


def put_back(functions: Mapping[str, Function], entries: Iterable[Entry]) -> dict[str, Function]:
    """The facts ``functions`` as they will be once a crashed run's ``entries`` are put back (dmaproof.vfio.restore):
    a function that is not as that run left it stays as it is."""
    facts = dict(functions)
    for entry in entries:
        one = facts.get(entry.bdf) if isinstance(entry, Binding) else None
        if isinstance(entry, Binding) and one is not None:
            overridden = one.override == entry.ours
            driver = None if overridden and one.driver == entry.ours else one.driver
            override = entry.override if overridden else one.override
            facts[one.bdf] = replace(one, driver=driver or entry.driver, override=override)
    return facts


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
            f"unbind it first, or take the whole group by {_allowing('group')}"
        )
    if one.boot_display and not may.boot_display:
        yield f"{one.bdf} is the display this machine booted with: take it all the same by {_allowing('boot-display')}"
    if one.holds and not may.disk:
        under = ", ".join(one.holds)
        yield f"{one.bdf} is the disk under {under}: unmount it, or take it all the same by {_allowing('disk')}"


def _allowing(word: str) -> str:
    return f'may = ["{word}"] in the guest table of the rig'
