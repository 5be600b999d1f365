"""``dmaproof lab qemu``: a QEMU that has what the lab's rigs need."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict

import click

from dmaproof.cli import Command
from dmaproof.cli.lab_progress import shown
from dmaproof.guest import program_unpack
from dmaproof.guest.packages import ARCHITECTURE
from dmaproof.guest.program import AUTO

arch_option = click.option(
    "--arch",
    type=click.Choice(list(ARCHITECTURE)),
    default=platform.machine() if platform.machine() in ARCHITECTURE else "x86_64",
    show_default=True,
    help="The architecture of the lab host.",
)


@click.command("qemu", cls=Command)
@arch_option
@click.option(
    "--suite",
    default=AUTO,
    metavar="NAME",
    help="The one of this suite of the distribution, such as trixie, for rigs that say so (qemu.program).",
)
@click.option("--update", is_flag=True, help="Unpack the newest, even if there is one that will do.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(arch: str, suite: str, update: bool, as_json: bool) -> None:
    """Find the system's QEMU if it has every device that the lab's rigs need, else unpack a newer one.

    That is asked of QEMU itself. A newer one comes from the distribution's newest suite, with all its libraries: about
    45 MB to download, 170 MB in the user's cache. It runs from there and is not installed.
    """
    with shown() as tell:
        found = program_unpack.supply(arch, tell, anew=update, suite=suite)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
    else:
        click.echo(f"{found.argv[0]}  QEMU {found.version}")
