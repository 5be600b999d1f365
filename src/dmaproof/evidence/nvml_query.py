"""What NVML knows of all GPUs, asked once, in a process of its own: ``python -m dmaproof.evidence.nvml_query``.

What NVML does not know, or what a GPU does not answer, is None (null in the JSON), never a default.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dmaproof.evidence.nvml_process import Child, serve, wait_until

Matrix = tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlGpu:
    """One GPU. ``error`` is what NVML says of a GPU that does not answer (a lost one has no ``bdf`` any more, either).

    ``compute_capability`` is ``9.0``; generations and widths are PCIe's; ``nvlinks_active`` is 0 where the GPU has no
    NVLink; ``addressing`` is none, hmm or ats; ``numa_node`` is the node that the GPU's own memory forms (None where
    it forms none). ``ecc_*`` count errors since the driver was loaded, ``pcie_replays`` packets sent again since the
    GPU was reset, ``c2c_errors`` the CRC errors of its C2C links; ``remap_*`` say whether a row of its memory waits for
    a reset to be replaced, or could not be; ``clocks_event_reasons`` why its clocks are as they are at this moment.
    """

    index: int
    error: str | None = None
    uuid: str | None = None
    bdf: str | None = None
    name: str | None = None
    memory_nbytes: int | None = None
    compute_capability: str | None = None
    pcie_current_generation: int | None = None
    pcie_current_width: int | None = None
    pcie_max_generation: int | None = None
    pcie_max_width: int | None = None
    nvlinks_active: int | None = None
    addressing: str | None = None
    numa_node: int | None = None
    recovery_action: str | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    ecc_correctable: int | None = None
    ecc_uncorrectable: int | None = None
    pcie_replays: int | None = None
    c2c_errors: int | None = None
    clocks_event_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlState:
    """All GPUs, and what lies between them: each matrix is ``[source index][target index]``, None on its diagonal."""

    driver_version: str | None
    gpus: tuple[NvmlGpu, ...]
    p2p_read: Matrix
    p2p_write: Matrix
    common_ancestor: Matrix

    def gpu(self, wanted: str) -> NvmlGpu | None:
        """The GPU whose BDF is ``wanted``, or None."""
        return next((one for one in self.gpus if one.bdf == wanted), None)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """NVML gave no answer; ``reason`` says why."""

    reason: str


def query(env: Mapping[str, str], deadline_s: float) -> NvmlState | Unanswered:
    """Ask NVML in a child whose environment is this process's with ``env`` laid over it; answers within ``deadline_s``
    seconds and a little more, also where NVML is stuck in the kernel."""
    until = time.monotonic() + deadline_s
    try:
        child = Child("dmaproof.evidence.nvml_query", env)
    except OSError as error:
        return Unanswered(f"no process could be started to ask NVML ({error.strerror})")
    said: list[dict[str, Any]] = []
    while not said and not child.silent and wait_until(until):
        said = child.read(wait_until(until))
    ended, state = child.silent, child.state()
    child.stop()
    if said:
        return _answer(said[0])
    late = f"NVML has not answered within {deadline_s:g} s: its process is {state}"
    return Unanswered(f"the process that asked NVML {state}" if ended else late)


def _answer(words: Mapping[str, Any]) -> NvmlState | Unanswered:
    if "unanswered" in words:
        return Unanswered(words["unanswered"])
    matrices = {name: tuple(map(tuple, words[name])) for name in ("p2p_read", "p2p_write", "common_ancestor")}
    gpus = tuple(_gpu(gpu) for gpu in words["gpus"])
    return NvmlState(driver_version=words["driver_version"], gpus=gpus, **matrices)


def _gpu(words: Mapping[str, Any]) -> NvmlGpu:
    """JSON has no tuples."""
    reasons = words.get("clocks_event_reasons")
    return NvmlGpu(**{**words, "clocks_event_reasons": None if reasons is None else tuple(reasons)})


if __name__ == "__main__":
    from dmaproof.evidence.nvml_answer import answer

    serve(answer)
