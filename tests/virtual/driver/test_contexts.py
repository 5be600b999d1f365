"""Contexts that programs make and destroy, and what becomes of memory that others have mapped."""

from __future__ import annotations

from tests.virtual.driver.thread_machine import Machine

START = """
import threading
ok(cu.cuInit(0)); contexts = [use(0), use(1)]; use(0); module = kernels("sm_90")
def code(answer): return int(answer[0])
def made(ordinal, flags=0): return ok(cu.cuCtxCreate(None, flags, ok(cu.cuDeviceGet(ordinal))))
def current(): return int(ok(cu.cuCtxGetCurrent()))
def fill(va): return [code(launch(module, "dmaproof_fill", 0, va, 16, 1)), code(cu.cuCtxSynchronize())]
"""


def test_a_context_that_is_made_is_current_until_it_is_destroyed(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
own = made(1); seen = [current() == int(own)]
memory, stream = ok(cu.cuMemAlloc(1 << 20)), ok(cu.cuStreamCreate(0)); ok(cu.cuMemsetD8(memory, 1, 16))
free = ok(cu.cuMemGetInfo())[0]; ok(cu.cuCtxDestroy(own))
seen += [current() == int(contexts[0]), code(cu.cuCtxSetCurrent(own)), code(cu.cuStreamSynchronize(stream))]
use(1); seen += [ok(cu.cuMemGetInfo())[0] - free, code(cu.cuMemsetD8(memory, 1, 16))]
seen.append(code(cu.cuCtxDestroy(contexts[1])))
print(json.dumps(seen))
"""
    ) == [True, True, 201, 400, 1 << 20, 1, 201]


def test_what_is_destroyed_stays_current_elsewhere_and_says_so(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
own, codes, ready, go = made(0), [], threading.Event(), threading.Event()
def other():
    ok(cu.cuCtxSetCurrent(own)); ready.set(); go.wait(); codes.append(code(cu.cuMemAlloc(16)))
thread = threading.Thread(target=other); thread.start(); ready.wait(); ok(cu.cuCtxDestroy(own)); go.set()
thread.join(); use(1); ok(cu.cuDevicePrimaryCtxReset(ok(cu.cuDeviceGet(1))))
codes += [code(cu.cuMemAlloc(16)), code(cu.cuCtxSynchronize())]
use(1); codes.append(code(cu.cuMemAlloc(16)))
print(json.dumps(codes))
"""
    ) == [709, 709, 709, 0]


def test_peer_access_is_between_contexts(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
own = made(1); memory = ok(cu.cuMemAlloc(4096)); use(0)
codes = [code(cu.cuCtxEnablePeerAccess(contexts[1], 0)), code(cu.cuCtxEnablePeerAccess(own, 0))]
codes += [code(cu.cuCtxEnablePeerAccess(own, 0)), *fill(memory)]
codes += [code(cu.cuCtxDisablePeerAccess(own)), code(cu.cuCtxDisablePeerAccess(own)), *fill(memory)]
print(json.dumps(codes))
"""
    ) == [0, 0, 704, 0, 0, 0, 705, 0, 700]


def test_memory_goes_with_its_context_and_whoever_had_it_mapped_faults(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
own = made(1); memory = ok(cu.cuMemAlloc(4096)); use(0); ok(cu.cuCtxEnablePeerAccess(own, 0)); before = fill(memory)
ok(cu.cuCtxDestroy(own)); print(json.dumps([before, fill(memory), code(cu.cuMemAlloc(16))]))
"""
    ) == [[0, 0], [0, 700], 700]
    assert [one["space"] for one in hgx.asked("fault")] == ["unmapped"]


def test_a_kernel_that_waits_at_memory_which_goes_is_ended(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
own = made(1); memory = ok(cu.cuMemAlloc(4096)); ok(cu.cuMemsetD8(memory, 0, 4096)); use(0)
ok(cu.cuCtxEnablePeerAccess(own, 0)); result = ok(cu.cuMemAlloc(24))
values = memory, 4, int(memory) + 512, int(memory) + 1024, 5, 20_000_000_000, result
codes = [code(launch(module, "dmaproof_receive", 0, *values, grid=1)), code(cu.cuStreamQuery(0))]
begin = time.monotonic(); ok(cu.cuCtxDestroy(own)); codes.append(code(cu.cuCtxSynchronize()))
print(json.dumps([codes, time.monotonic() - begin < 10]))
"""
    ) == [[0, 600, 700], True]
