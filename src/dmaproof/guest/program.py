"""QEMU: the system's where it can do what is asked, else a newer one unpacked into the cache.

A QEMU is asked what it can do, by QMP (device-list-properties), never judged by its version.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dmaproof.errors import UsageError
from dmaproof.guest import packages, store
from dmaproof.guest.telling import Tell, quietly
from dmaproof.guest.unpacked import PROGRAMS, wrap

_PACKAGE = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_SERVER = "virtiofsd"
_ASK_S = 20.0
_EVERYWHERE = ("id", "bus", "addr", "chardev", "drive")  # of the bus or the back end, not the model's own
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
"""What the profiles need of each architecture's QEMU, written as for ``find``."""


@dataclass(frozen=True, slots=True)
class Program:
    """A QEMU. ``argv`` begins its command line (one word: virtme-ng takes no more), ``version`` is for people.

    ``folder`` goes first on PATH: the virtiofsd that came with it is there. None for the system's own.
    """

    argv: tuple[str, ...]
    version: str
    folder: Path | None = None


def find(arch: str, needs: Sequence[str] | None = None) -> Program:
    """A QEMU for ``arch`` (x86_64, aarch64) that has all ``needs``: device models (``edu``) and their properties
    (``amd-iommu.dma-remap``), such as ``needed`` gives. Default: what the profiles need, ``NEEDS``.

    Raises UsageError naming what is missing, and the command that supplies it.
    """
    wanted = tuple(NEEDS[arch] if needs is None else needs)
    reasons = []
    for argv, folder in _candidates(arch):
        try:
            version, lacking = ask(argv, wanted)
        except UsageError as error:
            reasons.append(str(error))
            continue
        if not lacking:
            return Program(argv, version, folder)
        reasons.append(f"{argv[0]} ({version}) has no {', '.join(lacking)}")
    raise UsageError(f"no QEMU for this: {'; '.join(reasons) or f'no {_name(arch)} on PATH'}: run `{command(arch)}`")


def command(arch: str) -> str:
    """What supplies a QEMU that has all that the newest release has."""
    return "dmaproof lab qemu" + ("" if arch == "x86_64" else f" --arch {arch}")


def needed(arguments: Sequence[str]) -> tuple[str, ...]:
    """What a QEMU must have to take ``arguments``: the models and properties of its ``-device`` options."""
    found: dict[str, None] = {}
    for option, value in pairwise(arguments):
        if option == "-device":
            model, *settings = value.split(",")
            found[model] = None
            names = (one.partition("=")[0] for one in settings)
            found |= {f"{model}.{name}": None for name in names if name not in _EVERYWHERE}
    return tuple(found)


def _candidates(arch: str) -> Iterator[tuple[tuple[str, ...], Path | None]]:
    """The system's, then the one in the cache."""
    if system := shutil.which(_name(arch)):
        yield (system,), None
    if tree := unpacked_tree(arch):
        yield (str(tree / PROGRAMS / _name(arch)),), tree / PROGRAMS


def unpacked_tree(arch: str) -> Path | None:
    return store.newest("qemu", f"{arch}-*")


def _name(arch: str) -> str:
    return f"qemu-system-{arch}"


def ask(argv: Sequence[str], wanted: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The version of the QEMU that ``argv`` runs, and what of ``wanted`` it lacks. Raises UsageError if silent."""
    models = list(dict.fromkeys(one.partition(".")[0] for one in wanted))
    said = iter(_converse(argv, [_question(model) for model in models]))
    greeting = next(said)
    has: set[str] = set()
    for model, answer in zip(models, said, strict=True):
        if "return" in answer:
            has |= {model, *(f"{model}.{one['name']}" for one in answer["return"])}
    number = greeting["QMP"]["version"]["qemu"]
    return "{major}.{minor}.{micro}".format(**number), tuple(one for one in wanted if one not in has)


def _question(model: str) -> dict[str, Any]:
    return {"execute": "device-list-properties", "arguments": {"typename": model}}


def _converse(argv: Sequence[str], questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """QEMU's greeting, and an answer to each question: docs/interop/qmp-spec.rst."""
    lines = [{"execute": "qmp_capabilities"}, *questions, {"execute": "quit"}]
    asked = "\n".join(json.dumps(one) for one in lines)
    words = [*argv, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    try:
        said = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{argv[0]} does not run: {error}") from None
    answers = [one for one in _objects(said.stdout) if "event" not in one]
    if len(answers) != len(lines) + 1:
        last = (said.stderr.strip().splitlines() or [f"exit status {said.returncode}"])[-1]
        raise UsageError(f"{argv[0]} does not answer by QMP: {last}")
    return [answers[0], *answers[2:-1]]


def _objects(text: str) -> list[dict[str, Any]]:
    """One JSON object a line; what a wrapper may say besides is left out."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def supply(arch: str, tell: Tell = quietly, *, anew: bool = False) -> Program:
    """A QEMU for ``arch`` with all that ``NEEDS`` says: found, or unpacked into the cache; ``anew``: the newest,
    also where one in the cache would do.

    Raises UsageError where this system has no archive to take it from, DmaproofError where that fails.
    """
    if not anew:
        try:
            return find(arch)
        except UsageError:
            pass
    with store.locked(tell) as lock:
        tree = unpacked_tree(arch)  # another process may have been faster
        if tree is None or anew:
            tree = _unpack(arch, packages.archive(platform.machine(), lock, tell))
    return find(arch)


def _unpack(arch: str, archive: packages.Archive) -> Path:
    wanted = packages.candidate(archive, _PACKAGE[arch])
    tree = store.folder() / "qemu" / f"{arch}-{_as_name(wanted.version)}"
    if tree.exists():
        tree.touch()
        return tree
    with store.making(tree) as scratch:
        packages.unpack(archive, packages.closure(archive, [_PACKAGE[arch], _SERVER]), scratch)
        _wrap(scratch, arch)
    return tree


def _wrap(tree: Path, arch: str) -> None:
    data = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
    where = [word for one in data if (tree / one).is_dir() for word in ("-L", f"{{}}/{one}")]
    modules = next(tree.glob("usr/lib/*-linux-gnu/qemu"), tree)
    wrap(tree, f"usr/bin/{_name(arch)}", where, {"QEMU_MODULE_DIR": f"{{}}/{modules.relative_to(tree)}"})
    wrap(tree, f"usr/libexec/{_SERVER}")


def _as_name(version: str) -> str:
    return version.replace(":", ".").replace("/", ".")
