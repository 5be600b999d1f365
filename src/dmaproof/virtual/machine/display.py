"""The machine's files: all of them at boot, then what changes."""

from __future__ import annotations

import time
from pathlib import Path

from dmaproof.virtual.machine import tree
from dmaproof.virtual.machine.firmware import firmware
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.procfs import counters, procfs
from dmaproof.virtual.machine.sysfs import errors, lost, sysfs

PERIOD_S = 0.05
"""Counters are written no more often than this: a kernel makes them up when they are read."""


class Display:
    """Shows ``machine`` under ``root``. What was lost shows at once, counters within PERIOD_S."""

    def __init__(self, root: Path, machine: Machine) -> None:
        self._root, self._machine = root, machine
        self._shown: tree.Tree = {}
        self._gone: set[str] = set()
        self._next_s = 0.0

    def boot(self) -> None:
        machine = self._machine
        tree.write(self._root, sysfs(machine) | firmware(machine.node) | procfs(machine))
        self._shown = counters(machine) | errors(machine)

    def __call__(self) -> bool:
        """Whether there may be more to show, PERIOD_S later."""
        self._show_losses()
        if time.monotonic() < self._next_s:
            return True
        now = counters(self._machine) | errors(self._machine)
        changed = {name: entry for name, entry in now.items() if self._shown.get(name) != entry}
        tree.write(self._root, changed)
        self._shown |= now
        if changed:
            self._next_s = time.monotonic() + PERIOD_S
        return False

    def _show_losses(self) -> None:
        for gpu in self._machine.gpus.values():
            if gpu.lost and gpu.bdf not in self._gone:
                self._gone.add(gpu.bdf)
                tree.write(self._root, lost(self._machine, gpu.bdf))
