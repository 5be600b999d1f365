"""``dmaproof lab``: what the lab runs on."""

from __future__ import annotations

import click

from dmaproof.cli import Commands

COMMANDS = {
    "qemu": "A QEMU that has what the lab's rigs need.",
    "kernel": "A kernel for lab hosts.",
    "python": "A Python for lab hosts of another architecture.",
    "selftests": "The kernel's own selftests of iommufd and VFIO.",
    "boot": "A rig's lab host, to look around in or to run one program on.",
}


@click.group("lab", cls=Commands, table=COMMANDS, prefix="dmaproof.cli.lab_")
def command() -> None:
    """Supply what rigs of kind lab need: a QEMU and a kernel, in the user's cache folder, installed nowhere.

    What needs a network asks the distribution's own package manager. Only `sudo apt-get install` of what building a
    kernel needs takes root; where that is missing, the one command is named.
    """
