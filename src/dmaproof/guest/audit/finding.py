"""What an audit says: findings, what is left out on purpose, and what it could not see."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Literal

from dmaproof.guest.audit.table import Range

Why = Literal[
    "hole", "wrong-size", "read-only", "map-failed", "moved", "reserved", "too-wide", "skipped", "not-mmapped",
    "disabled",
]  # fmt: skip
_SAYS: dict[Why, str] = {
    "hole": "is not mapped",
    "wrong-size": "is mapped in part only",
    "read-only": "is mapped read-only",
    "map-failed": "could not be mapped",
    "moved": "is not mapped where the guest has it now",
    "reserved": "lies where the host's IOMMU maps nothing, and is not mapped",
    "too-wide": "lies above what the IOMMU can address, and is not mapped",
    "skipped": "was left out: QEMU knew of it and did not map it",
    "not-mmapped": "was never mmapped by QEMU (x-no-mmap=on, or the mmap failed), so that it cannot be mapped",
    "disabled": "is switched off: QEMU takes the maps of a BAR away while it serves the device's INTx interrupt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Device memory that stage 2 ought to hold, and does not.

    ``guest`` and ``host`` are one function's BDF in the guest (``bb:dd.f``) and on the host, ``assumed`` if another
    host function fits as well; ``name`` is what a range that is no BAR was declared as. ``range`` is guest-physical:
    the IOVA in the host's fault; None where the guest's address is not known. ``code`` is the errno (positive), ``at``
    the place of a mapping that was left behind, or of the region that keeps it from being mapped.
    """

    why: Why
    guest: str | None = None
    host: str | None = None
    assumed: bool = False
    bar: int | None = None
    name: str | None = None
    range: Range | None = None
    code: int | None = None
    at: Range | None = None

    @property
    def device(self) -> str:
        """``00:01.0 BAR0 (host 0000:17:00.0)``, as far as it is known."""
        whose = self.guest or self.host or self.name or "a region of QEMU's"
        bar = "" if self.bar is None else f" BAR{self.bar}"
        known = f" (host {'probably ' if self.assumed else ''}{self.host})" if self.guest and self.host else ""
        return f"{whose}{bar}{known}"

    @property
    def missing(self) -> str:
        parts = [_SAYS[self.why]]
        if self.code is not None:
            parts.append(f"({errno.errorcode.get(self.code, self.code)}, {os.strerror(self.code)})")
        if self.at is not None:
            kept = {"moved": "a mapping of that size is still at", "reserved": "kept:"}.get(self.why, "beside")
            parts.append(f"({kept} {self.at})")
        return " ".join(parts)

    @property
    def consequence(self) -> str:
        where = "this range" if self.range is not None else "it, wherever the guest has it,"
        if self.why == "read-only":
            return f"P2P and ATS writes to {where} will fault"
        if self.why == "moved":
            return "P2P and ATS to this range will fault, and DMA to the old one still reaches the device"
        lasting = " until the interrupt is served" if self.why == "disabled" else ""
        return f"P2P and ATS to {where} will fault{lasting}"

    @property
    def text(self) -> str:
        where = f" at {self.range}" if self.range is not None else ""
        return f"{self.device}{where} {self.missing}: {self.consequence}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of a BAR that stage 2 need not hold, and why."""

    device: str
    range: Range | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """``judged`` are the parts that ought to be mapped, findings or not: with none of them, nothing was proved."""

    backend: Literal["iommufd", "type1"]
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    blind_spots: tuple[str, ...]
    judged: tuple[tuple[str, Range], ...]
