"""Causes in a GPU's PCIe link."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.pci import config, sysfs
from dmaproof.rig.load import load
from dmaproof.virtual import plants

GPU0, GPU1, PORT0, PORT1 = "0000:04:00.0", "0000:82:00.0", "0000:00:02.0", "0000:80:02.0"
RATES = {1: 2.0, 2: 4.0, 3: 7.876, 4: 15.753, 5: 31.507}


def link(root: Path, gpu: str) -> sysfs.Link:
    found = next(one.link for one in sysfs.functions(root) if one.bdf == gpu)
    assert found is not None
    return found


def errors(root: Path, bdf: str, severity: str = "correctable") -> dict[str, int]:
    """Counters that are not zero, by name."""
    rows = (root / "sys/bus/pci/devices" / bdf / f"aer_dev_{severity}").read_text().splitlines()
    return {name: int(count) for name, count in (row.split() for row in rows) if int(count)}


class TestDegraded:
    PLANT = "pcie-link-degraded"

    def test_a_quarter_of_the_lanes_carry_a_quarter_of_the_rate(self, boot, dial, log) -> None:
        node, rig = boot("virtual:pcie-pair", self.PLANT), load("virtual:pcie-pair").nodes[0]
        client = dial(node)
        for source, target, share in (
            ("host", "gpu0", 4),
            ("gpu0", "gpu1", 4),
            ("gpu1", "gpu0", 4),
            ("host", "gpu1", 1),
        ):
            ends = [rig.gpu[name].bdf if name != "host" else name for name in (source, target)]
            full = rig.path_between(source, target).bandwidth_GBps
            assert client.transfer(*ends)["bandwidth_GBps"] == pytest.approx(full / share), (source, target)
        assert client.transfer(GPU0, GPU0)["bandwidth_GBps"] == rig.path_between("gpu0", "gpu0").bandwidth_GBps
        assert link(node.root, GPU0) == sysfs.Link(4, 4, 4, 16)
        assert link(node.root, GPU1) == sysfs.Link(4, 16, 4, 16)
        assert link(node.root, PORT0) == link(node.root, GPU0)
        assert (
            "pci 0000:04:00.0: 63.012 Gb/s available PCIe bandwidth, limited by 16.0 GT/s PCIe x4 link at 0000:00:02.0"
            " (capable of 252.048 Gb/s with 16.0 GT/s PCIe x16 link)"
        ) in log(node)
        for end in (GPU0, PORT0):
            express = config.parse(config.read(node.root, end) or b"").express
            assert (express.current_width, express.max_width, express.current_generation) == (4, 16, 4)
        assert client.ask({"op": "checkup", "gpu": GPU0})["width"] == 4

    def test_by_chance_another_gpu_another_width_another_generation(self, boot, dial, tmp_path) -> None:
        seen = set()
        for seed in range(8):
            node = boot("virtual:pcie-pair", f"{self.PLANT}@{seed}", workdir=tmp_path / str(seed))
            (gpu,) = (one for one in (GPU0, GPU1) if link(node.root, one) != sysfs.Link(4, 16, 4, 16))
            now = link(node.root, gpu)
            share = RATES[now.current_generation] * now.current_width / (RATES[4] * 16)
            assert share <= 0.5
            assert dial(node).transfer("host", gpu)["bandwidth_GBps"] == pytest.approx(26.3 * share, rel=1e-3)
            seen.add((gpu, now.current_generation, now.current_width))
        assert len({gpu for gpu, _, _ in seen}) == 2
        assert len({generation for _, generation, _ in seen}) > 1
        assert len({width for _, _, width in seen}) > 1

    @pytest.mark.parametrize("seed", range(4))
    def test_where_nothing_goes_over_pcie_lanes_are_missing(self, seed, boot) -> None:
        """A lower rate would be taken for power saving, and nothing would be slow."""
        node = boot("virtual:gh200", f"{self.PLANT}@{seed}")
        assert link(node.root, "0009:01:00.0").current_generation == 5
        assert link(node.root, "0009:01:00.0").current_width < 16


class TestAerStorm:
    PLANT = "pcie-aer-storm"

    def test_damaged_packets_are_counted_reported_and_sent_again(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", self.PLANT)
        client, before = dial(node), len(log(node))
        assert errors(node.root, GPU0) == errors(node.root, PORT0) == {}
        assert client.transfer("host", GPU0)["bandwidth_GBps"] == pytest.approx(26.3 * 0.8)
        assert client.transfer("host", GPU1)["bandwidth_GBps"] == pytest.approx(26.3)
        assert client.ask({"op": "checkup", "gpu": GPU0})["pcie_replays"] == (1 << 20) // 256 // 64
        time.sleep(0.2)  # counters are written 20 times a second
        assert errors(node.root, GPU0) == {"BadTLP": 11, "TOTAL_ERR_COR": 11}  # the receiver
        assert errors(node.root, PORT0) == {"Timeout": 5, "TOTAL_ERR_COR": 5}  # the transmitter
        assert (node.root / "sys/bus/pci/devices" / PORT0 / "aer_rootport_total_err_cor").read_text() == "16\n"
        assert errors(node.root, GPU1) == errors(node.root, PORT1) == {}
        assert log(node)[before : before + 12] == [
            "pcieport 0000:00:02.0: AER: Correctable error message received from 0000:04:00.0",
            "nvidia 0000:04:00.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Receiver ID)",
            "nvidia 0000:04:00.0:   device [10de:2230] error status/mask=00000040/0000a000",
            "nvidia 0000:04:00.0:    [ 6] BadTLP                ",
        ] * 2 + [
            "pcieport 0000:00:02.0: AER: Correctable error message received from 0000:00:02.0",
            "pcieport 0000:00:02.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Transmitter ID)",
            "pcieport 0000:00:02.0:   device [8086:2030] error status/mask=00001000/0000a000",
            "pcieport 0000:00:02.0:    [12] Timeout               ",
        ]

    def test_the_log_is_limited_by_source_the_counters_are_not(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", self.PLANT)
        client = dial(node)
        for _ in range(5):
            assert client.dma(GPU0, "host") == "lands"  # toward the host, the port receives
        time.sleep(0.2)
        assert errors(node.root, PORT0)["BadTLP"] + errors(node.root, GPU0)["Timeout"] == 80
        told = [line for line in log(node) if "Correctable error message" in line]
        assert sum(line.endswith(PORT0) for line in told) == sum(line.endswith(GPU0) for line in told) == 10

    def test_under_a_switch_the_root_port_tells_of_it(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-switch", self.PLANT)
        assert dial(node).dma("host", "0000:1a:00.0") == "lands"
        told = [line for line in log(node) if "error message received" in line]
        assert {line.partition(": AER")[0] for line in told} == {"pcieport 0000:17:00.0"}
        assert {line.rpartition(" ")[2] for line in told} == {"0000:1a:00.0", "0000:19:00.0"}

    def test_a_link_that_carries_doorbells_alone_errs_seldom(self, boot, dial) -> None:
        node = boot("virtual:gh200", self.PLANT)
        outcome = dial(node).transfer("host", "0009:01:00.0")
        assert outcome["bandwidth_GBps"] == 340.0
        time.sleep(0.2)
        assert sum(errors(node.root, "0009:00:00.0").values()) + sum(errors(node.root, "0009:01:00.0").values()) == 2

    def test_a_guest_does_not_hear_of_it(self) -> None:
        with pytest.raises(UsageError, match="the real link's errors stay there"):
            plants.by_node(load("virtual:guest-pair"), (self.PLANT,))


class TestContainment:
    PLANT = "dpc-containment"

    def test_the_port_contains_then_the_driver_loses_its_gpu(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", self.PLANT)
        client, before = dial(node, pid=77, process="copy"), len(log(node))
        assert client.dma("host", GPU1) == "lost"
        assert log(node)[before : before + 11] == [
            "pcieport 0000:80:02.0: DPC: containment event, status:0x1f01: unmasked uncorrectable error detected",
            "pcieport 0000:80:02.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Data Link Layer,"
            " (Receiver ID)",
            "pcieport 0000:80:02.0:   device [8086:2030] error status/mask=00000010/00100000",
            "pcieport 0000:80:02.0:    [ 4] DLP                    (First)",
            "nvidia 0000:82:00.0: AER: can't recover (no error_detected callback)",
            "pcieport 0000:80:02.0: Data Link Layer Link Active not set in 100 msec",
            "pcieport 0000:80:02.0: AER: subordinate device reset failed",
            "pcieport 0000:80:02.0: AER: device recovery failed",
            "NVRM: GPU at PCI:0000:82:00: GPU-4d6f6f66-0000-4000-8000-000000000082",
            "NVRM: Xid (PCI:0000:82:00): 79, pid=77, name=copy, GPU has fallen off the bus.",
            "NVRM: GPU 0000:82:00.0: GPU has fallen off the bus.",
        ]
        assert config.state(node.root, GPU1) == "lost"
        assert config.state(node.root, PORT1) == "present"
        time.sleep(0.2)
        assert errors(node.root, PORT1, "fatal") == {"DLP": 1, "TOTAL_ERR_FATAL": 1}
        assert client.state(GPU1) == "lost"
        assert client.dma("host", GPU0) == "lands"

    def test_by_chance_another_gpu_another_error_another_moment(self, boot, dial, log, tmp_path) -> None:
        seen = set()
        for seed in range(8):
            node = boot("virtual:hgx-h100", f"{self.PLANT}@{seed}", workdir=tmp_path / str(seed))
            client = dial(node)
            lost = [
                gpu.bdf
                for gpu in load("virtual:hgx-h100").nodes[0].gpus
                if "lost" in [client.dma("host", gpu.bdf) for _ in range(3)]
            ]
            assert len(lost) == 1
            (error,) = (match[1] for line in log(node) if (match := re.search(r"\] (\w+) +\(First\)", line)))
            seen.add((lost[0], error))
        assert len({gpu for gpu, _ in seen}) > 3
        assert len({error for _, error in seen}) > 1

    def test_ports_of_a_guest_contain_nothing(self) -> None:
        with pytest.raises(UsageError, match="a GPU under a port that contains errors"):
            plants.by_node(load("virtual:guest-pair"), (self.PLANT,))


def test_two_causes_on_two_gpus_both_show(boot, dial, log) -> None:
    node = boot("virtual:pcie-switch", "pcie-link-degraded", "dpc-containment", "acs-redirects-p2p")
    client = dial(node)
    assert client.transfer("host", "0000:1a:00.0")["bandwidth_GBps"] == pytest.approx(26.1 / 4)
    assert client.transfer("0000:1a:00.0", "0000:1b:00.0")["bandwidth_GBps"] == pytest.approx(26.3 * 0.82 / 4)
    assert client.dma("host", "0000:1d:00.0") == "lost"
    assert any("DPC: containment event" in line for line in log(node))
    assert any("limited by 16.0 GT/s PCIe x4 link at 0000:19:00.0" in line for line in log(node))
