"""Work that ends in an error of the GPU's, is never served, or never comes back from the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dmaproof.virtual.wire import ROOT_VARIABLE
from tests.virtual.driver.thread_machine import PRELUDE, Machine, Request, transfers

CODES = [
    ("ECC_UNCORRECTABLE", 214),
    ("NVLINK_UNCORRECTABLE", 220),
    ("CONTAINED", 226),
    ("ILLEGAL_ADDRESS", 700),
    ("LAUNCH_FAILED", 719),
    ("UNKNOWN", 999),
]
STUCK = """
import threading
def tell():
    time.sleep(0.3)
    print("stuck", flush=True)
ok(cu.cuInit(0)); use(0)
gpu = ok(cu.cuMemAlloc(4096))
threading.Thread(target=tell).start()
cu.cuMemsetD8(gpu, 1, 4096)
print("came back", flush=True)
"""


@pytest.mark.parametrize(("name", "number"), CODES)
@pytest.mark.parametrize("op", ["dma", "fault"])
def test_an_error_ends_the_context_with_its_own_code(pair: Machine, op: str, name: str, number: int) -> None:
    pair.rules.append(lambda request: {"effect": "failed", "code": name} if request["op"] == op else None)
    program = """
    ok(cu.cuInit(0)); use(0); module = kernels("sm_86")
    memory = ok(cu.cuMemAllocManaged(4096, 1))
    launch(module, "dmaproof_fill", 0, memory, 1024, 1)
    codes = [cu.cuCtxSynchronize()[0], cu.cuMemAlloc(1)[0]]
    name = ok(cu.cuGetErrorName(codes[0]))
    use(1); codes.append(cu.cuMemAlloc(1)[0])
    print(json.dumps([name.decode(), *map(int, codes)]))
    """
    assert pair.out(program) == [f"CUDA_ERROR_{name}", number, number, 0]


def test_a_gpu_that_refuses_contexts_says_why(pair: Machine) -> None:
    def rule(request: Request) -> dict[str, str] | None:
        return {"state": "failed", "code": "ECC_UNCORRECTABLE"} if request.get("context") else None

    pair.rules.append(rule)
    program = "ok(cu.cuInit(0)); print(json.dumps(int(cu.cuDevicePrimaryCtxRetain(ok(cu.cuDeviceGet(0)))[0])))"
    assert pair.out(program) == 214


def test_a_fault_that_nobody_serves_never_completes(pair: Machine) -> None:
    pair.rules.append(lambda request: {"effect": "unserved"} if request["op"] == "fault" else None)
    program = """
    ok(cu.cuInit(0)); use(0); module = kernels("sm_86"); stream = ok(cu.cuStreamCreate(1))
    ok(launch(module, "dmaproof_fill", stream, ok(cu.cuMemAllocManaged(4096, 1)), 1024, 1))
    time.sleep(0.2); print(json.dumps(int(cu.cuStreamQuery(stream)[0])))
    """
    assert pair.out(program) == 600


@contextmanager
def stuck(machine: Machine) -> Iterator[subprocess.Popen[str]]:
    """A process whose main thread is in a call that does not return, while another one has printed."""
    machine.rules.append(transfers("stuck"))
    environment = {**os.environ, ROOT_VARIABLE: str(machine.root), "LD_LIBRARY_PATH": str(machine.root / "lib")}
    command = [sys.executable, "-c", PRELUDE + STUCK]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stuck\n"  # the interpreter's lock is free
            yield process
        finally:
            process.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return state(pid) not in "ZX"
    except OSError:
        return False


def test_a_stuck_call_waits_in_state_d_and_outlives_all_signals_but_one(pair: Machine) -> None:
    with stuck(pair) as process:
        assert state(process.pid) == "D"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.4)
        assert state(process.pid) == "D"
        process.kill()
        assert process.wait(5) == -signal.SIGKILL


def test_a_stuck_call_leaves_no_process_behind(pair: Machine) -> None:
    with stuck(pair) as process:
        (held,) = children(process.pid)
        assert alive(held)
        process.kill()
        process.wait(5)
        end = time.monotonic() + 5
        while alive(held) and time.monotonic() < end:
            time.sleep(0.01)
        assert not alive(held)


OUT_OF_BOUNDS = """
ok(cu.cuInit(0)); use(0); module = kernels("sm_86"); gpu = ok(cu.cuMemAlloc(4096))
launch(module, "dmaproof_fill", 0, {address}, {nwords}, 1)
print(json.dumps([int(cu.cuCtxSynchronize()[0]), int(gpu)]))
"""


@pytest.mark.parametrize(
    ("address", "nwords", "offset"), [("int(gpu)", 1025, 4096), ("int(gpu) + (1 << 30)", 1, 1 << 30), ("16", 1, None)]
)
def test_the_machine_hears_of_an_address_where_there_is_nothing(pair: Machine, address, nwords, offset) -> None:
    code, gpu = pair.out(OUT_OF_BOUNDS.format(address=address, nwords=nwords))
    (fault,) = pair.asked("fault")
    assert code == 700
    assert (fault["space"], fault["access"]) == ("unmapped", "write")
    assert fault["va"] == (16 if offset is None else gpu + offset)


@pytest.mark.parametrize(("flags", "mapping"), [("mmap.MAP_PRIVATE", "private"), ("mmap.MAP_SHARED", "shared")])
def test_the_machine_hears_what_kind_of_mapping_is_touched(hgx: Machine, flags: str, mapping: str) -> None:
    hgx.out(
        f"""
        import mmap
        ok(cu.cuInit(0)); use(0); module = kernels("sm_90")
        memory = mmap.mmap(-1, 4096, {flags} | mmap.MAP_ANONYMOUS)
        words = np.frombuffer(memory, np.uint32)
        ok(launch(module, "dmaproof_fill", 0, words.ctypes.data, 1024, 1)); ok(cu.cuCtxSynchronize())
        print(json.dumps(0))
        """
    )
    assert [fault["mapping"] for fault in hgx.asked("fault")] == [mapping]
