"""Order between streams and events, and the default streams."""

from __future__ import annotations

from tests.virtual.driver.thread_machine import Machine

START = """
ok(cu.cuInit(0)); use(0); module = kernels("sm_90"); flag = ok(cu.cuMemHostAlloc(8, 3))
words = view(flag, 8, ctypes.c_uint32); words[:] = 0
gpu = ok(cu.cuMemAlloc(4096)); ok(cu.cuMemsetD8(gpu, 1, 4096))

def hold(stream, timeout_ns=10**10):
    ok(launch(module, "dmaproof_hold", stream, flag, timeout_ns, grid=1, block=1))

def byte():
    back = ok(cu.cuMemHostAlloc(16, 3)); spare = ok(cu.cuStreamCreate(1))
    ok(cu.cuMemcpyDtoHAsync(back, gpu, 1, spare)); ok(cu.cuStreamSynchronize(spare))
    return int(view(back, 1)[0])
"""


def test_work_behind_a_held_stream_waits_and_then_runs_in_order(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{START}
stream = ok(cu.cuStreamCreate(1)); hold(stream)
for value in (2, 3, 4): ok(cu.cuMemsetD8Async(gpu, value, 4096, stream))
time.sleep(0.1)
before = [byte(), int(cu.cuStreamQuery(stream)[0])]
words[0] = 1; ok(cu.cuStreamSynchronize(stream))
print(json.dumps(before + [byte(), int(cu.cuStreamQuery(stream)[0]), int(words[1])]))
"""
    )
    assert seen == [1, 600, 4, 0, 0]


def test_a_hold_gives_up_after_its_timeout_and_says_so(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
stream = ok(cu.cuStreamCreate(1)); begin = time.monotonic()
hold(stream, 200_000_000); ok(cu.cuStreamSynchronize(stream))
print(json.dumps([words.tolist(), 0.15 < time.monotonic() - begin < 2]))
"""
    ) == [[0, 1], True]


def test_a_stream_waits_for_an_event_as_it_was_recorded_then(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{START}
first, second, free = (ok(cu.cuStreamCreate(1)) for _ in range(3)); event = ok(cu.cuEventCreate(2))
ok(cu.cuStreamWaitEvent(free, event, 0))  # never recorded: holds nothing up
hold(first); ok(cu.cuMemsetD8Async(gpu, 2, 4096, first)); ok(cu.cuEventRecord(event, first))
ok(cu.cuStreamWaitEvent(second, event, 0)); ok(cu.cuMemsetD8Async(gpu, 3, 4096, second))
before = [byte(), int(cu.cuStreamQuery(second)[0]), int(cu.cuStreamQuery(free)[0]), int(cu.cuEventQuery(event)[0])]
words[0] = 1; ok(cu.cuStreamSynchronize(second))
print(json.dumps(before + [byte(), int(cu.cuEventQuery(event)[0])]))
"""
    )
    assert seen == [1, 600, 0, 600, 3, 0]


def test_the_legacy_stream_waits_for_blocking_streams_and_they_for_it(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{START}
blocking, free, later = ok(cu.cuStreamCreate(0)), ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(0))
hold(blocking)
ok(cu.cuMemsetD8Async(gpu, 2, 4096, 0)); ok(cu.cuMemsetD8Async(gpu, 3, 4096, later))
codes = [int(cu.cuStreamQuery(one)[0]) for one in (0, 1, later, free)]
ok(cu.cuMemsetD8Async(gpu, 9, 1, free)); seen = byte()
words[0] = 1; ok(cu.cuStreamSynchronize(later))
print(json.dumps([codes, seen, byte()]))
"""
    )
    assert seen == [[600, 600, 600, 0], 9, 3]


def test_the_per_thread_stream_is_another_than_the_legacy_one(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
hold(2)
print(json.dumps([int(cu.cuStreamQuery(handle)[0]) for handle in (2, 1)]), flush=True)
words[0] = 1
"""
    ) == [600, 0]


def test_pageable_memory_may_change_as_soon_as_the_call_returns(hgx: Machine) -> None:
    assert (
        hgx.out(
            f"""{START}
stream = ok(cu.cuStreamCreate(1)); hold(stream); source = np.full(4096, 7, np.uint8)
ok(cu.cuMemcpyHtoDAsync(gpu, source.ctypes.data, 4096, stream)); source[:] = 8
words[0] = 1; ok(cu.cuStreamSynchronize(stream))
print(json.dumps(byte()))
"""
        )
        == 7
    )


def test_event_errors_are_those_of_cuda(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
stream = ok(cu.cuStreamCreate(1)); events = [ok(cu.cuEventCreate(flags)) for flags in (0, 0, 2)]
codes = [cu.cuEventElapsedTime(events[0], events[1])]
ok(cu.cuEventRecord(events[0], stream)); hold(stream)
for event in events[1:]: ok(cu.cuEventRecord(event, stream))
codes += [cu.cuEventElapsedTime(events[0], events[1]), cu.cuEventElapsedTime(events[0], events[2])]
words[0] = 1; ok(cu.cuEventSynchronize(events[2]))
codes.append(cu.cuEventElapsedTime(events[0], events[1])); ok(cu.cuEventDestroy(events[0]))
codes.append(cu.cuEventQuery(events[0]))
print(json.dumps([int(code[0]) for code in codes]))
"""
    ) == [400, 600, 400, 0, 400]


def test_a_stream_destroyed_with_work_still_finishes_it(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
stream = ok(cu.cuStreamCreate(1)); hold(stream); ok(cu.cuMemsetD8Async(gpu, 6, 4096, stream))
ok(cu.cuStreamDestroy(stream)); code = int(cu.cuStreamQuery(stream)[0])
words[0] = 1; ok(cu.cuCtxSynchronize())
print(json.dumps([code, byte()]))
"""
    ) == [400, 6]


def test_two_threads_have_their_own_current_context(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
import threading
seen = []
def other():
    seen.append(int(ok(cu.cuCtxGetCurrent()))); use(1); seen.append(int(ok(cu.cuCtxGetDevice())))
thread = threading.Thread(target=other); thread.start(); thread.join()
print(json.dumps(seen + [int(ok(cu.cuCtxGetDevice()))]))
"""
    ) == [0, 1, 0]


def test_loading_a_module_waits_for_what_runs_in_its_context(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
stream = ok(cu.cuStreamCreate(1)); hold(stream, 300_000_000); begin = time.monotonic()
kernels("sm_90")
print(json.dumps([time.monotonic() - begin > 0.25, int(words[1])]))
"""
    ) == [True, 1]
