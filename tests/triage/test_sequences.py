"""Logs of Xids as they come in the field, one after another: who is named, and what is said to follow."""

from __future__ import annotations

from dmaproof.evidence.decode import decode
from dmaproof.evidence.storm import Gatherer
from dmaproof.triage.offline import Log, case, conclude, unexplained
from dmaproof.triage.verdict import Verdict

NOBODY = "pid='<unknown>', name=<unknown>"
OWN = "pid=4321, name=python3, Ch 00000008"
MMU = "intr 0. MMU Fault: ENGINE GRAPHICS GPC0 GPCCLIENT_T1_0 faulted @ 0x7f42_10000000. Fault is of type"
REMAPPED = f"63, {NOBODY}, Row Remapper: New row (0x000000000ab12345) marked for remapping, reset gpu to activate."
RECOVERY = f"154, {NOBODY}, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
LOST = f"79, {NOBODY}, GPU has fallen off the bus."
SILENT = (
    "119, pid=7, name=x, Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (X) (0x0)."
)


def judged(*xids: tuple[float, str]) -> tuple[tuple[Verdict, ...], list[int | None]]:
    """The verdicts on a log of Xids (time, number and body) of one GPU, and the Xids that they leave."""
    lines = [f"[{time_s:12.6f}] NVRM: Xid (PCI:0000:17:00): {text}\n" for time_s, text in xids]
    gatherer = Gatherer()
    for event in decode(["".join(lines).encode()]):
        gatherer.add(event)
    own = case(Log(name="dmesg", entries=gatherer.entries()), None)
    verdicts = conclude(own)
    return verdicts, [one.event.xid for one in unexplained(own, verdicts) if one.event is not None]


def explained(verdict: Verdict) -> set[int | None]:
    return {one.event.xid for one in verdict.explains if one.event is not None}


def test_what_follows_from_an_error_is_not_called_unexplained() -> None:
    (verdict,), left = judged(
        (100.0, f"94, {OWN}, Contained: CE User Channel (0x9). RST: No, D-RST: No"),
        (100.4, REMAPPED), (101.0, f"45, {OWN}"), (101.0, RECOVERY),
    )  # fmt: skip
    assert verdict.signature == "ecc-contained"
    assert explained(verdict) == {63, 45, 154}
    assert left == []


def test_what_was_over_before_is_another_story() -> None:
    fault = f"31, {OWN}, {MMU} FAULT_PDE ACCESS_TYPE_VIRT_READ"
    verdicts, left = judged((5.0, fault), (5000.0, LOST))
    assert {one.signature for one in verdicts} == {"gpu-lost", "application-fault"}
    verdicts, _ = judged((5.0, fault), (5000.0, f"95, {NOBODY}, Uncontained: LTC TAG (0x2,0x0). RST: Yes"))
    assert {one.signature for one in verdicts} == {"ecc-uncorrectable", "application-fault"}
    assert left == []


def test_a_gpu_that_goes_is_silent_before_it_is_lost() -> None:
    (verdict,), left = judged((93.0, SILENT), (100.0, LOST), (101.0, RECOVERY))
    assert verdict.signature == "gpu-lost"
    assert explained(verdict) == {119, 154}
    assert left == []


def test_instances_of_a_gpu_are_kept_apart() -> None:
    lines = (
        f"[  1.0] NVRM: Xid (PCI:0000:17:00 GPU-I:03): 31, {OWN}, {MMU} FAULT_PDE ACCESS_TYPE_VIRT_READ\n"
        "[  1.1] NVRM: Xid (PCI:0000:17:00 GPU-I:05): 94, pid=9, name=py, Contained: SM (0x1). RST: No\n"
    )
    gatherer = Gatherer()
    for event in decode([lines.encode()]):
        gatherer.add(event)
    verdicts = conclude(case(Log(name="dmesg", entries=gatherer.entries()), None))
    assert {one.signature for one in verdicts} == {"ecc-contained", "application-fault"}


def test_a_programs_own_channels_go_with_it() -> None:
    fault = (100.0, f"13, {OWN}, Graphics SM Warp Exception on (GPC 0, TPC 1, SM 0): Out Of Range Address")
    (verdict,), left = judged(fault, (100.1, f"45, {OWN} caused by previous Xid 13"))
    assert verdict.signature == "application-fault"
    assert left == []
    verdicts, _ = judged(fault, (100.1, "45, pid=5000, name=victim, Ch 00000009 caused by previous Xid 13"))
    assert [one.signature for one in verdicts] == ["application-fault", "bystander"]
    assert "not seen" not in verdicts[1].summary


def test_what_a_line_does_not_say_is_not_made_up() -> None:
    (verdict,), _ = judged((1.0, f"31, pid=4321, Ch 00000008, {MMU} FAULT_PDE ACCESS_TYPE_VIRT_READ"))
    assert verdict.summary.startswith("process 4321 on 0000:17:00.0 met an address that is not mapped at 0x7f42")
    (verdict,), _ = judged((1.0, f"31, {OWN}, {MMU} FAULT_RO_VIOLATION ACCESS_TYPE_VIRT_WRITE"))
    assert "met an MMU fault (FAULT_RO_VIOLATION)" in verdict.summary


def test_links_are_known_in_padded_lines_and_where_none_is_named() -> None:
    (verdict,), _ = judged((1.0, "149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 05 (0x004505c6 0x00000000)"))
    assert verdict.summary == "NVLink link 5 of 0000:17:00.0 had a fatal error (Xid 149) and is down"
    (verdict,), _ = judged((1.0, "149, NETIR Fatal XC0 i0 Link -1 (0x000fe406 0x00000000)"))
    assert verdict.summary.startswith("an NVLink of 0000:17:00.0 had a fatal error")


def test_gpus_without_spare_rows_retire_pages() -> None:
    (verdict,), _ = judged(
        (1.0, f"63, {NOBODY}, Dynamic Page Retirement: New page retired, reboot to activate (0x1ab).")
    )
    assert verdict.signature == "row-remap-pending"
    assert "a memory page of 0000:17:00.0 is retired" in verdict.summary
    assert "PAGE_RETIREMENT" in verdict.remedy
