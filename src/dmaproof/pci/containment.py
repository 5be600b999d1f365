"""What a function remembers of PCIe errors (AER) and whether its port contained one (DPC).

Layouts: include/uapi/linux/pci_regs.h; the errors' names are those of drivers/pci/pcie/aer.c, as in sysfs and the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmaproof.pci.capability import Capability, Missing, registers

AER, DPC = 0x01, 0x1D
_UNCORRECTABLE = {
    0: "Undefined", 4: "DLP", 5: "SDES", 12: "TLP", 13: "FCP", 14: "CmpltTO", 15: "CmpltAbrt", 16: "UnxCmplt",
    17: "RxOF", 18: "MalfTLP", 19: "ECRC", 20: "UnsupReq", 21: "ACSViol", 22: "UncorrIntErr", 23: "BlockedTLP",
    24: "AtomicOpBlocked", 25: "TLPBlockedErr", 26: "PoisonTLPBlocked", 27: "DMWrReqBlocked", 28: "IDECheck",
    29: "MisIDETLP", 30: "PCRC_CHECK", 31: "TLPXlatBlocked",
}  # fmt: skip
_CORRECTABLE = {
    0: "RxErr", 6: "BadTLP", 7: "BadDLLP", 8: "Rollover", 12: "Timeout", 13: "NonFatalErr", 14: "CorrIntErr",
    15: "HeaderOF",
}  # fmt: skip

Trigger = Literal["off", "fatal", "nonfatal"]
Reason = Literal["uncorrectable", "nonfatal-message", "fatal-message", "rp-pio", "software", "reserved"]
_REASONS: tuple[Reason, ...] = ("uncorrectable", "nonfatal-message", "fatal-message")
_EXTENDED_REASONS: dict[int, Reason] = {0: "rp-pio", 1: "software"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aer:
    """Advanced Error Reporting. Each tuple holds the errors' names, lowest bit first.

    ``fatal`` are the uncorrectable errors whose severity is set to fatal; ``first`` is the uncorrectable error that the
    first error pointer names, None where that error's status bit is clear: the pointer means nothing then.
    """

    uncorrectable: tuple[str, ...]
    uncorrectable_masked: tuple[str, ...]
    fatal: tuple[str, ...]
    correctable: tuple[str, ...]
    correctable_masked: tuple[str, ...]
    first: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dpc:
    """Downstream Port Containment. ``trigger`` is what sets it off; ``triggered``: the link below is held down.

    ``source`` is the requester id of the error message's sender, valid only where a message was the reason.
    """

    trigger: Trigger
    interrupt: bool
    triggered: bool
    reason: Reason | None
    source: int | None
    status: int


def aer(data: bytes, capability: Capability | Missing) -> Aer | Missing:
    """AER as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (0x04, 4), (0x08, 4), (0x0C, 4), (0x10, 4), (0x14, 4), (0x18, 4))
    if isinstance(values, str):
        return values
    status, mask, severity, correctable, correctable_mask, control = values
    first = control & 0x1F
    return Aer(
        uncorrectable=_names(status, _UNCORRECTABLE),
        uncorrectable_masked=_names(mask, _UNCORRECTABLE),
        fatal=_names(severity, _UNCORRECTABLE),
        correctable=_names(correctable, _CORRECTABLE),
        correctable_masked=_names(correctable_mask, _CORRECTABLE),
        first=_UNCORRECTABLE.get(first, f"bit {first}") if status >> first & 1 else None,
    )


def _names(value: int, names: dict[int, str]) -> tuple[str, ...]:
    """A bit without a name is told by its number: a newer error is still an error."""
    return tuple(names.get(bit, f"bit {bit}") for bit in range(32) if value >> bit & 1)


def dpc(data: bytes, capability: Capability | Missing) -> Dpc | Missing:
    """DPC as it stands in ``data`` at ``capability``."""
    values = registers(data, capability, (0x06, 2), (0x08, 2), (0x0A, 2))
    if isinstance(values, str):
        return values
    control, status, source = values
    triggered = bool(status & 1)
    reason = _reason(status) if triggered else None
    return Dpc(
        trigger="fatal" if control & 3 == 1 else "nonfatal" if control & 3 == 2 else "off",
        interrupt=bool(control & 8),
        triggered=triggered,
        reason=reason,
        source=source if reason in ("nonfatal-message", "fatal-message") else None,
        status=status,
    )


def _reason(status: int) -> Reason:
    """The reasons of dpc_process_error, drivers/pci/pcie/dpc.c."""
    number, extended = status >> 1 & 3, status >> 5 & 3
    return _REASONS[number] if number < len(_REASONS) else _EXTENDED_REASONS.get(extended, "reserved")
