"""Which QEMU makes a machine: the system's where it can do what is asked, else the one in the cache; or a named one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.guest import store
from dmaproof.guest.capability import ask
from dmaproof.guest.unpacked import PROGRAMS

AUTO = "auto"
_COMMON = (
    "edu",
    "igb",
    "nvme",
    "pcie-root-port",
    "pxb-pcie",
    "virtio-9p-pci",
    "virtio-serial-pci",
    "x3130-upstream",
    "xio3130-downstream",
)
NEEDS: Mapping[str, tuple[str, ...]] = {
    "x86_64": (
        *_COMMON,
        "intel-iommu.scalable-mode",
        "virtio-iommu-pci",
        "amd-iommu.dma-remap",  # without it, AMD-Vi is emulated but translates nothing
    ),
    "aarch64": _COMMON,
}
"""What the profiles need of each architecture's QEMU, written as for ``choose``."""


@dataclass(frozen=True, slots=True)
class Program:
    """A QEMU. ``argv`` begins its command line (one word: virtme-ng takes no more), ``version`` is for people.

    ``folder`` goes first on PATH: the virtiofsd that came with it is there. None for the system's own.
    """

    argv: tuple[str, ...]
    version: str
    folder: Path | None = None


Candidate = tuple[tuple[str, ...], Path | None]
"""``argv`` and ``folder`` of a Program that may do."""


def choose(wanted: str, arch: str, needs: Sequence[str] | None = None) -> Program:
    """The QEMU for ``wanted``, on ``arch`` (x86_64, aarch64): ``auto`` (the system's, else the newest in the cache), a
    suite of the distribution (``trixie``), or the path of a program.

    It has all ``needs``: device models (``edu``) and their properties (``amd-iommu.dma-remap``), such as
    ``capability.needed`` gives. Default: what the profiles need, ``NEEDS``. Nothing is downloaded. Raises UsageError
    naming what is missing, and the command that supplies it.
    """
    needs = tuple(NEEDS[arch] if needs is None else needs)
    if "/" in wanted:
        return _first([((str(Path(wanted).expanduser().absolute()),), None)], needs, "name another")
    found = _candidates(arch) if wanted == AUTO else _of_suite(arch, wanted)
    return _first(found, needs, f"run `{command(arch, wanted)}`", f"no {name(arch)} {_where(wanted)}")


def _first(found: Iterable[Candidate], needs: Sequence[str], way_out: str, none: str = "") -> Program:
    reasons = []
    for argv, folder in found:
        try:
            version, lacking = ask(argv, needs)
        except UsageError as error:
            reasons.append(str(error))
            continue
        if not lacking:
            return Program(argv, version, folder)
        reasons.append(f"{argv[0]} ({version}) has no {', '.join(lacking)}")
    raise UsageError(f"no QEMU for this: {'; '.join(reasons) or none}: {way_out}")


def _where(wanted: str) -> str:
    return "on PATH" if wanted == AUTO else f"of {wanted} unpacked yet"


def command(arch: str, wanted: str = AUTO) -> str:
    """What supplies a QEMU that has all that the newest release has, or that of the suite ``wanted``."""
    words = ["dmaproof lab qemu", *(["--suite", wanted] if wanted != AUTO else [])]
    return " ".join([*words, *([f"--arch {arch}"] if arch != "x86_64" else [])])


def _candidates(arch: str) -> Iterator[Candidate]:
    """The system's, then the one in the cache."""
    if system := shutil.which(name(arch)):
        yield (system,), None
    yield from _of_suite(arch, AUTO)


def _of_suite(arch: str, suite: str) -> Iterator[Candidate]:
    if tree := unpacked_tree(arch, suite):
        yield (str(tree / PROGRAMS / name(arch)),), tree / PROGRAMS


def unpacked_tree(arch: str, suite: str = AUTO) -> Path | None:
    """Where the QEMU of ``suite`` (auto: the newest) is in the cache."""
    return store.newest(kind(suite), f"{arch}-*")


def kind(suite: str) -> str:
    """The folder of the store for QEMUs of ``suite``: apart, for the newest is the one that was made last."""
    return "qemu" if suite == AUTO else f"qemu-{suite}"


def name(arch: str) -> str:
    return f"qemu-system-{arch}"
