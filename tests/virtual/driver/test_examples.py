"""cuda-python's own examples, as they are, on the virtual driver. They are run from a checkout of NVIDIA/cuda-python:

    DMAPROOF_CUDA_PYTHON=<checkout> pytest tests/virtual/driver/test_examples.py

docs/virtual-driver.md says which run, and what the others would need.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmaproof.node.node import Node
from tests.virtual.conftest import Boot

CHECKOUT = os.environ.get("DMAPROOF_CUDA_PYTHON", "")
RUNNING = {
    "cuda_core/examples/batched_memcpy.py": "Batched memcpy example completed!",
    "cuda_core/examples/buffer_deallocation_stream.py": "transfer completed",
    "cuda_bindings/examples/4_CUDA_Libraries/nvidia_smi.py": "NVIDIA H100 80GB HBM3",
}
"""By path in the checkout, something that each prints at its end."""
LACKING = {
    "cuda_core/examples/graph_update.py": "a binary image (cubin or fatbin)",
    "cuda_core/examples/memory_pool_resources.py": "a binary image (cubin or fatbin)",
    "cuda_bindings/examples/extra/jit_program.py": "a binary image (cubin or fatbin)",
}
"""What the driver says of the first thing that each needs and it has not."""

pytestmark = pytest.mark.skipif(not CHECKOUT, reason="DMAPROOF_CUDA_PYTHON names no checkout of cuda-python")


def run(node: Node, path: str) -> subprocess.CompletedProcess[str]:
    """Skips where the checkout, of whatever version, has no such example."""
    example = Path(CHECKOUT, path)
    if not example.exists():
        pytest.skip(f"no {path} in {CHECKOUT}")
    helpers = str(Path(CHECKOUT, "cuda_bindings"))
    environment = {**os.environ, **node.env, "PYTHONPATH": helpers}
    command = [sys.executable, str(example)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("path", RUNNING)
def test_an_example_runs_as_it_is(boot: Boot, path: str) -> None:
    done = run(boot("virtual:hgx-h100"), path)
    assert done.returncode == 0, done.stderr
    assert RUNNING[path] in done.stdout


@pytest.mark.parametrize("path", LACKING)
def test_what_is_missing_is_said(boot: Boot, path: str) -> None:
    done = run(boot("virtual:hgx-h100"), path)
    assert done.returncode != 0
    assert f"not implemented by the virtual driver: {LACKING[path]}" in done.stderr
