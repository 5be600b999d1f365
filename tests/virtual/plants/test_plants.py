"""Every plant, met as a test meets it: by what becomes of its work, and by what the machine then shows."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.rig.load import load
from dmaproof.triage.signatures import IDS
from dmaproof.virtual import plants
from dmaproof.virtual.power import provision

GPU0, GPU1 = "0000:04:00.0", "0000:82:00.0"
GH200 = "0009:01:00.0"
STATS = "proc/driver/nvidia-uvm/gpus/GPU-4d6f6f66-0000-4000-8000-000000000901/fault_stats"
RECORD = (
    "DMAR: [DMA Write NO_PASID] Request device [04:00.0] fault addr 0xf8139000"
    " [fault reason 0x05] PTE Write access is not set"
)
HEADER = "DMAR: DRHD: handling fault status reg 2"


def counters(root: Path) -> dict[str, int]:
    """Of the replayable half; a name that comes twice keeps its first value."""
    rows = re.findall(r"^ *([a-z_]+) +(\d+)", (root / STATS).read_text(), re.MULTILINE)
    return {name: int(value) for name, value in reversed(rows)}


def test_ids_are_names_of_signatures() -> None:
    assert set(plants.ids()) <= set(IDS)


@pytest.mark.parametrize(
    ("rig", "plant", "message"),
    [
        ("virtual:gh200", "gpu-losst", "unknown plant 'gpu-losst': did you mean 'gpu-lost'"),
        (
            "virtual:hgx-h100",
            "ats-stage2-hole",
            "'ats-stage2-hole' needs a node with addressing = 'ats'; host has 'hmm'",
        ),
        ("virtual:pcie-pair-pt", "iommu-blocks-p2p-mailbox", "domain = 'translated' }; host has 'vtd', 'passthrough'"),
        ("virtual:guest-pair", "iommu-blocks-p2p-mailbox", "host|guest has 'none', 'none'"),
    ],
)
def test_a_plant_that_cannot_be_is_refused_with_the_reason(rig, plant, message, tmp_path) -> None:
    with (
        pytest.raises(UsageError, match=re.escape(message).replace(r"\|", "|")),
        provision(load(rig), tmp_path, (plant,)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


class TestMailbox:
    RIG, PLANT = "virtual:pcie-pair", "iommu-blocks-p2p-mailbox"

    def test_peer_transfers_never_end_and_the_iommu_says_why(self, boot, dial, log) -> None:
        node = boot(self.RIG, self.PLANT)
        client, before = dial(node), len(log(node))
        assert client.dma(GPU0, GPU1) == "never"
        assert log(node)[before : before + 2] == [HEADER, RECORD]
        time.sleep(0.3)  # the engine retries; the log is limited
        assert log(node)[before:] == [HEADER, RECORD] * 3 + [HEADER]
        assert client.dma(GPU0, "host") == client.dma("host", GPU1) == client.dma(GPU1, GPU1) == "lands"

    def test_what_was_not_logged_is_counted_at_the_next_window_if_the_faults_go_on(
        self, boot, dial, log, tmp_path
    ) -> None:
        node, ended = boot(self.RIG, self.PLANT), boot(self.RIG, self.PLANT, workdir=tmp_path / "ended")
        client, killed = dial(node), dial(ended)
        assert client.dma(GPU0, GPU1, engine="sm") == killed.dma(GPU0, GPU1) == "never"
        time.sleep(0.3)
        killed.close()  # its engine is torn down: a final burst is never counted in the log
        time.sleep(5.0)
        found = re.findall(r"dmar_fault: (\d+) callbacks suppressed", "\n".join(log(node)))
        assert len(found) == 1
        assert 1000 < int(found[0]) < 12000
        assert not any("suppressed" in line for line in log(ended))
        assert log(ended)[-1] == HEADER

    def test_a_read_knocks_at_the_mailbox_of_its_source(self, boot, dial, log) -> None:
        node = boot(self.RIG, self.PLANT)
        assert dial(node).dma(GPU0, GPU1, requester=GPU1) == "never"
        assert "Request device [82:00.0] fault addr 0xf6139000" in log(node)[-1]

    def test_the_parameter_that_causes_it_shows(self, boot) -> None:
        assert "DmaRemapPeerMmio: 0\n" in (boot(self.RIG, self.PLANT).root / "proc/driver/nvidia/params").read_text()


class TestStage2Hole:
    RIG, PLANT = "virtual:gh200", "ats-stage2-hole"

    def test_a_migration_toward_the_gpu_is_replayed_for_ever_in_silence(self, boot, dial, log) -> None:
        node = boot(self.RIG, self.PLANT)
        client, before = dial(node), log(node)
        assert client.fault(GH200) == {"effect": "replaying", "code": "", "duration_ns": 0.0}
        first = counters(node.root)
        time.sleep(0.4)
        second = counters(node.root)
        for name in ("replayable_faults", "duplicates", "start", "write"):
            assert second[name] > first[name] + 50, name
        assert [second[name] for name in ("num_pages_in", "num_pages_out", "read")] == [0, 0, 0]
        assert log(node) == before

    def test_a_monitor_never_reads_half_a_file(self, boot, dial) -> None:
        node = boot(self.RIG, self.PLANT)
        dial(node).fault(GH200)
        whole, deadline = (node.root / STATS).read_text().count("\n"), time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert (node.root / STATS).read_text().count("\n") == whole

    def test_cancelling_is_told_by_an_xid_at_the_address_of_the_work(self, boot, dial, log) -> None:
        node = boot(self.RIG, self.PLANT)
        client, other = dial(node, pid=31337, process="uvm-test"), dial(node, pid=1, process="bystander")
        other.watch()
        assert client.fault(GH200, va=0x7F31_0ABE_0000)["effect"] == "replaying"
        before = len(log(node))
        client.close()
        assert other.next() == {"gpu": GH200, "event_type": 8, "event_data": 31}
        assert log(node)[before:] == [
            "NVRM: GPU at PCI:0009:01:00: GPU-4d6f6f66-0000-4000-8000-000000000901",
            "NVRM: Xid (PCI:0009:01:00): 31, pid=31337, name=uvm-test, Ch 00000008, intr 00000000. MMU Fault: ENGINE"
            " GRAPHICS GPC0 GPCCLIENT_T1_0 faulted @ 0x7f31_0abe0000."
            " Fault is of type FAULT_PTE ACCESS_TYPE_VIRT_WRITE",
        ]
        time.sleep(0.2)  # the last counts are written
        still = counters(node.root)
        time.sleep(0.2)
        assert counters(node.root) == still

    def test_everything_else_passes(self, boot, dial) -> None:
        client = dial(boot(self.RIG, self.PLANT))
        assert client.dma("host", GH200) == client.dma(GH200, "host") == client.dma(GH200, GH200) == "lands"
        assert client.fault(GH200, space="managed")["effect"] == "served"
        assert client.fault(GH200, toward="host")["effect"] == "served"


class TestGpuLost:
    PLANT = "gpu-lost"

    def test_the_first_transfer_takes_the_last_gpu_off_the_bus(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100", self.PLANT)
        client, other, before = dial(node, pid=1122, process="python3"), dial(node), len(log(node))
        other.watch()
        last, device = "0000:df:00.0", node.root / "sys/bus/pci/devices/0000:df:00.0"
        assert client.state(last) == "present"
        assert client.dma("host", last) == "lost"
        assert client.state(last) == "lost"
        assert (device / "config").read_bytes() == b"\xff" * 4096
        assert (device / "current_link_speed").read_text() == "Unknown\n"
        assert [other.next()["event_data"] for _ in range(4)] == [79, 0, 1, 154]
        assert log(node)[before:] == [
            "NVRM: GPU at PCI:0000:df:00: GPU-4d6f6f66-0000-4000-8000-0000000000df",
            "NVRM: Xid (PCI:0000:df:00): 79, pid=1122, name=python3, GPU has fallen off the bus.",
            "NVRM: GPU 0000:df:00.0: GPU has fallen off the bus.",
            "NVRM: A GPU crash dump has been created. If possible, please run",
            "NVRM: nvidia-bug-report.sh as root to collect this data before",
            "NVRM: the NVIDIA kernel module is unloaded.",
            "NVRM: Xid (PCI:0000:df:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
        ]

    def test_it_stays_lost_and_the_others_stay(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100", self.PLANT)
        client, last = dial(node), "0000:df:00.0"
        assert client.dma(last, last, engine="sm") == "lost"
        said = log(node)
        assert client.dma("0000:1b:00.0", last) == client.fault(last, space="managed")["effect"] == "lost"
        assert dial(node).dma("0000:1b:00.0", "0000:d1:00.0") == "lands"
        assert (node.root / "sys/bus/pci/devices/0000:d1:00.0/config").read_bytes()[:2] == b"\xde\x10"
        assert log(node) == said

    def test_a_peer_transfer_over_pcie_finds_it_too(self, boot, dial) -> None:
        client = dial(boot("virtual:pcie-pair", self.PLANT))
        assert client.dma(GPU0, GPU0) == "lands"
        assert client.dma(GPU0, GPU1) == "lost"
        assert client.state(GPU1) == "lost"


class TestUnattributedHang:
    def test_a_copy_engine_stops_and_nobody_says_a_word(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100", "unattributed-hang")
        client, before, first, second = dial(node), log(node), "0000:1b:00.0", "0000:43:00.0"
        assert client.dma(first, second) == client.dma("host", first) == "never"
        assert client.dma(first, second, engine="sm") == client.dma(second, first) == "lands"
        client.close()
        assert log(node) == before
        assert dial(node).state(first) == "present"


def test_two_causes_meet(boot, dial, log) -> None:
    """Peers cannot shake hands, and then one of them is gone: faults first, silence of the IOMMU after."""
    node = boot("virtual:pcie-pair", "iommu-blocks-p2p-mailbox", "gpu-lost", "unattributed-hang")
    client = dial(node)
    assert client.dma(GPU0, GPU1, engine="ce") == "lost"  # its link is used before its engine matters
    assert client.dma(GPU0, "host", engine="ce") == "never"
    assert client.dma(GPU0, GPU0, engine="sm") == "lands"
    assert not any("DMAR: [" in line for line in log(node))
    assert any("Xid (PCI:0000:82:00): 79" in line for line in log(node))
