"""``dmaproof route``: where the kernel sends peer traffic, what decided it, and what would change it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from dmaproof import bdf
from dmaproof.cli import Command, findings
from dmaproof.cli.route_text import matrix_text, route_text
from dmaproof.errors import UsageError
from dmaproof.nearest import did_you_mean
from dmaproof.pci import route
from dmaproof.pci.route import Route, Topology
from dmaproof.pci.route_changes import already_asked, changes
from dmaproof.report.text import printable
from dmaproof.rig.archive import opened
from dmaproof.rig.host import resolve
from dmaproof.rig.model import Rig
from dmaproof.rig.owner import is_gpu, owned


@click.command("route", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--sysfs", metavar="PATH", default="/", help="A saved machine, or a folder like its /, instead of this.")
@click.option(
    "--rig", "rig_word", metavar="RIG", help="Names GPUs as this rig does, instead of gpu0, gpu1, .. by address."
)
@click.option("--all", "every", is_flag=True, help="Without A and B: every function that is no bridge, not only GPUs.")
@click.argument("a", required=False)
@click.argument("b", required=False)
def command(as_json: bool, sysfs: str, rig_word: str | None, every: bool, a: str | None, b: str | None) -> None:
    """Predict the route of peer traffic between A and B: straight, through the host bridge, or not at all.

    A and B are PCI addresses or GPU names; without them, all pairs of GPUs are shown as a matrix. The rule is the Linux
    kernel's (drivers/pci/p2pdma.c): it says what p2pdma and dma-buf do, and where the switches' settings send any
    request; NVIDIA's driver has a policy of its own about what it tries. Exit status: 0 every route is known and no
    port's setting lengthens one, 1 ACS redirects one or one is unknown, 2 A, B or PATH is not there.
    """
    with opened(Path(sysfs)) as root:
        topology = route.look(root)
        names = _names(root, topology, rig_word)
    if a is None or b is None:
        if a is not None:
            raise UsageError(f"one end alone has no route: name two, as in `dmaproof route {a} {_another(names, a)}`")
        ends = [one.bdf for one in topology.functions if not one.is_bridge] if every else list(names.values())
        found = _matrix(topology, names, ends, as_json=as_json)
    else:
        found = [_pair(topology, names, (a, b), as_json=as_json)]
    if any(one.outcome == "unknown" or one.redirecting for one in found):
        findings()


def _names(root: Path, topology: Topology, rig_word: str | None) -> dict[str, str]:
    """BDFs by GPU name: the rig's, or those that a rig of this machine would give them (dmaproof.rig.discover)."""
    if rig_word is not None:
        rig: Rig = resolve(rig_word).rig
        return {gpu.name: gpu.bdf for node in rig.nodes for gpu in node.gpus}
    own = [where for where, why in owned(root, topology.functions).items() if why is None]
    others = [one.bdf for one in topology.functions if is_gpu(one) and one.bdf not in own]
    return {f"gpu{number}": where for number, where in enumerate([*own, *others])}


def _end(word: str, names: dict[str, str]) -> str:
    if word in names:
        return names[word]
    try:
        return bdf.parse(word)
    except UsageError:
        known = f"; {did_you_mean(word, names)}" if names else "; no GPU is known here by name"
        raise UsageError(f"{word!r} is neither a PCI address, such as 0000:17:00.0, nor a GPU's name{known}") from None


def _another(names: dict[str, str], word: str) -> str:
    return next((name for name in names if name != word), "B")


def _pair(topology: Topology, names: dict[str, str], words: tuple[str, str], *, as_json: bool) -> Route:
    provider, client = (_end(word, names) for word in words)
    if provider == client:
        raise UsageError(f"{words[0]} and {words[1]} are the same function, {client}: a route has two ends")
    found = route.predict(topology, provider, client)
    click.echo(json.dumps(_as_json(found, topology)) if as_json else printable(route_text(found, topology, names)))
    return found


def _matrix(topology: Topology, names: dict[str, str], ends: Sequence[str], *, as_json: bool) -> list[Route]:
    if len(ends) < 2:
        there = f"{len(topology.functions)} PCI functions, {len(ends)} to choose from"
        raise UsageError(f"no pair to show a route of ({there}): name two addresses, or use --all")
    found = [route.predict(topology, provider, client) for provider, client in combinations(ends, 2)]
    if as_json:
        click.echo(json.dumps({"ends": _ends(names, ends), "routes": [_as_json(one, topology) for one in found]}))
    else:
        click.echo(printable(matrix_text(found, topology, names, ends)))
    return found


def _ends(names: dict[str, str], ends: Sequence[str]) -> list[dict[str, str | None]]:
    by_bdf = {where: name for name, where in names.items()}
    return [{"bdf": end, "name": by_bdf.get(end)} for end in ends]


def _as_json(found: Route, topology: Topology) -> dict[str, Any]:
    return {
        **asdict(found),
        "changes": [asdict(one) for one in changes(found, topology)],
        "without_effect": already_asked(topology, found),
    }
