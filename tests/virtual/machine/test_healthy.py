from __future__ import annotations

import itertools
import time

import pytest

from dmaproof.rig.load import load, profile_ids
from dmaproof.virtual.power import provision

VIRTUAL = [word for word in profile_ids() if word.startswith("virtual:")]


@pytest.mark.parametrize("word", VIRTUAL)
def test_all_traffic_lands_at_the_declared_rate_and_nothing_is_logged(word, boot, dial, log) -> None:
    node, rig = boot(word), load(word).nodes[0]
    client, before = dial(node), log(node)
    ends = {"host": "host", **{gpu.name: gpu.bdf for gpu in rig.gpus}}
    for (source, target), engine in itertools.product(itertools.product(ends, ends), ("ce", "sm")):
        path = rig.path_between(source, target)
        if path is None or source == target == "host":
            continue
        outcome = client.transfer(ends[source], ends[target], engine=engine)
        assert outcome == {
            "effect": "lands",
            "code": "",
            "bandwidth_GBps": path.bandwidth_GBps,
            "latency_ns": path.latency_ns,
        }
        if source != "host" and target != "host":  # a read: the target's engine fetches
            assert client.dma(ends[source], ends[target], requester=ends[target], engine=engine) == "lands"
    assert {client.state(gpu.bdf) for gpu in rig.gpus} == {"present"}
    client.close()
    assert log(node) == before


@pytest.mark.parametrize("word", VIRTUAL)
def test_page_faults_are_served_and_counted(word, boot, dial, log) -> None:
    node, rig = boot(word), load(word).nodes[0]
    client, before, gpu = dial(node), log(node), rig.gpus[-1]
    stats = node.root / f"proc/driver/nvidia-uvm/gpus/{gpu.uuid}/fault_stats"
    assert "replayable_faults      0\n" in stats.read_text()
    path = rig.path_between("host", gpu.name)
    served = client.fault(gpu.bdf, space="managed", nbytes=1 << 20)
    assert served == {
        "effect": "served",
        "code": "",
        "duration_ns": pytest.approx(path.latency_ns + (1 << 20) / path.bandwidth_GBps),
    }
    assert client.fault(gpu.bdf, space="managed", access="read", toward="host")["effect"] == "served"
    assert client.fault(gpu.bdf, space="managed", access="prefetch")["effect"] == "served"
    time.sleep(0.2)  # counters are written 20 times a second
    text = stats.read_text()
    assert "replayable_faults      2\nduplicates             0\n" in text
    assert (
        "  prefetch             0\n  read                 1\n  write                1\n  atomic               0\n"
        in text
    )
    assert "  num_pages_in         256 (1 MB)\n  num_pages_out        0 (0 MB)\n" in text
    client.close()
    assert log(node) == before


def test_malloc_memory_is_reached_by_ats_and_hmm_and_by_nothing_else(boot, dial, log, tmp_path) -> None:
    for word in ("virtual:gh200", "virtual:hgx-h100"):
        node, gpu = boot(word, workdir=tmp_path / word), load(word).nodes[0].gpus[0].bdf
        assert dial(node).fault(gpu)["effect"] == "served"
    node = boot("virtual:pcie-pair")
    client = dial(node, pid=77, process="reader")
    assert client.fault("0000:04:00.0", va=0x2B57_B300_0000, access="read")["effect"] == "fatal"
    assert log(node)[-1] == (
        "NVRM: Xid (PCI:0000:04:00): 31, pid=77, name=reader, Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS"
        " GPC0 GPCCLIENT_T1_0 faulted @ 0x2b57_b3000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ"
    )


def test_requests_that_make_no_sense_are_told_so(boot, dial) -> None:
    node = boot("virtual:pcie-pair")
    wrong = [
        "text",
        {"op": "dance"},
        {"op": "dma"},
        {"op": "inquiry", "gpu": "0000:ff:00.0"},
        {"op": "hello", "pid": 1, "process": "x", "more": 1},
    ]
    for request in wrong:
        assert "error" in dial(node).ask(request)
    with pytest.raises((AssertionError, ConnectionError)):  # a line too long to be a request ends the connection
        dial(node).ask("x" * (1 << 18))
    assert dial(node).state("0000:04:00.0") == "present"


def test_two_runs_do_not_share_a_root(boot, tmp_path) -> None:
    boot("virtual:gh200")
    with (
        pytest.raises(Exception, match="exists: another run uses it") as refusal,
        provision(load("virtual:gh200"), tmp_path / "nodes", ()),
    ):
        pass
    assert type(refusal.value).__name__ == "UsageError"
