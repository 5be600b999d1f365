"""The words that dmaproof_fill writes (dmaproof/cuda/kernels/pattern.cuh), by chunks, made when looked at."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dmaproof.virtual.driver.chunks import Chunk

Words = npt.NDArray[np.uint32]


def words(first: int, nwords: int, seed: int) -> Words:
    """pattern(i, seed) for ``nwords`` indices from ``first`` on."""
    if first + nwords <= 1 << 32:
        x: Words = np.arange(first, first + nwords, dtype=np.uint32)
        x *= np.uint32(2654435761)
    else:
        index = np.arange(first, first + nwords, dtype=np.uint64)
        x = index.astype(np.uint32)
        x *= np.uint32(2654435761)
        x += (index >> np.uint64(32)).astype(np.uint32)
    x += np.uint32(seed & 0xFFFFFFFF)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    return x


@lru_cache(maxsize=256)
def chunk(first: int, nwords: int, seed: int) -> Chunk:
    """Those words as a chunk, whose ``content`` says which they are: equal ones are then seen without looking."""
    return Chunk(make=lambda: words(first, nwords, seed).view(np.uint8), content=("pattern", first, nwords, seed))


@lru_cache(maxsize=32)
def chunks(count: int, nwords: int, seed: int) -> tuple[Chunk, ...]:
    """The first ``count`` chunks of ``nwords`` each."""
    return tuple(chunk.__wrapped__(number * nwords, nwords, seed) for number in range(count))
