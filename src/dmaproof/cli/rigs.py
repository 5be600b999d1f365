"""``dmaproof rigs``: what can be asked for with ``--rig``."""

from __future__ import annotations

import json

import click

from dmaproof.cli import Command
from dmaproof.cli.logs import one_line
from dmaproof.rig import load
from dmaproof.rig.host import resolve
from dmaproof.rig.model import Rig


@click.command("rigs", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.argument("name", required=False)
def command(as_json: bool, name: str | None) -> None:
    """List the rigs that come with dmaproof, or print the whole declaration of one.

    NAME is KIND:NAME, host (this machine, discovered now), auto, or a rig file. What is printed is a rig file itself:
    dmaproof rigs host > bench.toml
    """
    if name is None:
        rigs = [load.load(word) for word in load.profile_ids()]
        click.echo(json.dumps([_outline(rig) for rig in rigs]) if as_json else _table(rigs))
        return
    found = resolve(name)
    if as_json:
        click.echo(json.dumps({"notes": found.notes, **found.rig.model_dump(mode="json", exclude_none=True)}))
    else:
        notes = "".join(f"# {one_line(note)}\n" for note in found.notes)
        click.echo(notes + load.dump(found.rig), nl=False)


def _outline(rig: Rig) -> dict[str, object]:
    return {
        "id": rig.id,
        "description": rig.description,
        "nodes": [node.name for node in rig.nodes],
        "gpus": sum(len(node.gpus) for node in rig.nodes),
        "endpoints": sum(len(node.endpoints) for node in rig.nodes),
    }


def _table(rigs: list[Rig]) -> str:
    rows = [
        *((rig.id, rig.description) for rig in rigs),
        ("host", "this machine, discovered from sysfs and NVML"),
        ("auto", "host if this machine has an NVIDIA GPU of its own, else virtual:hgx-h100"),
        ("FILE.toml", "a rig file; `dmaproof rigs NAME` prints one to start from"),
    ]
    width = max(len(word) for word, _ in rows)
    return "\n".join(f"{word:<{width}}  {description}" for word, description in rows)
