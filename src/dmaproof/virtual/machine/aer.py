"""Advanced Error Reporting: what ports and devices count, and what the kernel says of it (drivers/pci/pcie/aer.c)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dmaproof.virtual.machine.kmsg import ERR, INFO, WARNING
from dmaproof.virtual.machine.limited import Limited
from dmaproof.virtual.machine.topology import Function, functions

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine

Severity = Literal["correctable", "fatal", "nonfatal"]
_BITS = {
    "correctable": {"RxErr": 0, "BadTLP": 6, "BadDLLP": 7, "Rollover": 8, "Timeout": 12},
    "fatal": {"DLP": 4, "FCP": 13, "RxOF": 17, "MalfTLP": 18},
}
_MASKS = {"correctable": 0x0000A000, "fatal": 0x00100000}
_DATA_LINK = ("BadTLP", "BadDLLP", "Rollover", "Timeout", "DLP")
TRANSMITTER = ("Rollover", "Timeout")
"""What the sender of a damaged packet reports; all else its receiver does."""
_NAMES = {"correctable": "Correctable", "fatal": "Uncorrectable (Fatal)"}


@dataclass(slots=True)
class Errors:
    """A function's AER statistics: ``count`` by severity and error, ``events`` by severity, and, for a root port,
    ``messages`` by severity. ``limited`` is its rate limit for correctable errors."""

    count: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    limited: Limited | None = None


def correctable(machine: Machine, seen: Iterable[tuple[str, str]], now_s: float) -> None:
    """Functions tell their root port of errors: ``seen`` are (BDF, error). The log is limited by source; the counters
    are not."""
    by_name = {one.bdf: one for one in functions(machine.node)}
    for source, error in seen:
        one, errors = by_name[source], machine.fabric.errors[source]
        root = (*one.ancestry, one.bdf)[0]
        machine.fabric.errors[root].messages["correctable"] += 1
        errors.count["correctable", error] += 1
        errors.events["correctable"] += 1
        errors.limited = errors.limited or Limited(machine.log, "aer_ratelimit")
        if errors.limited.admits(now_s):
            text = f"pcieport {root}: AER: {_NAMES['correctable']} error message received from {source}"
            machine.log.write(text, INFO, root)
            describe(machine, one, "correctable", error)


def fatal(machine: Machine, port: Function, error: str) -> None:
    """``port`` saw ``error`` itself; fatal errors are never limited."""
    errors = machine.fabric.errors[port.bdf]
    errors.count["fatal", error] += 1
    errors.events["fatal"] += 1
    describe(machine, port, "fatal", error)


def describe(machine: Machine, one: Function, severity: Literal["correctable", "fatal"], error: str) -> None:
    """aer_print_error: layer and agent follow from the error (AER_GET_LAYER_ERROR, AER_GET_AGENT)."""
    bit = _BITS[severity][error]
    layer = "Physical Layer" if error == "RxErr" else "Data Link Layer" if error in _DATA_LINK else "Transaction Layer"
    agent = "Transmitter ID" if error in TRANSMITTER else "Receiver ID"
    first = " (First)" if severity == "fatal" else ""
    identity = f"[{one.identity.vendor:04x}:{one.identity.device:04x}]"
    for text in (
        f"PCIe Bus Error: severity={_NAMES[severity]}, type={layer}, ({agent})",
        f"  device {identity} error status/mask={1 << bit:08x}/{_MASKS[severity]:08x}",
        f"   [{bit:2d}] {error:<22}{first}",
    ):
        level = WARNING if severity == "correctable" else ERR
        machine.log.write(f"{one.identity.driver} {one.bdf}: {text}", level, one.bdf)
