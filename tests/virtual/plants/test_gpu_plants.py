"""Plants of the GPUs, met as a test meets them: by what becomes of its work, and by what the machine then shows."""

from __future__ import annotations

import re
import time

import pytest

from dmaproof.errors import UsageError
from dmaproof.evidence import uvm
from dmaproof.evidence.decode import decode_whole
from dmaproof.node.node import Node
from dmaproof.rig.load import load
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.power import provision

GPU0, GPU1 = "0000:04:00.0", "0000:82:00.0"
FIRST, LAST = "0000:1b:00.0", "0000:df:00.0"
LARGE = 1 << 20


def spins(seed: int) -> bool:
    """Whether the seed has the thread spin: the GPU is chosen first."""
    chance = Chance(seed)
    chance.pick((GPU0, GPU1), GPU1)
    return chance.pick("DR", "D") == "R"


def stat(node: Node, number: int) -> list[str]:
    """The fields of a kernel thread's stat, from its state on."""
    return (node.root / f"proc/{900 + number}/stat").read_text().rpartition(") ")[2].split()


def xids(lines: list[str]) -> list[int]:
    return [int(number) for number in re.findall(r"Xid \(.*?\): (\d+)", "\n".join(lines))]


@pytest.mark.parametrize(
    ("rig", "plant", "reason"),
    [
        ("virtual:hgx-h100", "ats-setup-failed", "addressing = 'ats'; host has 'hmm'"),
        ("virtual:gh200", "hmm-shared-atomics", "addressing = 'hmm'; host has 'ats'"),
        ("virtual:pcie-pair", "nvlink-fatal", "kind = 'nvlink'; host has none"),
        ("virtual:gh200", "nvlink-degraded", "nvlinks = 2 or more"),
    ],
)
def test_a_plant_that_makes_no_sense_is_refused_with_the_reason(rig, plant, reason, tmp_path) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)), provision(load(rig), tmp_path, (plant,)):
        pass


def test_rows_are_remapped_since_ampere_only(tmp_path) -> None:
    rig = load("virtual:pcie-pair")
    old = {name: gpu.model_copy(update={"compute_capability": "7.5"}) for name, gpu in rig.nodes[0].gpu.items()}
    node = rig.nodes[0].model_copy(update={"gpu": old})
    with (
        pytest.raises(UsageError, match=r"compute_capability 8\.0"),
        provision(rig.model_copy(update={"node": {"host": node}}), tmp_path, ("row-remap-pending",)),
    ):
        pass


SICKEN_ONE = (
    *("ecc-uncorrectable", "ecc-contained", "gsp-timeout", "driver-stuck", "uvm-thrashing"),
    *("application-fault", "bystander", "kernel-crash"),
)


@pytest.mark.parametrize("plant", SICKEN_ONE)
def test_a_seed_chooses_the_gpu_and_every_other_one_works(plant, boot, dial, tmp_path) -> None:
    chosen = set()
    for seed in range(4):
        node = boot("virtual:hgx-h100", f"{plant}@{seed}", workdir=tmp_path / str(seed))
        sick = []
        for gpu in (one.bdf for one in load("virtual:hgx-h100").nodes[0].gpus):
            client = dial(node)
            ends = [client.dma(gpu, gpu, engine="sm", nbytes=LARGE) for _ in range(4)]
            ends.append(client.fault(gpu, space="managed", nbytes=LARGE)["effect"])
            sick += [gpu] if set(ends) - {"lands", "served"} else []
            client.close()
        assert len(sick) == 1
        chosen |= set(sick)
    assert len(chosen) > 1


class TestUvm:
    def test_threads_that_serve_faults_sleep_on_a_healthy_machine(self, boot, dial) -> None:
        node = boot("virtual:pcie-pair")
        assert dial(node).fault(GPU1, space="managed")["effect"] == "served"
        for number in (0, 1):
            folder = node.root / f"proc/{900 + number}"
            assert (folder / "comm").read_text() == f"UVM GPU{number + 1} BH\n"
            assert (folder / "stat").read_text().startswith(f"{900 + number} (UVM GPU{number + 1} BH) S 2 ")
            assert len(stat(node, number)) == 50  # 52 with the two before: proc_pid_stat(5)
            assert f"Pid:\t{900 + number}\n" in (folder / "status").read_text()
            assert (folder / "wchan").read_text() == "_main_loop"
            assert "[<0>] _main_loop+" in (folder / "stack").read_text()

    def test_thrashing_moves_pages_both_ways_for_ever(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "uvm-thrashing")
        client, before = dial(node), log(node)
        assert client.fault(GPU1, space="managed", nbytes=8192)["effect"] == "replaying"
        first = uvm.read(node.root)
        time.sleep(0.5)
        (steps,) = [one for one in uvm.as_evidence("host", first, uvm.read(node.root)) if one.data["faults"]]
        assert steps.data["pages_in"] > 100
        assert steps.data["pages_out"] == steps.data["pages_in"] == 2 * steps.data["faults"]
        assert not steps.data["climbing"]
        assert client.fault(GPU1, space="managed", access="prefetch")["effect"] == "served"
        client.close()
        assert log(node) == before

    def test_a_thread_that_sleeps_on_a_lock_serves_nothing_and_the_kernel_complains(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "uvm-service-stuck")
        client = dial(node)
        assert stat(node, 1)[0] == "S"
        assert client.fault(GPU1, space="managed")["effect"] == "unserved"
        before = uvm.read(node.root)
        assert stat(node, 1)[0] == "D"
        assert stat(node, 0)[0] == "S"
        assert (node.root / "proc/901/wchan").read_text() == "rwsem_down_read_slowpath"
        assert "State:\tD (disk sleep)" in (node.root / "proc/901/status").read_text()
        time.sleep(1.3)
        assert uvm.read(node.root) == before
        assert "INFO: task UVM GPU2 BH:901 blocked for more than 1 seconds." in log(node)
        assert client.fault(GPU0, space="managed")["effect"] == "served"

    def test_or_it_spins_on_a_cpu(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", f"uvm-service-stuck@{next(filter(spins, range(99)))}")
        for gpu in (GPU0, GPU1):
            dial(node).fault(gpu, space="managed")
        time.sleep(0.2)  # files are written 20 times a second
        number = next(number for number in (0, 1) if stat(node, number)[0] == "R")
        first, at = int(stat(node, number)[12]), time.monotonic()
        time.sleep(0.6)
        ran_s = (int(stat(node, number)[12]) - first) / 100
        assert ran_s == pytest.approx(time.monotonic() - at, abs=0.15)
        time.sleep(0.6)
        assert not any("blocked for more than" in line for line in log(node))


class TestDriverStuck:
    def test_calls_do_not_return_and_the_kernel_reports_the_thread(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "driver-stuck")
        client = dial(node, pid=31337, process="uvm-test")
        assert (node.root / "proc/sys/kernel/hung_task_timeout_secs").read_text() == "1\n"
        assert client.state(GPU1) == "present"
        assert client.dma("host", GPU0) == "lands"
        assert client.dma("host", GPU1) == client.fault(GPU1, space="managed")["effect"] == "stuck"
        before = len(log(node))
        time.sleep(2.4)
        said = log(node)[before:]
        assert said[0] == "INFO: task uvm-test:31337 blocked for more than 1 seconds."
        assert said[2] == '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.'
        assert said[3].startswith("task:uvm-test        state:D stack:0     pid:31337 tgid:31337 ")
        assert any("[nvidia]" in line for line in said)
        assert [line for line in said if "blocked for more" in line][1].endswith("more than 2 seconds.")
        client.close()
        ended = len(log(node))
        time.sleep(1.2)
        assert len(log(node)) == ended


class TestKernelCrash:
    @pytest.mark.parametrize("rig", ["virtual:pcie-pair", "virtual:smmu-pair"])
    def test_a_thread_dies_in_the_driver_and_the_kernel_says_where(self, boot, dial, log, rig) -> None:
        node = boot(rig, "kernel-crash")
        usual = [gpu.bdf for gpu in load(rig).nodes[0].gpus][-1]
        client, before = dial(node, pid=31337, process="uvm-test"), len(log(node))
        assert client.dma("host", usual) == client.fault(usual, space="managed")["effect"] == "killed"
        first, second = decode_whole(["\n".join(log(node)[before:]).encode()]).events
        assert first.event == second.event == "null-dereference"
        assert (first.pid, first.process, first.va, first.driver) == (31337, "uvm-test", 0x58, "nvidia")
        assert ("[#1]" in first.text, "[#2]" in second.text) == (True, True)


class TestFirmware:
    def test_a_silent_gsp_is_told_once_and_refuses_from_then_on(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "gsp-timeout")
        client, before = dial(node, pid=77, process="train"), len(log(node))
        asked = client.ask({"op": "inquiry", "gpu": GPU1, "context": True})
        assert asked == {"state": "failed", "code": "UNKNOWN"}
        said = log(node)[before:]
        assert xids(said) == [119, 154]
        told = "119, pid=77, name=train, Timeout after 6s of waiting for RPC response from GPU1 GSP!"
        assert any(told in line for line in said)
        assert client.transfer("host", GPU1)["code"] == "UNKNOWN"
        assert client.ask({"op": "inquiry", "gpu": GPU1}) == {"state": "present", "code": ""}  # it is on the bus
        assert client.dma("host", GPU0) == "lands"
        assert log(node)[before:] == said


class TestMemory:
    def test_an_uncontained_error_ends_every_process_and_the_gpu_until_a_reset(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "ecc-uncorrectable")
        victim, finder = dial(node, pid=11, process="victim"), dial(node, pid=22, process="finder")
        victim.ask({"op": "inquiry", "gpu": GPU1, "context": True})
        before = len(log(node))
        assert finder.transfer("host", GPU1)["code"] == "ECC_UNCORRECTABLE"
        said = log(node)[before:]
        assert xids(said) == [48, 63, 95, 45, 45, 154]
        assert "(DBE) has been detected on GPU in the framebuffer at physAddr 0x5f2a4c20" in said[1]
        assert said[2].endswith(
            "Row Remapper: New row (0x000000005f2a4c20) marked for remapping, reset gpu to activate."
        )
        assert said[3].endswith("Uncontained: FBHUB. RST: Yes, D-RST: No")
        assert "pid=11, name=victim" in said[4]
        assert said[4].endswith("caused by previous Xid 95")
        assert dial(node).ask({"op": "inquiry", "gpu": GPU1, "context": True})["code"] == "ECC_UNCORRECTABLE"
        assert victim.transfer(GPU0, GPU1)["code"] == "ECC_UNCORRECTABLE"  # a peer's access meets it too
        assert victim.dma(GPU0, "host") == "lands"
        assert log(node)[before:] == said

    def test_a_contained_error_ends_one_process_and_is_gone(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "ecc-contained")
        client, before = dial(node, pid=5, process="reader"), len(log(node))
        assert client.transfer("host", GPU1) == {
            "effect": "failed", "code": "CONTAINED", "bandwidth_GBps": 0.0, "latency_ns": 0.0
        }  # fmt: skip
        assert log(node)[before + 1 :] == [
            "NVRM: Xid (PCI:0000:82:00): 94, pid=5, name=reader, Contained: SM (0x1). RST: No, D-RST: No"
        ]
        assert dial(node).dma("host", GPU1) == client.dma(GPU1, GPU1) == "lands"

    def test_what_was_before_the_run_is_in_the_log_of_the_boot(self, boot, dial, log, tmp_path) -> None:
        for plant, number in (("row-remap-pending", 63), ("gpu-recovery-required", 154)):
            node = boot("virtual:pcie-pair", plant, workdir=tmp_path / plant)
            assert xids(log(node)) == [number]
            assert dial(node).dma("host", GPU1) == dial(node).dma(GPU0, GPU1) == "lands"


class TestNvlink:
    def test_a_fatal_error_cuts_the_gpu_off_its_peers_only(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100", "nvlink-fatal")
        client, before = dial(node, pid=9, process="nccl"), len(log(node))
        assert client.dma("host", LAST) == client.dma(LAST, LAST) == "lands"
        assert log(node)[before:] == []
        assert client.transfer(FIRST, LAST)["code"] == "NVLINK_UNCORRECTABLE"
        assert client.transfer(LAST, FIRST)["code"] == "NVLINK_UNCORRECTABLE"
        said = log(node)[before:]
        assert xids(said) == [74, 45, 154]
        assert "74, NVLink: fatal error detected on link 17(0x0, 0x0, 0x10000" in said[1]
        assert said[2].endswith("pid=9, name=nccl, Ch 00000008 caused by previous Xid 74")
        assert client.dma("host", LAST) == client.dma(FIRST, "0000:d1:00.0") == "lands"

    def test_newer_gpus_say_it_with_another_xid(self, boot, dial, log) -> None:
        rig = load("virtual:hgx-h100")
        new = {name: gpu.model_copy(update={"compute_capability": "10.0"}) for name, gpu in rig.nodes[0].gpu.items()}
        host = rig.nodes[0].model_copy(update={"gpu": new})
        node = boot(rig.model_copy(update={"node": {"host": host}}), "nvlink-fatal")
        assert dial(node).dma(FIRST, LAST) == "failed"
        assert any("149, NETIR_LINK_EVT Fatal XC0 i0 Link 17 (0x" in line for line in log(node))

    def test_links_that_are_down_cost_their_share_of_the_rate(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100", "nvlink-degraded")
        client = dial(node)
        assert xids(log(node)) == [145] * 9
        assert client.transfer(FIRST, LAST)["bandwidth_GBps"] == client.transfer(LAST, FIRST)["bandwidth_GBps"] == 198.5
        assert client.transfer(FIRST, "0000:d1:00.0")["bandwidth_GBps"] == 397.0
        assert client.transfer("host", LAST)["bandwidth_GBps"] == 55.4


class TestPrograms:
    def test_large_kernels_follow_a_wild_index(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "application-fault")
        client, before = dial(node, pid=41, process="simulate"), len(log(node))
        assert client.dma(GPU1, GPU1, engine="sm", nbytes=4096) == client.dma(GPU1, GPU1, nbytes=LARGE) == "lands"
        assert client.fault(GPU1, space="managed", access="prefetch", nbytes=LARGE)["effect"] == "served"
        assert client.transfer(GPU1, GPU1, engine="sm", nbytes=LARGE)["code"] == "ILLEGAL_ADDRESS"
        assert client.fault(GPU1, space="managed", nbytes=LARGE, access="read")["code"] == "ILLEGAL_ADDRESS"
        said = log(node)[before + 1 :]
        assert xids(said) == [31, 31]
        assert "pid=41, name=simulate" in said[0]
        assert "faulted @ 0x1a2b_c3d4e000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ" in said[1]

    def test_a_neighbour_takes_along_what_is_at_work(self, boot, dial, log) -> None:
        node = boot("virtual:pcie-pair", "bystander")
        client, before = dial(node, pid=41, process="simulate"), len(log(node))
        assert client.dma(GPU1, GPU1, engine="sm", nbytes=4096) == "lands"
        assert client.transfer("host", GPU1, nbytes=LARGE)["code"] == "LAUNCH_FAILED"
        said = log(node)[before + 1 :]
        assert xids(said) == [13, 45]
        assert "13, pid=23417, name=inference.py, Graphics SM Warp Exception" in said[0]
        assert said[1].endswith("45, pid=41, name=simulate, Ch 00000008 caused by previous Xid 13")
        assert client.dma("host", GPU1, nbytes=4096) == "lands"

    def test_atomics_on_a_shared_heap_are_a_fatal_fault_under_hmm(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100", "hmm-shared-atomics")
        client = dial(node)
        assert client.fault(LAST, access="write")["effect"] == "served"
        assert client.fault(LAST, space="managed", access="atomic")["effect"] == "served"
        assert client.fault(LAST, access="atomic", va=0x7F2B_5000_1000)["effect"] == "fatal"
        assert log(node)[-1].endswith("faulted @ 0x7f2b_50001000. Fault is of type FAULT_PTE ACCESS_TYPE_VIRT_ATOMIC")

    @pytest.mark.parametrize(
        ("rig", "mapping", "effect"),
        [
            ("virtual:hgx-h100", "private", "served"),
            ("virtual:hgx-h100", "shared", "fatal"),
            ("virtual:gh200", "shared", "served"),
        ],
    )
    def test_on_a_healthy_machine_it_is_the_mapping_that_counts(self, rig, mapping, effect, boot, dial) -> None:
        gpu = load(rig).nodes[0].gpus[0].bdf
        assert dial(boot(rig)).fault(gpu, access="atomic", mapping=mapping)["effect"] == effect

    def test_an_address_with_nothing_is_xid_31_everywhere(self, boot, dial, log) -> None:
        node = boot("virtual:hgx-h100")
        assert dial(node).fault(LAST, space="unmapped", access="read", va=0xDEAD_0000)["effect"] == "fatal"
        assert log(node)[-1].endswith("faulted @ 0x0_dead0000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ")


@pytest.mark.parametrize(("plant", "mode"), [("ats-setup-failed", "hmm"), ("ats-setup-failed@1", "none")])
def test_without_sva_the_driver_goes_on_without_ats(plant, mode, boot, dial, log) -> None:
    node = boot("virtual:gh200", plant)
    client = dial(node)
    assert "NVRM: GPU 0009:01:00.0: Enabling SMMU SVA feature failed! ret: -19" in log(node)
    assert f'"addressing":"{mode}"' in client.welcome["node"]
    assert client.fault("0009:01:00.0")["effect"] == ("served" if mode == "hmm" else "fatal")
