"""NVML's error counters: PCIe replays, NVLink errors link by link, ECC errors since the driver was loaded.

Runs in the child of dmaproof.evidence.nvml_events: any call may be stuck in the kernel. What a GPU does not have is
left out of its readings, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pynvml

from dmaproof.evidence.counters import Key, Readings
from dmaproof.evidence.fact import Counter

# nvmlNvLinkErrorCounter_t (nvml.h); of the CRC errors those of flits.
_NVLINK: tuple[tuple[Counter, int], ...] = (("nvlink-replay", 0), ("nvlink-recovery", 1), ("nvlink-crc", 2))
_ECC: tuple[tuple[Counter, int], ...] = (("ecc-correctable", 0), ("ecc-uncorrectable", 1))  # nvmlMemoryErrorType_t
_VOLATILE = 0  # nvmlEccCounterType_t: since the driver was loaded
_MOST_LINKS = 64  # far beyond NVML_NVLINK_MAX_LINKS of any pynvml
EVERY_GPU: tuple[Counter, ...] = ("pcie-replay", "ecc-correctable", "ecc-uncorrectable")
"""Counters that a GPU's silence about is worth telling; a GPU without NVLink has none of the others."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A GPU as NVML's ``handle`` and the numbers of its NVLinks, up or down."""

    handle: Any
    nvlinks: tuple[int, ...]


def counted(handle: Any) -> Counted:
    """Asked once: links come and go, their numbers do not."""
    return Counted(handle, tuple(_nvlinks(handle)))


def _nvlinks(handle: Any) -> Iterator[int]:
    """Links beyond those that a GPU has are invalid arguments; those that are not wired are not supported."""
    for link in range(_MOST_LINKS):
        try:
            pynvml.nvmlDeviceGetNvLinkState(handle, link)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED and link < pynvml.NVML_NVLINK_MAX_LINKS:
                continue
            return
        yield link


def read(gpus: Mapping[str, Counted]) -> Readings:
    """The counters of ``gpus``, by BDF."""
    return {Key(bdf, counter, which): value for bdf, gpu in gpus.items() for counter, which, value in _of(gpu)}


def _of(counted: Counted) -> Iterator[tuple[Counter, str | None, int]]:
    gpu = counted.handle
    replays = _ask("nvmlDeviceGetPcieReplayCounter", gpu)
    if replays is not None:
        yield "pcie-replay", None, replays
    for counter, kind in _ECC:
        errors = _ask("nvmlDeviceGetTotalEccErrors", gpu, kind, _VOLATILE)
        if errors is not None:
            yield counter, None, errors
    for link in counted.nvlinks:
        for counter, kind in _NVLINK:
            errors = _ask("nvmlDeviceGetNvLinkErrorCounter", gpu, link, kind)
            if errors is not None:
                yield counter, f"link {link}", errors


def _ask(call: str, *args: Any) -> int | None:
    function = getattr(pynvml, call, None)
    try:
        return None if function is None else int(function(*args))
    except pynvml.NVMLError:
        return None


def gaps(readings: Readings, bdfs: tuple[str, ...]) -> tuple[str, ...]:
    """A sentence for each counter that NVML does not have of some of ``bdfs``."""
    found = []
    for counter in EVERY_GPU:
        without = [bdf for bdf in bdfs if Key(bdf, counter) not in readings]
        if without:
            found.append(f"NVML has no counter {counter} of {', '.join(without)}: its steps are not seen")
    return tuple(found)
