"""What a kernel counted is only worth something if it comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmaproof.rig.load import load
from dmaproof.virtual.power import provision

PROGRAM = """
import sys
from dmaproof.cuda.device import device
from dmaproof.cuda.integrity import fill, verify
from dmaproof.cuda.memory import on_device
from dmaproof.errors import DmaproofError

one = device(sys.argv[1])
with on_device(one, 4096) as buffer:
    fill(one, buffer, 7)
    try:
        print(verify(one, buffer, 7), verify(one, buffer, 8).wrong_words)
    except DmaproofError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ("0000:04:00.0", "View(wrong_words=0, first_wrong_offset=None) 1024"),
        ("0000:82:00.0", "what 0000:82:00.0 counted did not come back"),
    ],
    ids=["a healthy GPU", "one whose copies from and to the host are lost"],
)
def test_counts_that_are_lost_are_not_nothing_wrong(gpu: str, said: str, tmp_path: Path) -> None:
    with provision(load("virtual:pcie-pair"), tmp_path / "nodes", ("iommu-blocks-memory",)) as nodes:
        environment = {**os.environ, **next(iter(nodes.values())).env}
        command = [sys.executable, "-c", PROGRAM, gpu]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert said in done.stdout, done.stderr
