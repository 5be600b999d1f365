"""Rigs of kind ``host``: this machine, with its real driver. And what ``--rig=auto`` means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dmaproof.errors import RigError, UsageError
from dmaproof.evidence import nvml_query
from dmaproof.evidence.nvml_query import NvmlState
from dmaproof.node.node import Node
from dmaproof.pci import iommu, sysfs
from dmaproof.rig import load
from dmaproof.rig.archive import opened
from dmaproof.rig.discover import Discovery, describe, discover
from dmaproof.rig.model import HOST, Rig
from dmaproof.rig.owner import left_out, owned
from dmaproof.rig.saved import rig_of
from dmaproof.rig.unpack import is_archive

ENV: Mapping[str, str] = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""CUDA numbers GPUs fastest first unless told otherwise; everything here goes by address."""
FALLBACK = "virtual:hgx-h100"
NVML_S = 30.0
"""How long NVML may take: with persistence mode off, it wakes every GPU first."""
_ROOT = Path("/")


@contextmanager
def provision(rig: Rig, workdir: Path, plants: tuple[str, ...] = ()) -> Iterator[dict[str, Node]]:  # noqa: ARG001
    """This machine as the one node of ``rig`` that is no guest. ``workdir`` is not needed: nothing has to be made.

    Raises UsageError for plants (a real machine's defects are its own), RigError for more than one such node.
    """
    if plants:
        raise UsageError(
            f"--plant={','.join(plants)} needs a virtual rig: on {rig.id} the machine is real, and so are its defects"
        )
    names = [node.name for node in rig.nodes if node.guest is None]
    if len(names) != 1:
        named = ", ".join(names)
        raise RigError(
            f"rig {rig.id} declares {len(names)} nodes ({named}): kind 'host' is this one machine, and guests on it"
        )
    yield {name: Node(name=name, root=_ROOT, env=ENV) for name in names}


def resolve(word: str, deadline_s: float = NVML_S, root: Path = _ROOT) -> Discovery:
    """The rig that ``--rig=word`` asks for, and notes on how it was chosen or found; ``root`` is this machine's.

    ``auto`` is this machine where NVML lists a GPU or the PCI bus has one, else ``virtual:hgx-h100``: a GPU whose
    driver is dead is to be found, not passed over. ``host`` is this machine whatever it has. An archive that
    ``dmaproof doctor --save`` wrote is the machine in it. Everything else is dmaproof.rig.load.load's.
    Raises UsageError.
    """
    if word == "auto":
        return _auto(deadline_s, root)
    if word == HOST:
        return discover(root, ENV, deadline_s)
    if is_archive(Path(word)):
        with opened(Path(word)) as saved:
            return rig_of(saved)
    return Discovery(load.load(word), ())


def _auto(deadline_s: float, root: Path) -> Discovery:
    answer = nvml_query.query(ENV, deadline_s)
    functions = sysfs.functions(root)
    owner = owned(root, functions)
    on_bus = sum(why is None for why in owner.values())
    if isinstance(answer, NvmlState) and answer.gpus:
        why = f"the NVIDIA driver answers with {len(answer.gpus)} GPUs"
    else:
        silent = "NVML lists no GPU" if isinstance(answer, NvmlState) else f"NVML does not answer ({answer.reason})"
        if not on_bus:
            reasons = "; ".join([silent, *left_out(owner)])
            note = f"rig {FALLBACK}: {reasons}, so no real GPU is tested; --rig=host tests this machine as it is"
            return Discovery(load.load(FALLBACK), (note,))
        why = f"the PCI bus has NVIDIA GPUs ({on_bus}), though {silent}; --rig={FALLBACK} needs no GPU"
    rig, notes = describe(root, functions, answer, iommu.snapshot(root))
    return Discovery(rig, (f"rig host: {why}", *notes))
