"""Prefetching and discarding what is in managed memory."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, get_u64
from dmaproof.virtual.driver.access import Operation, place
from dmaproof.virtual.driver.calls.advice import device_at, location_of, managed
from dmaproof.virtual.driver.calls.locations import Location, residence
from dmaproof.virtual.driver.driver import LEGACY_STREAM, driver
from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.residence import prefetch
from dmaproof.virtual.driver.streams import Stream


@call("cuMemPrefetchAsync", "QzLIp", since=12020)
def cu_mem_prefetch_async(va: int, nbytes: int, location: int, flags: int, stream: int) -> None:
    require(not flags)
    _prefetch(va, nbytes, location_of(location), driver().stream(stream))


def _prefetch(va: int, nbytes: int, where: int, on: Stream) -> None:
    state, known, target = driver(), managed(va, nbytes), device_at(where)
    require(known is not None or driver().fabric.node.pageable)

    def run(ready_ns: float, queued_ns: float) -> float:
        assert isinstance(on.context, Context)  # noqa: S101
        operation = Operation(state, on.context, "ce")
        if known is None:
            operation.fault(target or operation.device, va, nbytes, "prefetch", "system", place(target))
            state.prefetched.append((va, va + nbytes, where))
        else:
            pages, touched, base = known
            prefetch(operation, pages, base, touched, target, where)
        return operation.end(ready_ns, queued_ns)

    state.queue(on, run)


@call("cuMemPrefetchBatchAsync", "ppzppzQp", since=13000)
def cu_mem_prefetch_batch_async(  # noqa: PLR0913, RUF100 - as the API has it
    vas: int, sizes: int, count: int, locations: int, firsts: int, nlocations: int, flags: int, stream: int
) -> None:
    ranges, on = _ranges(vas, sizes, count), _batched_on(stream, flags)
    for (va, nbytes), where in zip(ranges, _places(locations, firsts, nlocations, count), strict=True):
        _prefetch(va, nbytes, where, on)


@call("cuMemDiscardBatchAsync", "ppzQp", since=13000)
def cu_mem_discard_batch_async(vas: int, sizes: int, count: int, flags: int, stream: int) -> None:
    """Whoever reads what was discarded may find anything: here, what was there. Nothing moves, and it takes no time."""
    on = _batched_on(stream, flags)
    for va, nbytes in _ranges(vas, sizes, count):
        require(managed(va, nbytes) is not None or driver().fabric.node.pageable)
    driver().queue(on, lambda ready_ns, _: ready_ns)


@call("cuMemDiscardAndPrefetchBatchAsync", "ppzppzQp", since=13000)
def cu_mem_discard_and_prefetch_batch_async(  # noqa: PLR0913, RUF100 - as the API has it
    vas: int, sizes: int, count: int, locations: int, firsts: int, nlocations: int, flags: int, stream: int
) -> None:
    cu_mem_discard_batch_async(vas, sizes, count, flags, stream)
    cu_mem_prefetch_batch_async(vas, sizes, count, locations, firsts, nlocations, flags, stream)


def _batched_on(stream: int, flags: int) -> Stream:
    """Batches have no place on the legacy stream."""
    require(not flags)
    require(stream not in (0, LEGACY_STREAM))
    return driver().stream(stream)


def _ranges(vas: int, sizes: int, count: int) -> list[tuple[int, int]]:
    require(vas and sizes and count)
    return [(get_u64(vas + 8 * at), get_u64(sizes + 8 * at)) for at in range(count)]


def _places(locations: int, firsts: int, nlocations: int, count: int) -> list[int]:
    """Of each range, from where each location holds on."""
    require(locations and firsts and 1 <= nlocations <= count)
    starts = [get_u64(firsts + 8 * at) for at in range(nlocations)]
    require(not starts[0] and sorted(set(starts)) == starts and starts[-1] < count)
    wished = (Location * nlocations).from_address(locations)
    places = [residence(one.kind, one.number) for one in wished]
    return [places[sum(start <= at for start in starts) - 1] for at in range(count)]
