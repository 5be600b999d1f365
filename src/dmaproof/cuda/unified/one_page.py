"""Workloads: CPU and GPU use one page at the same time, but no word of it in common; and a page that fork(2) must not
hand on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import device
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory import SharedKind, pinned, shared
from dmaproof.cuda.timing import stream_on
from dmaproof.cuda.unified import forked
from dmaproof.cuda.unified.forked import Ended
from dmaproof.cuda.unified.running import at_work, running
from dmaproof.cuda.unified.system import PAGE_NBYTES
from dmaproof.cuda.unified.words import cpu_view, require_concurrent
from dmaproof.progress import note

_NWORDS = 32


@dataclass(frozen=True, slots=True)
class Divided:
    """CPU and GPU each stored running counts to words of their own. ``gpu_rounds``: the fewest of any GPU word.
    ``cpu_wrong``, ``gpu_wrong``: words that do not hold the last count stored there."""

    cpu_rounds: int
    gpu_rounds: int
    cpu_wrong: int
    gpu_wrong: int


def different_words(gpu: str, memory: SharedKind, rounds: int) -> Divided:
    """The GPU stores to the first 128 bytes of a page as fast as it can, the CPU ``rounds`` times to the 128 bytes
    behind them: no store may undo another's."""
    one = device(gpu)
    require_concurrent(one)
    kernels.load_all(one)
    with shared(one, memory, PAGE_NBYTES) as page, pinned(one, 4096) as control, stream_on(one) as stream:
        page.cpu[:] = 0
        mine = page.cpu[_NWORDS : 2 * _NWORDS]
        note("stage", text="CPU and GPU store to one page")
        args = (page.address, control.address, control.address + 4)
        with running("dmaproof_count_until", one, stream, control, *args, threads=_NWORDS):
            while page.cpu[0] == 0 and at_work(stream):
                pass
            for count in range(1, rounds + 1):
                mine[:] = count
        counts = control.cpu[1 : 1 + _NWORDS]
        return Divided(
            cpu_rounds=rounds,
            gpu_rounds=int(counts.min()),
            cpu_wrong=int(np.count_nonzero(mine != rounds)),
            gpu_wrong=int(np.count_nonzero(page.cpu[:_NWORDS] != counts)),
        )


@dataclass(frozen=True, slots=True)
class Inherited:
    """How a child ended that looked at its parent's managed memory, and what the parent's GPU and CPU found after."""

    child: Ended
    gpu: View
    cpu: View


def fork_with_managed(gpu: str, nbytes: int) -> Inherited:
    """A child looks at managed memory that it has not inherited; the parent's is as it was."""
    one, seed = device(gpu), 71
    require_concurrent(one)
    with shared(one, "managed", nbytes) as buffer:
        fill(one, buffer, seed)
        cpu_view(buffer, seed)  # the pages are the CPU's: nothing but the mapping is missing in the child
        with forked.reader(buffer.cpu, kernels.pattern(buffer.nwords, seed)) as child:
            ended = child.look()
        return Inherited(ended, verify(one, buffer, seed), cpu_view(buffer, seed))
