"""``dmaproof decode``."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.console import dmaproof

CORPUS = Path(__file__).parents[3] / "shared/corpus/kernel-lines.jsonl"
FAULT = (
    "[   51.691450] DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] PTE Write access"
)
XID = "NVRM: Xid (PCI:0000:04:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def decoded(*lines: str) -> list[dict[str, Any]]:
    said = dmaproof("decode", "--json", "-", stdin="\n".join(lines).encode())
    assert said.err == ""
    events = [json.loads(line) for line in said.out.splitlines()]
    assert said.status == (1 if events else 0)
    return events


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of kernel lines is not beside this checkout")
def test_the_corpus_decodes_as_it_says() -> None:
    """One process a case, for a decoder may carry something over from one line to the next."""
    cases = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    assert len(cases) >= 20
    wrong = []
    for case in cases:
        events = decoded(case["line"])
        if len(events) != 1 or not case["expect"].items() <= events[0].items():
            wrong.append((case, events))
    assert wrong == []


def test_every_event_has_every_field_of_the_contract() -> None:
    fields = (
        "kind family time bdf address access reason event stage pasid xid pid process gpu_instance compute_instance "
        "channel engine va fault_type access_type caused_by count overflow severity duration_s driver function text"
    )
    assert [list(event) for event in decoded(FAULT, XID)] == [fields.split()] * 2


def test_text_says_who_did_what_where_and_counts_what_is_unknown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"{FAULT}\nsomething else\n{XID}\n")
    said = dmaproof("decode", log)
    fault, xid, count = said.out.splitlines()
    assert said.status == 1
    assert fault.startswith("[   51.691450] iommu-fault 0000:04:00.0 write at 0xf8139000: DMAR: [DMA Write]")
    assert xid.startswith("[           ?] xid 79 0000:04:00.0: ")
    assert count == "2 events (1 iommu-fault, 1 xid) in 3 lines, 1 of them unknown"


@pytest.mark.parametrize("log", [b"", b"\n\n", b"nothing of note\n"])
def test_a_log_without_events_is_fine(log: bytes) -> None:
    said = dmaproof("decode", "-", stdin=log)
    assert said.status == 0
    assert said.out.startswith("0 events in ")
    assert dmaproof("decode", "--json", "-", stdin=log).out == ""


@pytest.mark.parametrize("seed", range(3))
def test_any_bytes_are_a_log(seed: int) -> None:
    junk = random.Random(seed).randbytes(200_000)
    said = dmaproof("decode", "-", stdin=junk + b"\n" + FAULT.encode() + b"\n" + junk)
    assert said.status == 1
    assert said.err == ""
    assert "iommu-fault 0000:04:00.0 write at 0xf8139000" in said.out


def test_a_log_cannot_steer_the_terminal() -> None:
    line = "NVRM: Xid (PCI:0000:04:00): 43, pid=7, name=\x1b[2J\x1b]0;owned\x07\u202e, Ch 00000007"
    said = dmaproof("decode", "-", stdin=line.encode())
    assert said.status == 1
    assert "\\x1b[2J" in said.out
    assert not {"\x1b", "\x07", "\u202e"} & set(said.out)


def test_a_terminal_of_another_encoding_is_no_error() -> None:
    line = "NVRM: Xid (PCI:0000:04:00): 43, pid=7, name=größe火, Ch 00000007"
    said = dmaproof("decode", "-", stdin=line.encode(), env={"PYTHONIOENCODING": "latin-1"})
    assert (said.status, said.err) == (1, "")
    assert "größe\\u706b" in said.out
