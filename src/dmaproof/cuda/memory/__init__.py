"""Memory of every kind a transfer can start or end in, each released when its ``with`` block ends."""

from __future__ import annotations

from dmaproof.cuda.memory.both import SharedKind, shared
from dmaproof.cuda.memory.buffer import Buffer, Words
from dmaproof.cuda.memory.plain import near, on_device, pinned

__all__ = ["Buffer", "SharedKind", "Words", "near", "on_device", "pinned", "shared"]
