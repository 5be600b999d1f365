"""A pytest plugin for whole-run tests: once the first test of a guest is over, what the guest is called after is killed
on its host. And whose its functions are once it is gone is written into the run's evidence folder, as owners.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

import pytest

from dmaproof.endpoint.assigned.rebind import owner
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker
from tests.support.killing import Victim, kill

if TYPE_CHECKING:  # not before the conftest has them loaded, with their asserts rewritten
    from fixtures.guests import Guests
    from fixtures.state import Run

_SOON_S = 60.0
_killed: set[str] = set()


def _asked(node: Node, run: Run, work: Any, **arguments: Any) -> Any:
    with RemoteWorker(node, run.folder / "evidence", run_id=run.id) as worker:
        return worker.run(work, deadline=Deadline.after(_SOON_S), **arguments)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    from fixtures.controller import CONTROLLER
    from fixtures.guests import node_of
    from fixtures.state import RUN

    yield
    run, name = item.config.stash[RUN], node_of(item)
    for victim in get_args(Victim):
        up = item.config.stash[CONTROLLER].guests.up == name
        if up and name == f"guest-{victim.lower()}" and name not in _killed:
            _killed.add(name)
            _asked(run.nodes["host"], run, kill, victim=victim)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main() -> None:
    """Before the run is configured, which takes note of what leaves a guest."""
    from fixtures.guests import Guests

    leave = Guests.leave

    def leave_and_look(guests: Guests) -> None:
        run, name = guests._run, guests.up
        leave(guests)
        if name is not None:
            _look(run, name)

    Guests.leave = leave_and_look  # type: ignore[method-assign]


def _look(run: Run, left: str) -> None:
    file = run.folder / "evidence/owners.json"
    owners = json.loads(file.read_text()) if file.exists() else {}
    found = [_asked(run.nodes["host"], run, owner, bdf=one.bdf) for one in run.rig.node["host"].endpoints]
    file.write_text(json.dumps({**owners, left: [str(one) for one in found]}))
