"""A guest that does not come up: on a lab host it is tried once more, and that is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dmaproof.errors import DmaproofError, NodeError, NodeLost
from dmaproof.guest import guests
from dmaproof.guest.guests import Guest
from dmaproof.guest.place import Place
from dmaproof.node.node import Node
from dmaproof.rig import load
from fixtures.guests import Guests
from fixtures.state import Run

NAME = "guest-type1"
SILENT = NodeError("the machine did not come up within 120 s")
Provision = Callable[..., AbstractContextManager[Guest]]


def provide(errors: list[DmaproofError], folder: Path) -> Provision:
    """What provisions a guest once ``errors`` have been raised, one a try."""

    @contextmanager
    def provision(*_: Any) -> Iterator[Guest]:
        if errors:
            raise errors.pop(0)
        yield Guest(Node(NAME, folder, {}, folder, ("as told",)), {}, None, 0)  # type: ignore[arg-type]

    return provision


def made(tmp_path: Path, agent: Path | None) -> tuple[Guests, Run]:
    rig = load.load("lab:guests")
    run = Run("test", tmp_path, rig, (), nodes={"host": Node("host", tmp_path, {}, agent)})
    place = Place(rig.node[NAME], tmp_path, None, None, None)  # type: ignore[arg-type]
    return Guests(run, {NAME: place}), run


def test_on_a_lab_host_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "provision", provide([SILENT], tmp_path))
    several, run = made(tmp_path, tmp_path)
    assert several.have(NAME)
    assert run.nodes[NAME].notes == ("as told", f"{NAME}: up at the second try; at the first: {SILENT}")
    assert several.up == NAME


@pytest.mark.parametrize(
    ("errors", "agent"),
    [
        pytest.param([SILENT], None, id="on a machine"),
        pytest.param([NodeLost("host is gone")], Path("/"), id="with its host"),
        pytest.param([DmaproofError("0000:01:00.0 is in use")], Path("/"), id="refused"),
        pytest.param([SILENT, SILENT], Path("/"), id="twice"),
    ],
)
def test_else_it_is_given_up_for_the_run(
    errors: list[DmaproofError], agent: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = errors[-1]
    monkeypatch.setattr(guests, "provision", provide(errors, tmp_path))
    several, run = made(tmp_path, agent)
    for _ in range(2):
        with pytest.raises(type(why)) as raised:
            several.have(NAME)
        assert raised.value is why
    assert NAME not in run.nodes
