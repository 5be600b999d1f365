"""Memory that no other process may have: CUDA's IPC is for memory of one GPU."""

from __future__ import annotations

import pytest

from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.exported import export
from fixtures.ends import End
from fixtures.pageable import RequireMemory
from fixtures.worker import Bench

NBYTES = 2 << 20


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("memory", ["managed", "malloc"])
def test_ipc_is_refused(typical_gpu: End, memory: SharedKind, worker: Bench, require_memory: RequireMemory) -> None:
    """A handle would name pages that may be elsewhere by the time another process maps them."""
    require_memory(memory)
    refused = worker.run(export, gpu=typical_gpu.gpu.bdf, memory=memory, nbytes=NBYTES)
    assert refused.error, f"cuIpcGetMemHandle gave a handle of {memory} memory"
