"""Giving functions to VFIO by ``driver_override``, and giving them back (Documentation/ABI/testing/sysfs-bus-pci).

Every change is in the journal before it is made. ``bound`` is the way to use it; where its process is killed, the next
``bound`` on this machine puts things back first.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from dmaproof import bdf as addresses
from dmaproof.errors import DmaproofError, Unsupported
from dmaproof.vfio import journal, restore
from dmaproof.vfio.functions import look
from dmaproof.vfio.journal import FOLDER, Binding, Journal, Raised, Setting
from dmaproof.vfio.plan import NOTHING, VFIO_PCI, Permission, Plan, plan, put_back
from dmaproof.vfio.sysfs import PCI, driver_of, write

_MODPROBE_S = 30.0


def planned(bdfs: Sequence[str], *, may: Permission = NOTHING, driver: str = VFIO_PCI, folder: Path = FOLDER) -> Plan:
    """What ``bound`` would do now: for a dry run. Raises UsageError for a function that is not there."""
    wanted = [addresses.parse(one) for one in bdfs]
    with journal.found(folder) as kept:
        held = {entry.bdf for one in kept if one.alive for entry in one.entries if isinstance(entry, Binding)}
        left = tuple(entry for one in kept if not one.alive for entry in reversed(one.entries))
    made = plan(put_back(look(wanted), left), wanted, may=may, held=held, driver=driver)
    return replace(made, first=left)


@contextmanager
def bound(
    bdfs: Sequence[str], *, may: Permission = NOTHING, driver: str = VFIO_PCI, folder: Path = FOLDER
) -> Iterator[Journal]:
    """``bdfs`` and the functions of their groups are ``driver``'s inside, and whose they were afterwards.

    Inside, changes of one's own may be put into the journal that is given (``changed``). Raises DmaproofError naming
    what is refused and why, before anything is changed; Unsupported where the kernel has no such driver.
    """
    _load(driver)
    with kept_journal(folder) as ours:
        with journal.alone(folder):  # two that plan at once must not both find a function free
            restore.replay_alone(folder)
            chosen = planned(bdfs, may=may, driver=driver, folder=folder)
            if chosen.refusals:
                raise DmaproofError(f"cannot bind to {driver}: {'; '.join(chosen.refusals)}")
            for binding in chosen.bind:
                ours.write(binding)
        for binding in chosen.bind:
            _bind(binding)
        yield ours


@contextmanager
def kept_journal(folder: Path = FOLDER) -> Iterator[Journal]:
    """A journal whose entries are put back at the end. Raises DmaproofError naming what could not be."""
    ours = Journal(folder)
    try:
        yield ours
    finally:
        shared = tuple(entry for entry in ours.entries if isinstance(entry, Raised))
        failed = restore.put_all_back(tuple(entry for entry in ours.entries if entry not in shared))
        with journal.alone(folder) if shared else nullcontext():  # until nobody finds in it what is not so any more
            with journal.found(folder) as kept:
                failed |= restore.put_all_back(shared, journal.raised(kept, ours.path))
            for entry in tuple(ours.entries):
                if entry not in failed:
                    ours.forget(entry)
            ours.close()
        if failed:
            raise DmaproofError(f"could not put back: {'; '.join(failed.values())}")


def changed(ours: Journal, path: Path, value: str) -> None:
    """Write ``value`` into the file ``path``, which gets its old content back with the journal's other entries."""
    ours.write(Setting(str(path), path.read_text(encoding="utf-8").strip(), value))
    write(path, value)


def raised(ours: Journal, path: Path, value: int) -> int:
    """Have the number in the file ``path`` at least ``value``, until the journal's entries are put back; what it is
    then, which may be less. For who is alone in the journal's folder: others may have it raised too."""
    now = int(path.read_text(encoding="ascii"))
    if now >= value:
        return now
    others = journal.raised_by_others(path, ours.folder, ours.path)
    ours.write(Raised(str(path), min([now, *(one.was for one in others)]), value - now))
    write(path, f"{value}\n")
    return int(path.read_text(encoding="ascii"))


def _bind(binding: Binding) -> None:
    folder = PCI / "devices" / binding.bdf
    write(folder / "driver_override", binding.ours)
    if binding.driver is not None:
        write(folder / "driver/unbind", binding.bdf)
    write(PCI / "drivers_probe", binding.bdf)
    if driver_of(binding.bdf) != binding.ours:
        raise DmaproofError(f"{binding.ours} did not take {binding.bdf}: the kernel log says why (no IOMMU group?)")


def loadable(driver: str = VFIO_PCI) -> bool:
    """Whether the kernel has ``driver``, or has it as a module."""
    return (PCI / "drivers" / driver).exists() or _modprobe("--dry-run", driver)


def _load(driver: str) -> None:
    if not (PCI / "drivers" / driver).exists() and not _modprobe(driver):
        raise Unsupported(f"this kernel has no driver {driver}, and it cannot be loaded as a module")


def _modprobe(*words: str) -> bool:
    try:
        subprocess.run(["modprobe", *words], capture_output=True, timeout=_MODPROBE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
