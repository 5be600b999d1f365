"""Where the guest has its devices' BARs: from query-pci (qapi/pci.json), or from the trace itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dmaproof import inputs
from dmaproof.errors import UsageError
from dmaproof.guest.audit.state import State

_MOST_NBYTES = 1 << 26
_UNMAPPED = (1 << 64) - 1
BARS = range(6)


@dataclass(frozen=True, slots=True)
class Bar:
    """A BAR of a function of the guest: ``guest`` is ``bb:dd.f`` there, ``address`` None where it has none."""

    guest: str
    index: int
    address: int | None
    nbytes: int
    memory: bool = True


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the guest with its BARs: all of them if ``whole``. ``label`` is its id on QEMU's command line."""

    guest: str
    bars: tuple[Bar, ...]
    label: str = ""
    whole: bool = True

    @property
    def sizes(self) -> dict[int, int]:
        return {bar.index: bar.nbytes for bar in self.bars}


class _Region(BaseModel):
    bar: int
    type: Literal["io", "memory"]
    address: int
    size: int = Field(gt=0)


class _Bridge(BaseModel):
    devices: list[_Device] = []


class _Device(BaseModel):
    bus: int
    slot: int
    function: int
    qdev_id: str = ""
    regions: list[_Region]
    pci_bridge: _Bridge | None = None


class _Bus(BaseModel):
    model_config = ConfigDict(title="bus")
    devices: list[_Device]


_BUSES = TypeAdapter(list[_Bus])


def read(path: str | Path) -> tuple[Function, ...]:
    """The functions in the file ``path``: the answer to QMP's query-pci, whole or its ``return`` alone.

    Raises UsageError where it cannot be read or is something else.
    """
    try:
        given = json.loads(inputs.whole(path, _MOST_NBYTES))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not the JSON that query-pci answers: {error}") from None
    return of_query(given, str(path))


def of_query(given: Any, name: str = "query-pci") -> tuple[Function, ...]:
    """The functions in an answer to query-pci, bridges among them. Raises UsageError naming ``name``."""
    answer = given.get("return") if isinstance(given, dict) else given
    try:
        buses = _BUSES.validate_python(answer)
    except (ValidationError, RecursionError) as error:
        raise UsageError(f"{name} is not what query-pci answers: {_first(error)}") from None
    return tuple(_function(device) for bus in buses for device in _all(bus.devices))


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    told = error.errors()[0]
    where = ".".join(str(part) for part in told["loc"])
    return f"{where or 'the whole'}: {told['msg']}"


def _all(devices: Iterable[_Device]) -> Iterator[_Device]:
    for device in devices:
        yield device
        if device.pci_bridge is not None:
            yield from _all(device.pci_bridge.devices)


def _function(device: _Device) -> Function:
    guest = f"{device.bus:02x}:{device.slot:02x}.{device.function:x}"
    bars = (
        Bar(guest, one.bar, None if one.address in (-1, _UNMAPPED) else one.address, one.size, one.type == "memory")
        for one in device.regions
        if one.bar in BARS
    )
    return Function(guest, tuple(bars), device.qdev_id)


def of_trace(state: State) -> tuple[Function, ...]:
    """The functions whose BARs the trace places (``pci_update_mappings_*``): those that decode addresses now."""
    found: dict[str, list[Bar]] = {}
    for (guest, index), placed in sorted(state.placed.items()):
        if index in BARS:
            found.setdefault(guest, []).append(Bar(guest, index, placed.address, placed.nbytes))
    return tuple(Function(guest, tuple(bars), whole=False) for guest, bars in found.items())
