"""``dmaproof triage``: verdicts of a log alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.console import dmaproof

MAILBOX = "DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] PTE Write access is not set"
LOST = "NVRM: Xid (PCI:0000:04:00): 79, pid=1122, GPU has fallen off the bus."
NOISE = "NVRM: Xid (PCI:0000:04:00): 45, pid=1818990, name=python3, Ch 00000001"


def test_the_mailbox_is_named_in_text() -> None:
    said = dmaproof("triage", "-", stdin=MAILBOX.encode())
    assert (said.status, said.err) == (1, "")
    assert said.out.startswith("iommu-blocks-p2p-mailbox (probable): ")
    assert f"| {MAILBOX}" in said.out
    assert "remedy: " in said.out
    assert "no rig was given" in said.out


def test_a_rig_gives_the_address_a_name() -> None:
    said = dmaproof("triage", "--json", "--rig", "virtual:pcie-pair", "-", stdin=MAILBOX.encode())
    answer = json.loads(said.out)
    (verdict,) = answer["verdicts"]
    assert (answer["rig"], verdict["signature"], verdict["confidence"]) == (
        "virtual:pcie-pair",
        "iommu-blocks-p2p-mailbox",
        "certain",
    )
    assert "of 0000:82:00.0" in verdict["summary"]
    assert not any("no rig was given" in spot for spot in answer["blind_spots"])


def test_the_rig_may_have_several_nodes_and_the_log_tells_which(tmp_path: Path) -> None:
    rig = tmp_path / "two.toml"
    rig.write_text(
        'name = "two"\nkind = "virtual"\n[node.host]\n'
        '[node.guest.gpu.gpu0]\nbdf = "04:00.0"\n'
        '[node.guest.gpu.gpu1]\nbdf = "82:00.0"\nbars = [{ index = 0, address = 0xf8000000, nbytes = 0x1000000 }]\n'
    )
    answer = json.loads(dmaproof("triage", "--json", "--rig", str(rig), "-", stdin=MAILBOX.encode()).out)
    assert answer["node"] == "guest"
    assert answer["verdicts"][0]["confidence"] == "certain"


def test_two_causes_give_two_verdicts() -> None:
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=f"{MAILBOX}\n{LOST}\n".encode()).out)
    assert {verdict["signature"] for verdict in answer["verdicts"]} == {"iommu-blocks-p2p-mailbox", "gpu-lost"}
    assert (answer["events"], answer["lines"], answer["unknown"]) == (2, 2, 0)


def test_events_that_nothing_explains_are_not_given_a_cause() -> None:
    said = dmaproof("triage", "-", stdin=NOISE.encode())
    assert said.status == 1
    assert said.out.startswith("unattributed (possible): ")


def test_a_quiet_log_is_fine_and_says_what_it_cannot_show() -> None:
    said = dmaproof("triage", "-", stdin=b"all is well\n")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("nothing found: no known event in 1 line")
    assert "only a log was read" in said.out


def test_lost_faults_are_a_blind_spot() -> None:
    log = f"DMAR: DRHD: handling fault status reg 3\n{MAILBOX}\ndmar_fault: 812 callbacks suppressed\n"
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=log.encode()).out)
    assert any("812" in spot for spot in answer["blind_spots"])
    assert any("overflowed" in spot for spot in answer["blind_spots"])


def test_a_fault_storm_is_told_in_few_lines() -> None:
    said = dmaproof("triage", "-", stdin=f"{MAILBOX}\n".encode() * 3000)
    assert len(said.out.splitlines()) < 20
    assert "and 2995 more" in said.out
