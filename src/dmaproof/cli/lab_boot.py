"""``dmaproof lab boot``: a rig's lab host, to look around in or to run one program on."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import click

from dmaproof import cli
from dmaproof.errors import Hang, UsageError, WorkloadFailed
from dmaproof.guest import lab, shell
from dmaproof.guest.folder import CONSOLE
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker
from dmaproof.rig import load
from dmaproof.rig.model import Rig

_FOR_EVER_S = 86400.0


@click.command("boot", context_settings={"ignore_unknown_options": True})
@click.argument("rig")
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, _FOR_EVER_S), default=600.0, show_default=True)
def command(rig: str, program: tuple[str, ...], timeout_s: float) -> None:
    """Boot the lab host of RIG; run PROGRAM there as root, and print what it prints.

    The host has this system's root file system, read-only (/tmp and /run are its own). Without PROGRAM it stays until
    Ctrl-C, and where its files and its console are is said. Exit status 1 where PROGRAM's is not 0.

    \b
      dmaproof lab boot lab:vtd -- grep . /sys/kernel/iommu_groups/0/type
    """
    wanted = _lab(rig)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="dmaproof-lab-") as folder, lab.provision(wanted, Path(folder)) as nodes:
        (node, *_) = nodes.values()
        if program:
            _run(node, program, timeout_s, Path(folder))
        else:
            _stay(node)


def _lab(word: str) -> Rig:
    rig = load.load(word)
    if rig.kind != "lab":
        raise UsageError(f"rig {rig.id} is no lab: only a rig of kind lab is booted by QEMU; see `dmaproof rigs`")
    return rig


def _run(node: Node, program: tuple[str, ...], timeout_s: float, folder: Path) -> None:
    with RemoteWorker(node, folder, run_id=f"lab-{os.getpid()}") as worker:
        try:
            ended = worker.run(
                shell.run, deadline=Deadline.after(timeout_s), argv=list(program), folder=str(Path.cwd())
            )
        except Hang:
            raise UsageError(f"{program[0]} did not end within {timeout_s:g} s; --timeout gives it longer") from None
        except WorkloadFailed as error:
            raise UsageError(f"{program[0]} cannot be run on the lab host: {error.message}") from None
    click.echo(ended.output, nl=False)
    if ended.status:
        click.echo(f"dmaproof: {program[0]} ended with status {ended.status}", err=True)
        cli.findings()


def _stay(node: Node) -> None:
    assert node.agent is not None  # noqa: S101 - a lab host has one
    click.echo(f"up: {'; '.join(node.notes)}")
    click.echo(f"files: {node.root} (a copy), console: {node.agent.parent / CONSOLE}")
    click.echo("Ctrl-C ends it")
    sys.stdout.flush()
    signal.pause()
