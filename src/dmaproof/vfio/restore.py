"""Putting back what a journal says was changed: after the work, or at the next start after a crash.

Only what is still as this project left it is touched: whoever has changed it since meant it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmaproof.errors import DmaproofError
from dmaproof.vfio import journal
from dmaproof.vfio.journal import FOLDER, Binding, Entry, Raised
from dmaproof.vfio.sysfs import PCI, driver_of, override_of, wait_until_closed, write

_PATIENCE_S = 10.0


def put_back(entry: Entry, others: Iterable[Raised] = ()) -> None:
    """Undo one change; done already, it does nothing. Of a number, what ``others`` have raised it by stays. Raises
    DmaproofError where the kernel refuses or waits."""
    if isinstance(entry, Binding):
        _unbind(entry)
    elif isinstance(entry, Raised):
        _lower(entry, sum(one.by for one in others if one.path == entry.path))
    elif Path(entry.path).exists() and Path(entry.path).read_text(encoding="utf-8").strip() == entry.ours:
        write(Path(entry.path), entry.was)


def _lower(entry: Raised, theirs: int) -> None:
    path, left = Path(entry.path), entry.was + theirs
    if path.exists() and left < int(path.read_text(encoding="ascii")) <= left + entry.by:
        write(path, f"{left}\n")


def _unbind(entry: Binding) -> None:
    folder = PCI / "devices" / entry.bdf
    if not folder.exists():  # unplugged meanwhile
        return
    overridden = override_of(entry.bdf) == entry.ours
    if overridden and driver_of(entry.bdf) == entry.ours:
        wait_until_closed(entry.bdf, _PATIENCE_S)
        write(folder / "driver/unbind", entry.bdf)
    if overridden:
        write(folder / "driver_override", f"{entry.override or ''}\n")
    if entry.driver is not None and driver_of(entry.bdf) is None:
        write(PCI / "drivers" / entry.driver / "bind", entry.bdf)


def put_all_back(entries: tuple[Entry, ...], others: tuple[Raised, ...] = ()) -> dict[Entry, str]:
    """The last change first. What could not be undone, and why; one that fails does not keep the others from it.
    ``others`` is what living processes have raised."""
    failed: dict[Entry, str] = {}
    for entry in reversed(entries):
        try:
            put_back(entry, others)
        except (DmaproofError, OSError) as error:
            failed[entry] = f"{entry}: {error}"
    return failed


def replay(folder: Path = FOLDER) -> tuple[Entry, ...]:
    """Put back what processes that are no more have left changed; returns that. Living processes' is left alone.

    Raises DmaproofError naming what could not be put back; its journal stays for the next attempt.
    """
    with journal.alone(folder):
        return replay_alone(folder)


def replay_alone(folder: Path) -> tuple[Entry, ...]:
    """As ``replay``, for who is alone already (dmaproof.vfio.journal.alone)."""
    with journal.found(folder) as kept:
        dead = [one for one in kept if not one.alive]
        failed: dict[Entry, str] = {}
        for one in dead:
            failures = put_all_back(one.entries, journal.raised(kept))
            if not failures:
                one.path.unlink(missing_ok=True)
            failed |= failures
    if failed:
        raise DmaproofError(f"an earlier run's changes could not be put back: {'; '.join(failed.values())}")
    return tuple(entry for one in dead for entry in one.entries)
