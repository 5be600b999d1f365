"""Fills of memory. The synchronous ones run on the legacy default stream and wait for it."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call
from dmaproof.virtual.driver.boxes import Box
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.fills import queue_fill
from dmaproof.virtual.driver.streams import Stream


def _fill(va: int, pitch: int, value: int, unit_nbytes: int, width: int, height: int, stream: Stream) -> None:  # noqa: PLR0913, RUF100
    """``height`` rows of ``width`` units; INVALID_VALUE where rows would overlap."""
    nbytes = width * unit_nbytes
    require(height <= 1 or pitch >= nbytes)
    pitches = (pitch, 0) if height > 1 else (0, 0)
    unit = value.to_bytes(unit_nbytes, "little")
    queue_fill(driver(), stream, va, unit, Box(nbytes, height, 1, pitches, pitches))


def _fill_and_wait(va: int, pitch: int, value: int, unit_nbytes: int, width: int, height: int = 1) -> None:  # noqa: PLR0913, RUF100
    stream = driver().stream(0)
    _fill(va, pitch, value, unit_nbytes, width, height, stream)
    driver().synchronize(stream)


def _fill_later(va: int, pitch: int, value: int, unit_nbytes: int, width: int, height: int, stream: int) -> None:  # noqa: PLR0913, RUF100
    _fill(va, pitch, value, unit_nbytes, width, height, driver().stream(stream))


@call("cuMemsetD8", "QBz", since=3020)
def cu_memset_d8(va: int, value: int, count: int) -> None:
    _fill_and_wait(va, 0, value, 1, count)


@call("cuMemsetD16", "QHz", since=3020)
def cu_memset_d16(va: int, value: int, count: int) -> None:
    _fill_and_wait(va, 0, value, 2, count)


@call("cuMemsetD32", "QIz", since=3020)
def cu_memset_d32(va: int, value: int, count: int) -> None:
    _fill_and_wait(va, 0, value, 4, count)


@call("cuMemsetD2D8", "QzBzz", since=3020)
def cu_memset_d2d8(va: int, pitch: int, value: int, width: int, height: int) -> None:
    _fill_and_wait(va, pitch, value, 1, width, height)


@call("cuMemsetD2D16", "QzHzz", since=3020)
def cu_memset_d2d16(va: int, pitch: int, value: int, width: int, height: int) -> None:
    _fill_and_wait(va, pitch, value, 2, width, height)


@call("cuMemsetD2D32", "QzIzz", since=3020)
def cu_memset_d2d32(va: int, pitch: int, value: int, width: int, height: int) -> None:
    _fill_and_wait(va, pitch, value, 4, width, height)


@call("cuMemsetD8Async", "QBzp")
def cu_memset_d8_async(va: int, value: int, count: int, stream: int) -> None:
    _fill_later(va, 0, value, 1, count, 1, stream)


@call("cuMemsetD16Async", "QHzp")
def cu_memset_d16_async(va: int, value: int, count: int, stream: int) -> None:
    _fill_later(va, 0, value, 2, count, 1, stream)


@call("cuMemsetD32Async", "QIzp")
def cu_memset_d32_async(va: int, value: int, count: int, stream: int) -> None:
    _fill_later(va, 0, value, 4, count, 1, stream)


@call("cuMemsetD2D8Async", "QzBzzp")
def cu_memset_d2d8_async(va: int, pitch: int, value: int, width: int, height: int, stream: int) -> None:  # noqa: PLR0913, RUF100
    _fill_later(va, pitch, value, 1, width, height, stream)


@call("cuMemsetD2D16Async", "QzHzzp")
def cu_memset_d2d16_async(va: int, pitch: int, value: int, width: int, height: int, stream: int) -> None:  # noqa: PLR0913, RUF100
    _fill_later(va, pitch, value, 2, width, height, stream)


@call("cuMemsetD2D32Async", "QzIzzp")
def cu_memset_d2d32_async(va: int, pitch: int, value: int, width: int, height: int, stream: int) -> None:  # noqa: PLR0913, RUF100
    _fill_later(va, pitch, value, 4, width, height, stream)
