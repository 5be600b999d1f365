"""Which function of the host each function of the guest is, as far as a trace tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dmaproof.guest.audit.bars import BARS, Bar, Function
from dmaproof.guest.audit.state import State


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
    regions = ((index, one.nbytes) for (of, index), one in state.regions.items() if of == host and index in BARS)
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
