"""Memory of every kind on a virtual machine: it is there, whoever owns it sees what is written, and all of it goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmaproof.node.node import Node
from dmaproof.rig.load import load
from dmaproof.virtual.power import provision

PRELUDE = """
import json, sys
from dmaproof.cuda.device import device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import fill, verify
from dmaproof.cuda.memory.host import HOST_KINDS
from dmaproof.cuda.memory.ipc import ExporterLost, from_another_process
from dmaproof.cuda.memory.owned import DEVICE_KINDS, owned
from dmaproof.errors import CudaError, Unsupported

one, other = device("0000:1b:00.0"), device("0000:43:00.0")
MIB = 1 << 20

def free():
    return [(gpu.use(), cu.cuMemGetInfo()[0])[1] for gpu in (one, other)]
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with provision(load("virtual:hgx-h100"), tmp_path / "nodes", ()) as nodes:
        yield next(iter(nodes.values()))


def start(node: Node, program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(program)]
    environment = {**os.environ, **node.env}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(node: Node, program: str) -> Any:
    with start(node, program) as process:
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def test_host_memory_is_seen_by_the_gpu_and_given_back(node: Node) -> None:
    found = said(
        node,
        """
        found, before = {}, free()
        for kind, made in HOST_KINDS.items():
            try:
                with made(one, 3 * MIB + 4096) as buffer:
                    fill(one, buffer, 5)
                    seen = verify(one, buffer, 5).wrong_words
                    words = buffer.cpu.copy(); buffer.cpu[0] ^= 1
                    found[kind] = [seen, verify(one, buffer, 5).wrong_words, int(words[0] != buffer.cpu[0])]
                    address = buffer.address
                    raise InterruptedError
            except Unsupported as error:
                found[kind] = str(error)
            except InterruptedError:
                gone = cu.cuPointerGetAttributes(1, [cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_RANGE_SIZE], address)
                found[kind].append(gone)
        print(json.dumps([found, before == free()]))
        """,
    )
    kinds, same = found
    huge = kinds.pop("hugepages")
    pageable = kinds.pop("pageable")
    assert pageable == [0, 1, 1, [0]]
    assert all(seen == [0, 1, 1, [0]] for seen in kinds.values()), kinds
    assert set(kinds) == {"pinned", "registered", "write-combined", "managed", "host-numa"}
    assert huge == [0, 1, 1, [0]] or "/proc/sys/vm/nr_hugepages" in huge
    assert same


def test_a_peer_writes_memory_of_every_kind_and_its_owner_sees_it(node: Node) -> None:
    found = said(
        node,
        """
        found, before = {}, free()
        for kind in DEVICE_KINDS:
            try:
                with owned(kind, one, [other], 3 * MIB) as held:
                    fill(other, held.buffer, 6)
                    if held.exporter is None:
                        found[kind] = verify(one, held.buffer, 6).wrong_words
                    else:
                        found[kind] = held.exporter.ask(op="verify", seed=6)["wrong_words"]
                        pid = held.exporter.process.pid
                    raise InterruptedError
            except InterruptedError:
                pass
        again = []
        for gpu, peer in ((one, other), (other, one)):  # no mapping is left behind
            gpu.use()
            try:
                cu.cuCtxDisablePeerAccess(peer.context)
            except CudaError as error:
                again.append(error.name)
        print(json.dumps([found, before == free(), again, pid]))
        """,
    )
    kinds, same, peers, pid = found
    assert kinds == {"device": 0, "pool": 0, "vmm": 0, "vmm-fd": 0, "ipc": 0}
    assert same
    assert peers == ["CUDA_ERROR_PEER_ACCESS_NOT_ENABLED"] * 2
    assert not alive(pid)


def test_an_exporter_that_is_killed_is_said_to_be_lost(node: Node) -> None:
    assert said(
        node,
        """
        import os, signal
        try:
            with from_another_process(one, [other], MIB) as (buffer, exporter):
                exporter.process.kill(); exporter.process.wait(30)
                exporter.ask(op="verify", seed=1)
        except ExporterLost as error:
            told = str(error)
        print(json.dumps([str(exporter.process.pid) in told, told]))
        """,
    )[0]


def test_an_exporter_that_cannot_work_says_why(node: Node) -> None:
    told = said(
        node,
        """
        class Missing:
            bdf = "0000:44:00.0"
            attribute = staticmethod(lambda name: 0)
        try:
            with from_another_process(Missing, [other], MIB):
                pass
        except ExporterLost as error:
            print(json.dumps(str(error)))
        """,
    )
    assert "CUDA_ERROR_INVALID_DEVICE" in told


def test_a_gpu_that_is_one_process_own_is_no_place_for_an_exporter(node: Node) -> None:
    told = said(
        node,
        """
        class Exclusive:
            bdf = one.bdf
            attribute = staticmethod(lambda name: 3 if name == "COMPUTE_MODE" else 1)
        try:
            with owned("ipc", Exclusive, [other], MIB):
                pass
        except Unsupported as error:
            print(json.dumps(str(error)))
        """,
    )
    assert "nvidia-smi -c DEFAULT" in told


def test_no_exporter_outlives_a_process_that_is_killed(node: Node) -> None:
    program = """
        import time
        with from_another_process(one, [other], MIB) as (buffer, exporter):
            print(exporter.process.pid, flush=True)
            time.sleep(600)
        """
    with start(node, program) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
    limit = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < limit, f"process {pid} is still there"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
