"""``dmaproof lab python``: what lab hosts run on that cannot have this system's root file system."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from dmaproof.cli import Command
from dmaproof.cli.lab_progress import shown
from dmaproof.guest import userland
from dmaproof.guest.packages import ARCHITECTURE


@click.command("python", cls=Command)
@click.option(
    "--arch",
    type=click.Choice(list(ARCHITECTURE)),
    default="aarch64",
    show_default=True,
    help="The architecture of the lab host.",
)
@click.option("--update", is_flag=True, help="Take the distribution's newest, even if there is an older one already.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(arch: str, update: bool, as_json: bool) -> None:
    """Make sure of a Python for lab hosts whose processor is not this system's, and say where it is.

    It comes from the distribution's newest suite, and pydantic by pip; the same Python for this system compiles what is
    not compiled yet. 20 MB to download, 85 MB in the user's cache. It is unpacked, not installed.
    """
    with shown() as tell:
        found = userland.supply(arch, tell, anew=update)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
    else:
        click.echo(f"{found.archive}  Python {found.compiler.version}")
