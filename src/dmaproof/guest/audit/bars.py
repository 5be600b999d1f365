"""Where the guest has its devices' BARs: from query-pci (qapi/pci.json), or from the trace itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dmaproof import inputs
from dmaproof.errors import UsageError
from dmaproof.guest.audit.state import State

_MOST_NBYTES = 1 << 26
_UNMAPPED = (1 << 64) - 1
_BARS = range(6)


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
        if one.bar in _BARS
    )
    return Function(guest, tuple(bars), device.qdev_id)


def of_trace(state: State) -> tuple[Function, ...]:
    """The functions whose BARs the trace places (``pci_update_mappings_*``): those that decode addresses now."""
    found: dict[str, list[Bar]] = {}
    for (guest, index), placed in sorted(state.placed.items()):
        if index in _BARS:
            found.setdefault(guest, []).append(Bar(guest, index, placed.address, placed.nbytes))
    return tuple(Function(guest, tuple(bars), whole=False) for guest, bars in found.items())


@dataclass(frozen=True, slots=True)
class Pairing:
    """The host's function behind each function of the guest. ``assumed`` are those that others would fit as well."""

    hosts: Mapping[str, str]
    assumed: frozenset[str] = frozenset()


def paired(state: State, functions: Iterable[Function], known: Mapping[str, str] | None = None) -> Pairing:
    """Which host function each of ``functions`` is, as far as the trace tells; ``known`` is taken as it is.

    The descriptor of a dma-buf and the values written into a device's registers tell for certain. What is left is told
    by sizes: where several fit, in the order of both, and marked as assumed.
    """
    everyone = tuple(functions)
    hosts = dict(known or {})
    for link in (_by_dmabuf, _by_registers):
        for function in _unpaired(everyone, hosts):
            fits = [host for host in _free(state, hosts) if link(state, function, host)]
            if len(fits) == 1:
                hosts[function.guest] = fits[0]
    return _by_sizes(state, everyone, hosts)


def _unpaired(functions: Iterable[Function], hosts: Mapping[str, str]) -> list[Function]:
    return [one for one in functions if one.guest not in hosts and any(bar.memory for bar in one.bars)]


def _free(state: State, hosts: Mapping[str, str]) -> list[str]:
    taken = set(hosts.values())
    return list(dict.fromkeys(host for host, _ in state.regions if host not in taken))


def _by_dmabuf(state: State, function: Function, host: str) -> bool:
    for bar in function.bars:
        region = state.regions.get((host, bar.index))
        if region is None or bar.address is None or not bar.memory:
            continue
        wanted = {f"fd={fd}" for fd in region.fds if fd >= 0}
        maps = (entry for ioas in state.ioases.values() for entry in ioas.maps)
        if any(bar.address <= one.range.first < bar.address + bar.nbytes and one.origin in wanted for one in maps):
            return True
    return False


def _by_registers(state: State, function: Function, host: str) -> bool:
    """The low half is enough: no two BARs of a guest lie 4 GiB apart to the byte, but in two windows of one layout."""
    known = [bar for bar in function.bars if bar.memory and bar.address]
    if not known or not _fits(state, function, host):
        return False
    return all(_written(state, host, bar) for bar in known)


def _written(state: State, host: str, bar: Bar) -> bool:
    low, address = state.written.get((host, bar.index)), bar.address or 0
    if low is None or low & -16 != address & 0xFFFFFFF0:
        return False
    return address >> 32 == 0 or state.written.get((host, bar.index + 1)) == address >> 32


def _host_sizes(state: State, host: str) -> dict[int, int]:
    regions = ((index, one.nbytes) for (of, index), one in state.regions.items() if of == host and index in _BARS)
    return {index: nbytes for index, nbytes in regions if nbytes}


def _fits(state: State, function: Function, host: str) -> bool:
    """query-pci tells of all BARs; the trace places only those that decode addresses."""
    theirs, ours = _host_sizes(state, host), function.sizes
    return bool(theirs) and (theirs == ours if function.whole else ours.items() <= theirs.items())


def _by_sizes(state: State, functions: tuple[Function, ...], hosts: dict[str, str]) -> Pairing:
    assumed: set[str] = set()
    models = {guest: placed.device for (guest, _), placed in state.placed.items()}
    left = [one for one in _unpaired(functions, hosts) if _may_be_assigned(models.get(one.guest))]
    for kind, count in Counter(map(_kind, left)).items():
        alike = [one for one in left if _kind(one) == kind]
        fits = [host for host in _free(state, hosts) if _fits(state, alike[0], host)]
        for function, host in zip(alike, fits, strict=False):
            hosts[function.guest] = host
            if count > 1 or len(fits) > 1:
                assumed.add(function.guest)
    return Pairing(hosts, frozenset(assumed))


def _kind(function: Function) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(function.sizes.items()))


def _may_be_assigned(model: str | None) -> bool:
    """QEMU's own models are not: ``vfio-pci``, ``vfio-pci-nohotplug`` and ``vfio-user-pci`` are."""
    return model is None or model == "None" or model.startswith("vfio-")
