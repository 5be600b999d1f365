"""What the machine says of a transfer is what the program sees of it."""

from __future__ import annotations

import subprocess

import pytest

from tests.virtual.driver.thread_machine import Answer, Machine, Request, transfers

GPU0, GPU1 = "0000:04:00.0", "0000:82:00.0"

PEERS = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]
for one, other in ((0, 1), (1, 0)):
    use(one); ok(cu.cuCtxEnablePeerAccess(contexts[other], 0))
n = 3 << 20
owned = ok(cu.cuMemAlloc(n)); ok(cu.cuMemsetD8(owned, 0x11, n))
use(0); own = ok(cu.cuMemAlloc(n)); ok(cu.cuMemsetD8(own, 0x77, n)); module = kernels("sm_86")

def seen(ordinal, va):
    use(ordinal)
    back = np.empty(n, np.uint8)
    ok(cu.cuMemcpyDtoH(back.ctypes.data, va, n))
    return sorted(set(back.tolist()))

def put(engine):
    use(0)
    if engine == "ce":
        ok(cu.cuMemcpyPeer(owned, contexts[1], own, contexts[0], n))
    else:
        ok(launch(module, "dmaproof_copy", 0, owned, own, n // 16)); ok(cu.cuCtxSynchronize())

def get():
    use(0)
    scratch = ok(cu.cuMemAlloc(n)); ok(cu.cuMemsetD8(scratch, 0x33, n))
    ok(cu.cuMemcpyPeer(scratch, contexts[0], owned, contexts[1], n))
    return seen(0, scratch)
"""


@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_lands(pair: Machine, engine: str) -> None:
    assert pair.out(f"{PEERS}\nput({engine!r}); print(json.dumps([seen(1, owned), get()]))") == [[0x77], [0x77]]


@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_dropped_writes_complete_and_change_nothing(pair: Machine, engine: str) -> None:
    pair.rules.append(transfers("dropped", requester=GPU0, source=GPU0, target=GPU1))
    assert pair.out(f"{PEERS}\nput({engine!r}); print(json.dumps(seen(1, owned)))") == [0x11]


def test_a_dropped_read_leaves_the_target_as_it_was(pair: Machine) -> None:
    pair.rules.append(transfers("dropped", source=GPU1, target=GPU0))
    assert pair.out(f"{PEERS}\nprint(json.dumps(get()))") == [0x33]


@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_mirrored_writes_are_seen_by_the_writer_only(pair: Machine, engine: str) -> None:
    pair.rules.append(transfers("mirrored", requester=GPU0, source=GPU0, target=GPU1))
    assert pair.out(f"{PEERS}\nput({engine!r}); print(json.dumps([seen(1, owned), get()]))") == [[0x11], [0x77]]


def test_staged_copies_arrive_only_if_both_halves_do(pair: Machine) -> None:
    pair.rules.append(transfers("dropped", source="host", target=GPU1, nbytes=4096))
    program = """
    ok(cu.cuInit(0)); contexts = [use(0), use(1)]
    a = ok(cu.cuMemAlloc(4096)); ok(cu.cuMemsetD8(a, 1, 4096)); use(0); b = ok(cu.cuMemAlloc(4096))
    ok(cu.cuMemcpyPeer(a, contexts[1], b, contexts[0], 4096))
    back = np.empty(4096, np.uint8); ok(cu.cuMemcpyDtoH(back.ctypes.data, a, 4096))
    print(json.dumps(sorted(set(back.tolist()))))
    """
    assert pair.out(program) == [1]


NEVER = """
ok(cu.cuInit(0)); use(0); stream = ok(cu.cuStreamCreate(1)); other = ok(cu.cuStreamCreate(1))
host, gpu, event = ok(cu.cuMemHostAlloc(4096, 3)), ok(cu.cuMemAlloc(4096)), ok(cu.cuEventCreate(0))
ok(cu.cuMemcpyHtoDAsync(gpu, host, 4096, stream))
ok(cu.cuEventRecord(event, stream))
ok(cu.cuStreamWaitEvent(other, event, 0))
queries = [int(cu.cuStreamQuery(one)[0]) for one in (stream, other)] + [int(cu.cuEventQuery(event)[0])]
"""


def test_never_leaves_the_stream_and_all_that_waits_for_it_unfinished(pair: Machine) -> None:
    pair.rules.append(transfers("never"))
    assert pair.out(f"{NEVER}\ntime.sleep(0.2); print(json.dumps(queries))") == [600, 600, 600]


@pytest.mark.parametrize("call", ["cuStreamSynchronize(other)", "cuEventSynchronize(event)", "cuCtxSynchronize()"])
def test_waiting_for_what_never_completes_blocks_but_lets_other_threads_run(pair: Machine, call: str) -> None:
    pair.rules.append(transfers("never"))
    program = f"""
import threading, os
def leave():
    time.sleep(0.5)
    print("other thread ran", flush=True)
    os._exit(7)
{NEVER}
threading.Thread(target=leave).start()
cu.{call}
print("came back")
"""
    done = pair.run(program)
    assert (done.returncode, done.stdout) == (7, "other thread ran\n")


def test_never_cannot_be_left_by_the_program(pair: Machine) -> None:
    pair.rules.append(transfers("never"))
    with pytest.raises(subprocess.TimeoutExpired):
        pair.run(f"{NEVER}\ncu.cuStreamSynchronize(stream)", timeout_s=2)


def test_lost_kills_the_context_for_good(pair: Machine) -> None:
    pair.rules.append(transfers("lost", requester=GPU0))
    program = """
    ok(cu.cuInit(0)); contexts = [use(0), use(1)]; use(0)
    host, gpu = ok(cu.cuMemHostAlloc(4096, 3)), ok(cu.cuMemAlloc(4096))
    codes = [cu.cuMemcpyHtoD(gpu, host, 4096), cu.cuMemAlloc(4096), cu.cuCtxSynchronize()]
    codes.append(cu.cuMemcpyDtoH(host, gpu, 1))
    use(1); codes.append(cu.cuMemAlloc(4096))
    print(json.dumps([int(code[0]) for code in codes]))
    """
    assert pair.out(program) == [999, 999, 999, 999, 0]


def test_a_gpu_that_is_gone_gets_no_context(pair: Machine) -> None:
    def rule(request: Request) -> Answer | None:
        return {"state": "lost"} if request["op"] == "inquiry" and request["gpu"] == GPU1 else None

    pair.rules.append(rule)
    program = """
    ok(cu.cuInit(0))
    print(json.dumps([int(cu.cuDevicePrimaryCtxRetain(ok(cu.cuDeviceGet(n)))[0]) for n in (0, 1)]))
    """
    assert pair.out(program) == [0, 999]


@pytest.mark.parametrize(("effect", "code"), [("fatal", 700), ("lost", 999)])
def test_page_faults_that_end_the_channel(pair: Machine, effect: str, code: int) -> None:
    pair.rules.append(lambda request: {"effect": effect} if request["op"] == "fault" else None)
    program = """
    ok(cu.cuInit(0)); use(0); module = kernels("sm_86"); memory = ok(cu.cuMemAllocManaged(1 << 20, 1))
    launched = launch(module, "dmaproof_fill", 0, memory, 1 << 18, 1)
    print(json.dumps([int(launched[0]), int(cu.cuCtxSynchronize()[0]), int(cu.cuMemAlloc(1)[0])]))
    """
    assert pair.out(program) == [0, code, code]


def test_a_page_fault_that_is_replayed_without_end_never_completes(pair: Machine) -> None:
    pair.rules.append(lambda request: {"effect": "replaying"} if request["op"] == "fault" else None)
    program = """
    ok(cu.cuInit(0)); use(0); module = kernels("sm_86"); memory = ok(cu.cuMemAllocManaged(1 << 20, 1))
    stream = ok(cu.cuStreamCreate(1))
    ok(launch(module, "dmaproof_fill", stream, memory, 1 << 18, 1))
    time.sleep(0.2)
    print(json.dumps(int(cu.cuStreamQuery(stream)[0])))
    """
    assert pair.out(program) == 600
    assert len(pair.asked("fault")) == 1


def test_a_request_that_the_machine_refuses_is_an_error_that_says_so(pair: Machine) -> None:
    pair.rules.append(lambda request: {"error": "no such engine"} if request["op"] == "dma" else None)
    done = pair.run(
        """
        ok(cu.cuInit(0)); use(0)
        print(int(cu.cuMemsetD8(ok(cu.cuMemAlloc(4096)), 1, 4096)[0]))
        """
    )
    assert "no such engine" in done.stderr
    assert done.stdout == "999\n"
