"""Workloads: functions are taken from their drivers and given back, whatever happens in between."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass

from dmaproof.errors import DmaproofError
from dmaproof.vfio import bind, restore
from dmaproof.vfio.journal import Binding
from dmaproof.vfio.sysfs import driver_of, override_of

_SAYS_WITHIN_S = 20.0
_CHILD = """
import sys, time
from dmaproof.vfio.bind import bound
with bound(sys.argv[1:]):
    print("bound", flush=True)
    time.sleep(3600)
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """A function's driver and ``driver_override`` (None: none)."""

    driver: str | None
    override: str | None


@dataclass(frozen=True, slots=True)
class Rebound:
    before: Owner
    inside: Owner
    after: Owner


def owner(bdf: str) -> Owner:
    return Owner(driver_of(bdf), override_of(bdf))


def bind_and_put_back(bdf: str) -> Rebound:
    before = owner(bdf)
    with bind.bound((bdf,)):
        inside = owner(bdf)
    return Rebound(before, inside, owner(bdf))


@dataclass(frozen=True, slots=True)
class Crashed:
    """``refused``: why a second process could not have the function meanwhile. ``alive``: who had it after a replay
    while its process lived; ``dead``: after the process was killed, before a replay; ``replayed``: how many functions
    the replay put back."""

    before: Owner
    refused: str
    alive: Owner
    dead: Owner
    after: Owner
    replayed: int


def crash_and_put_back(bdf: str) -> Crashed:
    """A process binds ``bdf`` and is killed by SIGKILL; the next start puts it back, and not sooner."""
    before = owner(bdf)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, bdf],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        _await(child)
        refused = _refusal(bdf)
        restore.replay()
        alive = owner(bdf)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    dead = owner(bdf)
    replayed = [entry for entry in restore.replay() if isinstance(entry, Binding)]
    return Crashed(before, refused, alive, dead, owner(bdf), len(replayed))


def _await(child: subprocess.Popen[bytes]) -> None:
    said = child.stdout if child.stdout and select.select([child.stdout], [], [], _SAYS_WITHIN_S)[0] else None
    if said is None or said.readline() != b"bound\n":
        raise DmaproofError(f"process {child.pid} did not come to bind its function within {_SAYS_WITHIN_S:g} s")


def _refusal(bdf: str) -> str:
    try:
        with bind.bound((bdf,)):
            return ""
    except DmaproofError as error:
        return str(error)
