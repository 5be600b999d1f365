"""``dmaproof triage``: verdicts of a log alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    assert said.out.startswith("unattributed: 1 event that no signature explains\n  | ")
    assert NOISE in said.out
    assert "failed" not in said.out
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=NOISE.encode()).out)
    assert [verdict["signature"] for verdict in answer["verdicts"]] == ["unattributed"]
    assert [event["xid"] for event in answer["unexplained"]] == [45]


def test_faults_whose_own_lines_were_suppressed_are_events_too() -> None:
    said = dmaproof("triage", "-", stdin=b"dmar_fault: 812 callbacks suppressed\n")
    assert said.status == 1
    assert said.out.startswith("unattributed: 1 event that no signature explains\n")


def test_what_the_verdicts_leave_unexplained_is_listed() -> None:
    log = f"DMAR: DRHD: handling fault status reg 3\n{MAILBOX}\n{NOISE}\n{NOISE}\n"
    said = dmaproof("triage", "-", stdin=log.encode())
    told = said.out.split("\n\n")
    assert told[0].startswith("iommu-blocks-p2p-mailbox")
    assert told[1].splitlines() == [
        "not explained by any verdict:",
        f"  | [           ?] xid 45 0000:04:00.0: {NOISE} (2 times)",
    ]
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=log.encode()).out)
    (event,) = answer["unexplained"]
    assert (event["text"], event["storm"]["count"]) == (NOISE, 2)
    assert "not explained" not in dmaproof("triage", "-", stdin=MAILBOX.encode()).out


def test_a_rig_of_another_machine_does_not_lose_the_verdict() -> None:
    arguments = ("triage", "--json", "--rig", "virtual:hgx-h100", "-")
    said = dmaproof(*arguments, stdin=MAILBOX.encode())
    assert said.err == "dmaproof: 0000:04:00.0 is not a GPU of rig virtual:hgx-h100: is this the right rig?\n"
    answer = json.loads(said.out)
    assert [verdict["signature"] for verdict in answer["verdicts"]] == ["iommu-blocks-p2p-mailbox"]
    assert answer["verdicts"][0]["confidence"] == "probable"
    assert any("of the rig that was given" in spot for spot in answer["blind_spots"])


UNDECODED = [
    ("apple-dart 1000.iommu: translation fault: status:0x1 stream:0 code:0x2 (x) at 0x100", "Apple DART faults"),
    ("rk_iommu ff900800.iommu: Page fault at 0xf8139000 of type write", "Rockchip IOMMU faults"),
    ("EEH: Frozen PHB#1-PE#2 detected", "PowerPC EEH errors"),
    ("{1}[Hardware Error]:   section_type: PCIe error", "PCIe errors that firmware handled first"),
]


@pytest.mark.parametrize(("line", "family"), UNDECODED)
def test_fault_reports_that_are_not_decoded_are_no_silence(line: str, family: str) -> None:
    note = f"not seen: 2 lines look like {family}, which this version does not decode"
    log = f"[    1.000000] {line}\n[    2.000000] {line}\n".encode()
    for command in ("triage", "decode"):
        said = dmaproof(command, "-", stdin=log)
        assert (said.status, said.err) == (1, "")
        assert note in said.out.splitlines()
        assert "nothing found" not in said.out
        said = dmaproof(command, "--json", "-", stdin=log)
        assert (said.status, said.err) == (1, f"dmaproof: {note}\n")


def test_drivers_that_only_start_report_no_fault() -> None:
    log = (
        "AMD-Vi: Interrupt remapping enabled\narm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0\n"
        "pcieport 0000:00:01.0: AER: enabled with IRQ 26\nvirtio_iommu virtio3: input address: 64 bits\n"
    )
    for command in ("triage", "decode"):
        said = dmaproof(command, "-", stdin=log.encode())
        assert (said.status, said.err) == (0, "")


@pytest.mark.parametrize("command", ["triage", "decode"])
@pytest.mark.parametrize("log", [b"", b"all is well\n", bytes(range(256)) * 100])
def test_what_is_no_kernel_log_is_asked_about(command: str, log: bytes, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(log)
    said = dmaproof(command, file)
    assert said.status == 0
    assert said.err == f"dmaproof: no kernel log line recognised in {file}: is it a kernel log?\n"


def test_a_quiet_log_is_fine_and_says_what_it_cannot_show() -> None:
    said = dmaproof("triage", "-", stdin=b"[    1.000000] all is well\n")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("nothing found: no known event in 1 line")
    assert "only a log was read" in said.out


def test_lost_faults_are_a_blind_spot() -> None:
    log = f"DMAR: DRHD: handling fault status reg 3\n{MAILBOX}\ndmar_fault: 812 callbacks suppressed\n"
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=log.encode()).out)
    assert any("812" in spot for spot in answer["blind_spots"])
    assert any("overflowed" in spot for spot in answer["blind_spots"])


def test_a_fault_storm_is_one_entry_with_its_range() -> None:
    once = dmaproof("triage", "-", stdin=f"{MAILBOX}\n".encode() * 3000)
    assert once.out.count(MAILBOX) == 1
    assert f"| {MAILBOX} (3000 times)" in once.out
    log = "".join(MAILBOX.replace("f8139000", f"{0xF8139000 + offset:x}") + "\n" for offset in range(3000))
    said = dmaproof("triage", "-", stdin=log.encode())
    assert len(said.out.splitlines()) < 20
    assert "(3000 times, addresses 0xf8139000-0xf8139bb7)" in said.out
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=log.encode()).out)
    assert (answer["events"], len(answer["timeline"]), len(answer["verdicts"][0]["evidence"])) == (3000, 1, 1)


FAULT = "DMAR: [DMA Write NO_PASID] Request device [17:00.0] fault addr 0xf8139000 [fault reason 0x05] PTE Write .."
HOST = f"""\
Nov 21 10:00:00 host kernel: [ 1000.000000] all is well
Nov 21 10:00:10 host kernel: [ 1010.000000] {FAULT}
"""
GUEST = """\
Nov 21 10:00:00 vm kernel: [   50.000000] all is well
Nov 21 10:00:11 vm kernel: [   61.000000] NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.
"""


def logs(folder: Path, **texts: str) -> list[Path]:
    files = []
    for name, text in texts.items():
        file = folder / f"{name}.log"
        file.write_text(text)
        files.append(file)
    return files


def test_guest_and_host_are_judged_each_and_shown_on_one_clock(tmp_path: Path) -> None:
    files = logs(tmp_path, host=HOST, guest=GUEST)
    said = dmaproof("triage", *files)
    assert (said.status, said.err) == (1, "")
    assert "host: iommu-blocks-p2p-mailbox (probable): " in said.out
    assert "guest: gpu-lost (probable): 0000:01:00.0 fell off the bus" in said.out
    told = said.out.partition("timeline (clock of host; guest +950.000 s ± 1 s, by the wall clock):\n")[2].splitlines()
    assert told[0].startswith("  |    1010.000000 host: DMAR:")
    assert told[1].startswith("  |    1011.000000 guest: NVRM:")
    answer = json.loads(dmaproof("triage", "--json", *files).out)
    assert [(one["name"], one["clock"]) for one in answer["logs"]] == [
        ("host", {"by": "first", "offset_s": 0.0, "uncertainty_s": 0.0}),
        ("guest", {"by": "wall-clock", "offset_s": 950.0, "uncertainty_s": 1.0}),
    ]
    assert [(one["log"], one["time_s"]) for one in answer["timeline"]] == [("host", 1010.0), ("guest", 1011.0)]
    assert {(one["log"], one["signature"]) for one in answer["verdicts"]} == {
        ("host", "iommu-blocks-p2p-mailbox"),
        ("guest", "gpu-lost"),
    }


def test_an_offset_is_taken_as_given_and_none_is_admitted(tmp_path: Path) -> None:
    files = logs(tmp_path, host=HOST, guest="".join(line.partition("kernel: ")[2] for line in GUEST.splitlines(True)))
    said = dmaproof("triage", *files)
    assert "guest: not aligned, its own clock, listed last (give --clock-offset guest=SECONDS)" in said.out
    said = dmaproof("triage", *files, "--clock-offset", "guest=949.5")
    assert "guest +949.500 s, as given" in said.out
    assert "1010.500000 guest" in said.out
    wrong = dmaproof("triage", *files, "--clock-offset", "gest=1")
    assert "no log is called 'gest'" in wrong.complaint
    assert "guest" in wrong.complaint
    assert "a number" in dmaproof("triage", *files, "--clock-offset", "guest=soon").complaint


def test_a_guest_whose_hosts_log_was_read_has_one_blind_spot_less(tmp_path: Path) -> None:
    unread = "guest: IOMMU faults are logged on the host, which was not read"
    files = logs(tmp_path, guest=GUEST, host=HOST)
    alone = json.loads(dmaproof("triage", "--json", "--rig", "virtual:guest-pair", files[0]).out)
    assert unread in alone["verdicts"][0]["blind_spots"]
    both = json.loads(dmaproof("triage", "--json", "--rig", "virtual:guest-pair", *files).out)
    assert unread not in both["verdicts"][0]["blind_spots"]


def test_nothing_to_read_is_said() -> None:
    assert "say which LOG to read" in dmaproof("triage").complaint
    assert "cannot read nowhere" in dmaproof("triage", "nowhere").complaint
    assert "nowhere" in dmaproof("triage", "--archive", "nowhere").complaint


def test_the_json_has_the_fields_that_are_documented() -> None:
    answer = json.loads(dmaproof("triage", "--json", "-", stdin=f"{MAILBOX}\n{NOISE}\n".encode()).out)
    page = (Path(__file__).parents[2] / "docs" / "triage.md").read_text()
    of = {"answer": answer} | {name: answer[name][0] for name in ("logs", "verdicts", "timeline")}
    for part, found in of.items():
        section = page.partition(f"### `{part}`")[2].partition("\n### ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == list(found), part


def test_a_gpu_that_the_rig_does_not_name_is_lost_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "NVRM: Xid (PCI:0000:82:00): 31, pid=7, name=exe, Ch 0000000a, intr 00000000. MMU Fault: ENGINE CE0 "
        "HUBCLIENT_HSCE0 faulted @ 0x2b57_b3000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_WRITE\n"
        "NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.\n"
    )
    said = dmaproof("triage", "--rig=virtual:pcie-pair", log)
    assert "gpu-lost (probable): 0000:01:00.0 fell off the bus" in said.out


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "1e400", "1e300", "", "0x10"])
def test_an_offset_that_is_no_number_of_seconds(seconds: str, tmp_path: Path) -> None:
    """With one of these the timeline would be nonsense, and --json no JSON."""
    files = logs(tmp_path, host=HOST, guest=GUEST)
    said = dmaproof("triage", *files, "--clock-offset", f"guest={seconds}").complaint
    assert f"--clock-offset 'guest={seconds}': seconds are a number up to 1e+10, as in guest=-12.5" in said


def test_an_offset_that_is_given_twice(tmp_path: Path) -> None:
    files = logs(tmp_path, host=HOST, guest=GUEST)
    said = dmaproof("triage", *files, "--clock-offset", "guest=1", "--clock-offset=guest=2").complaint
    assert "'guest=2': guest has the offset 1 already: give it once" in said


def test_standard_input_is_read_once() -> None:
    assert "- is given twice" in dmaproof("triage", "-", "-", stdin=HOST.encode()).complaint


def test_no_two_logs_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files = [*logs(tmp_path, **{"a": HOST, "a-1": HOST}), *logs(tmp_path / "b", a=GUEST)]
    answer = json.loads(dmaproof("triage", "--json", *files).out)
    assert [one["name"] for one in answer["logs"]] == ["a-2", "a-1", "a-3"]
