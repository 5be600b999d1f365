"""The kernel log since boot: what it holds of faults is evidence for whoever reads the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.errors import NodeError
from dmaproof.evidence.decode import decode_whole
from dmaproof.evidence.kernel_log import since_boot
from dmaproof.rig.model import Node
from fixtures.evidence import NoteEvidence


def test_kernel_log_since_boot(node_under_test: Node, node_root: Path, note_evidence: NoteEvidence) -> None:
    """Events of devices that the rig does not declare are kept too. None fails the test: they were before this run."""
    try:
        log = since_boot(node_root / "dev/kmsg")
    except NodeError as error:
        pytest.skip(f"{node_under_test.name}: {error}")
    decoded = decode_whole(log)
    told = f"{node_under_test.name}: {decoded.lines} kernel lines since boot, {len(decoded.events)} of faults"
    note_evidence("kmsg", "kernel-log", told)
    for event in decoded.events:
        note_evidence("kmsg", event.kind, event.text, bdf=event.bdf)
