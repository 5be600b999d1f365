"""A keeper (dmaproof.guest.keeper) for as long as a context lasts."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dmaproof.errors import NodeError
from dmaproof.guest.keeper import READY

_STOP_S = 10.0


@contextmanager
def kept(folder: Path, deadline_s: float, command: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Has a keeper run ``command`` (QEMU; nothing: another has started it) in ``folder``, and listen to its agent.

    What is given waits until the machine is up. It raises NodeError where that does not come up.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "dmaproof.guest.keeper", str(folder), str(deadline_s), "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield partial(_await_ready, keeper, deadline_s)
    finally:
        _stop(keeper)


def _await_ready(keeper: subprocess.Popen[bytes], deadline_s: float) -> None:
    assert keeper.stdout is not None  # noqa: S101 - it is a pipe
    waiter = select.poll()
    waiter.register(keeper.stdout, select.POLLIN)
    waiter.poll((deadline_s + _STOP_S) * 1000)
    said = keeper.stdout.readline().decode(errors="replace").strip() if waiter.poll(0) else "its keeper says nothing"
    if said != READY:
        raise NodeError(said or "the keeper ended without a word")


def _stop(keeper: subprocess.Popen[bytes]) -> None:
    for pipe in (keeper.stdin, keeper.stdout):
        if pipe is not None:
            pipe.close()
    try:
        keeper.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait(_STOP_S)
