"""The PCIe switches of a discovered node, from its functions' places and their configuration space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dmaproof.pci import config
from dmaproof.pci.sysfs import PciFunction
from dmaproof.rig.links import trainable


def above(root: Path, known: Mapping[str, PciFunction], ports: Iterable[str | None]) -> dict[str, dict[str, Any]]:
    """The switches that have one of ``ports`` as a downstream port, right under a root port; by names of their own.

    A port whose configuration space cannot be read is taken for a root port: without it nobody can tell.
    """
    found: dict[str, str] = {}
    for port in ports:
        upstream = _parent(known, port)
        top = _parent(known, upstream)
        kinds = [_kind(root, bdf) for bdf in (port, upstream, top)]
        if upstream is not None and top is not None and kinds == ["downstream-port", "upstream-port", "root-port"]:
            found[upstream] = top
    return {
        f"switch{number}": _table(root, known, upstream, found[upstream])
        for number, upstream in enumerate(sorted(found))
    }


def _table(root: Path, known: Mapping[str, PciFunction], upstream: str, port: str) -> dict[str, Any]:
    under = sorted(one.bdf for one in known.values() if one.parent == upstream)
    table = {
        "port": port,
        "upstream": upstream,
        "downstream": [bdf for bdf in under if _kind(root, bdf) == "downstream-port"],
        "pcie": trainable(known[upstream], known[port]),
    }
    return {key: value for key, value in table.items() if value is not None}


def _parent(known: Mapping[str, PciFunction], bdf: str | None) -> str | None:
    function = known.get(bdf) if bdf is not None else None
    return function.parent if function is not None else None


def _kind(root: Path, bdf: str | None) -> str | None:
    express = config.parse(config.read(root, bdf) or b"").express if bdf is not None else "absent"
    return None if isinstance(express, str) else express.port
