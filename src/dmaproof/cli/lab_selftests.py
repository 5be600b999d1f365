"""``dmaproof lab selftests``: the kernel's own selftests, compiled with the kernel that they need."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from dmaproof.cli import Command, findings
from dmaproof.cli.lab_progress import shown
from dmaproof.guest import kernel_build, selftests, tap
from dmaproof.guest.kernel import SELFTESTS
from dmaproof.guest.selftests import Selftest
from dmaproof.guest.tap import Results

_RUN = "pytest suites/kernel --rig=lab:selftests"


@click.command("selftests", cls=Command)
@click.option("--update", is_flag=True, help="From the newest source, even if an older one was compiled already.")
@click.option("--no-kernel", is_flag=True, help="Compile the tests only, not the kernel that they run on.")
@click.option("--read", type=click.Path(path_type=Path), metavar="FILE", help="Tell what a selftest's output says.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(update: bool, no_kernel: bool, read: Path | None, as_json: bool) -> None:
    """Compile the kernel's own selftests of iommufd and VFIO from the source that the lab's kernel is built from, and
    that kernel with what they need (a mock IOMMU, injected faults).

    `pytest suites/kernel --rig=lab:selftests` runs them; their results are in the record beside the project's own.
    With --read, nothing is compiled: the output of one of them, kept in FILE, is summed up. Exit status: 0, or 1 where
    one cannot be compiled (the reason is told), or, with --read, where one failed or is missing.
    """
    if read is not None:
        _tell(tap.parse(read.read_text(encoding="utf-8", errors="replace")), as_json=as_json)
        return
    with shown() as tell:
        found = selftests.supply(tell, anew=update)
        if not no_kernel:
            kernel_build.supply(SELFTESTS, "x86_64", tell, anew=update)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], default=str))
    else:
        click.echo("\n".join([*(_line(one) for one in found), "", f"run them: {_RUN}"]))
    if any(one.path is None for one in found):
        findings()


def _line(one: Selftest) -> str:
    if one.path is None:
        return f"cannot be compiled  {one.name}: {one.why}"
    return f"compiled  {one.name}" + (f" (with what the source lacks supplied: {one.supplied})" if one.supplied else "")


def _tell(results: Results, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(results)))
    else:
        told = [f"{case.outcome}  {case.name}{': ' if case.why else ''}{case.why}" for case in results.cases]
        click.echo("\n".join([*told, tap.summed(results)]))
    if results.of("failed") or not results.complete:
        findings()
