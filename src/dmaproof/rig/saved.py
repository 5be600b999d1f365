"""A saved machine as a rig: what its files say, without CUDA and without NVML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dmaproof.evidence.nvml_query import Unanswered
from dmaproof.pci import iommu, sysfs
from dmaproof.rig.archive import MANIFEST
from dmaproof.rig.discover import Discovery, describe
from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import HOST, Rig
from dmaproof.rig.owner import GPUS

NAME = "saved"
_FIELD = re.compile(r"^(Model|GPU UUID):[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)  # nv_procfs_read_gpu_info (nv-procfs.c)
_UUID = re.compile(r"GPU-[0-9a-f-]{36}")


def rig_of(root: Path) -> Discovery:
    """The rig ``host:saved`` of the machine under ``root``, and notes on what is unknown of it."""
    found = describe(root, sysfs.functions(root), Unanswered("this is a saved machine"), iommu.snapshot(root))
    node = found.rig.node[HOST]
    gpus = {name: _named(root, gpu) for name, gpu in node.gpu.items()}
    table = found.rig.model_copy(update={"name": NAME, "node": {HOST: node.model_copy(update={"gpu": gpus})}})
    return Discovery(Rig.model_validate(table.model_dump()), (*_missing(root), *found.notes))


def _named(root: Path, gpu: Gpu) -> Gpu:
    """With the product and the UUID that the driver's own file tells."""
    fields = dict(_FIELD.findall(sysfs.text(root / GPUS / gpu.bdf / "information") or ""))
    uuid = fields.get("GPU UUID", "")
    known = {"product": fields.get("Model"), "uuid": uuid if _UUID.fullmatch(uuid) else None}
    return gpu.model_copy(update={key: value for key, value in known.items() if value is not None})


def _missing(root: Path) -> Iterator[str]:
    """What the archive says was not packed."""
    for one in left_out(root):
        yield f"not in the archive: {one}"


def left_out(root: Path) -> tuple[str, ...]:
    """What the archive says it lacks, though the machine had it."""
    told = manifest(root).get("left_out")
    return tuple(map(str, told)) if isinstance(told, list) else ()


def manifest(root: Path) -> Mapping[str, Any]:
    """What the archive says of itself; empty for a folder that never was one."""
    try:
        content = json.loads((root / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):  # the last for thousands of nested brackets
        return {}
    return content if isinstance(content, dict) else {}
