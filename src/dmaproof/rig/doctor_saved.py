"""What a saved machine tells of itself: the rows of the doctor that need no machine to try things on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dmaproof.pci import sysfs
from dmaproof.rig.contents import LOG
from dmaproof.rig.doctor import Row, config_space, iommu_in_use
from dmaproof.rig.model import Rig
from dmaproof.rig.saved import left_out, manifest, rig_of

_AGAIN = "on that machine: sudo $(command -v dmaproof) doctor --save FILE"
_SO_IT_WAS = "none: so the machine was when it was saved"


def examine_saved(root: Path) -> tuple[Row, ...]:
    """One row a subject; what is missing was not packed, or was not there."""
    space = config_space(root)
    space = space if space.state == "ok" else replace(space, supply=_AGAIN)
    return (_machine(root), _driver(root), _gpus(rig_of(root).rig), _log(root), space, iommu_in_use(root))


def _machine(root: Path) -> Row:
    """Which machine, packed when."""
    told = manifest(root)
    kernel = " ".join((sysfs.text(root / "proc/version") or "kernel unknown").split()[:3])
    when = f", packed {told['time']} by {told['made_by']}" if {"time", "made_by"} <= told.keys() else ""
    return Row("Machine", "ok", f"{kernel}{when}", "everything")


def _driver(root: Path) -> Row:
    subject, purpose = "NVIDIA driver", "Xids and the driver's own messages"
    version = (sysfs.text(root / "proc/driver/nvidia/version") or "").partition("\n")[0]
    return (
        Row(subject, "ok", version, purpose) if version else Row(subject, "missing", "not loaded", purpose, _SO_IT_WAS)
    )


def _gpus(rig: Rig) -> Row:
    products = Counter(gpu.product or "NVIDIA GPU" for node in rig.nodes for gpu in node.gpus)
    detail = ", ".join(f"{count} x {name}" for name, count in products.items())
    subject, purpose = "GPUs", "routes, names of addresses"
    return Row(subject, "ok", detail, purpose) if products else Row(subject, "missing", "none", purpose, _SO_IT_WAS)


def _log(root: Path) -> Row:
    purpose = "decode, triage"
    try:
        with (root / LOG).open("rb") as file:
            return Row("Kernel log", "ok", f"{sum(1 for _ in file)} lines", purpose)
    except OSError:
        return Row("Kernel log", "missing", next(_why_no_log(root), "not packed"), purpose, _AGAIN)


def _why_no_log(root: Path) -> Iterator[str]:
    return (one for one in left_out(root) if one.startswith("kernel log"))
