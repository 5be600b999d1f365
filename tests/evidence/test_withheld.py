"""A kernel log that is withheld on purpose: nothing of it is seen, and that is said."""

from __future__ import annotations

from pathlib import Path

from dmaproof.evidence.kmsg import KmsgReader

FAULT = (
    b"4,1,5000000,-;DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0xfe600000 [fault reason 0x05] "
    b"PTE Write access is not set\n"
)


def test_nothing_is_read_any_more_and_the_reason_is_a_blind_spot(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    seeing, withheld = KmsgReader(log, "host"), KmsgReader(log, "host")
    withheld.withhold("it is withheld")
    with log.open("ab") as file:
        file.write(FAULT)
    assert [one.kind for one in seeing.poll()] == ["iommu-fault"]
    assert withheld.poll() == []
    assert withheld.blind_spots == ("it is withheld",)
    seeing.close()
