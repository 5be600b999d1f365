"""``dmaproof lab kernel``: a kernel for lab hosts."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from dmaproof.cli import Command
from dmaproof.cli.lab_progress import shown
from dmaproof.cli.lab_qemu import arch_option
from dmaproof.guest import kernel, kernel_build, stock
from dmaproof.guest.kernel import OWN, STOCK, Kernel
from dmaproof.guest.telling import Tell


@click.command("kernel", cls=Command)
@click.option(
    "--kernel",
    "wanted",
    metavar="build|stock|host|FILE",
    default="build",
    show_default=True,
    help="The project's own build; the distribution's newest; this host's; or a bzImage (arm64: Image) of yours.",
)
@arch_option
@click.option("--update", is_flag=True, help="Take the distribution's newest, even if there is an older one already.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(wanted: str, arch: str, update: bool, as_json: bool) -> None:
    """Make sure of a kernel for lab hosts, and say where it is.

    build: the distribution's newest kernel source with the options that the suites need (iommufd, no-IOMMU, P2PDMA, the
    IOMMUs' debugfs), all built in. Minutes of compiling, 165 MB to download, 2 GB in the user's cache for the source.
    stock: 40 MB, no iommufd. Both are unpacked, not installed.
    """
    with shown() as tell:
        found = _supply(wanted, arch, tell, update=update)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
        return
    modules = f"modules in {found.modules}" if found.modules else "no modules"
    click.echo(f"{found.path}  Linux {found.release}, {modules}")
    for one in found.lacks:
        click.echo(f"not in this kernel: {one.partition('=')[0]}")


def _supply(wanted: str, arch: str, tell: Tell, *, update: bool) -> Kernel:
    if wanted in ("build", OWN):
        return kernel_build.supply(OWN, arch, tell, anew=update)
    if wanted == STOCK:
        return stock.supply(arch, tell, anew=update)
    return kernel.choose(wanted, arch)
