"""Stream capture: what becomes of calls meanwhile, and what is refused."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine

START = """
import threading
ok(cu.cuInit(0)); contexts = [use(0), use(1)]; use(0)
module = kernels("sm_90"); gpu = ok(cu.cuMemAlloc(4096)); ok(cu.cuMemsetD8(gpu, 0, 4096))
stream, other, blocking = ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(0))
event, later = ok(cu.cuEventCreate(2)), ok(cu.cuEventCreate(2))
GLOBAL, LOCAL, RELAXED = (cu.CUstreamCaptureMode(one) for one in (0, 1, 2))

def begin(on=stream, mode=GLOBAL): ok(cu.cuStreamBeginCapture(on, mode))
def end(on=stream): return cu.cuStreamEndCapture(on)
def state(on=stream): return int(ok(cu.cuStreamIsCapturing(on)))
def add(on=stream): ok(launch(module, "dmaproof_increment", on, gpu, 1))
def word():
    back = np.empty(1, np.uint32); ok(cu.cuMemcpyDtoH(back.ctypes.data, gpu, 4)); return int(back[0])
def launched(graph, times=1):
    executable = ok(cu.cuGraphInstantiate(graph, 0))
    for _ in range(times): ok(cu.cuGraphLaunch(executable, stream))
    ok(cu.cuStreamSynchronize(stream))
def code(answer): return int(answer[0])
"""


def test_work_is_kept_for_the_graph_and_not_done(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
begin(); states = [state(), state(other)]
for _ in range(3): add()
ok(cu.cuMemsetD32Async(int(gpu) + 4, 9, 1, stream)); ok(cu.cuMemcpyAsync(int(gpu) + 8, int(gpu) + 4, 4, stream))
graph = ok(end()); states += [state(), word()]
nodes, count = ok(cu.cuGraphGetNodes(graph, 9)); edges = ok(cu.cuGraphGetEdges(graph, 9))[-1]
launched(graph, 2); print(json.dumps([states, count, edges, word()]))
"""
    ) == [[1, 0, 0, 0], 5, 4, 6]


def test_another_stream_joins_by_an_event_and_must_come_back(hgx: Machine) -> None:
    fork = "begin(); add(); ok(cu.cuEventRecord(event, stream)); ok(cu.cuStreamWaitEvent(other, event, 0)); add(other)"
    assert hgx.out(
        f"""{START}
{fork}
states = [state(), state(other)]; ok(cu.cuEventRecord(later, other)); ok(cu.cuStreamWaitEvent(stream, later, 0)); add()
graph = ok(end()); states += [state(), state(other)]; launched(graph)
{fork}
codes = [code(end()), state(), state(other), code(cu.cuStreamWaitEvent(other, event, 0))]
print(json.dumps([states, word(), codes]))
"""
    ) == [[1, 1, 0, 0], 3, [904, 0, 0, 907]]


def test_what_a_capture_stands_at_can_be_asked_and_set(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
begin(); add(); status, number, graph, tips, _, count = ok(cu.cuStreamGetCaptureInfo(stream))
mine = ok(cu.cuGraphAddEmptyNode(graph, [tips[0]], 1))
ok(cu.cuStreamUpdateCaptureDependencies(stream, [mine], None, 1, 1)); add()
edges = ok(cu.cuGraphGetEdges(ok(end()), 9))[-1]
print(json.dumps([int(status), int(number) > 0, count, edges, int(ok(cu.cuStreamGetCaptureInfo(stream))[0])]))
"""
    ) == [1, True, 1, 2, 0]


REFUSED = {
    "cu.cuMemAlloc(16)": 900,
    "cu.cuMemFree(gpu)": 900,
    "cu.cuMemHostAlloc(16, 0)": 900,
    "cu.cuMemsetD8(gpu, 1, 16)": 900,
    "cu.cuEventQuery(later)": 900,
    "cu.cuStreamSynchronize(stream)": 900,
    "cu.cuStreamQuery(stream)": 900,
    "cu.cuCtxSynchronize()": 900,
    "(cu.cuEventRecord(event, stream), cu.cuEventSynchronize(event))[1]": 900,
    "cu.cuStreamWaitEvent(stream, recorded, 0)": 905,
    "(cu.cuStreamBeginCapture(other, GLOBAL), cu.cuEventRecord(event, other), "
    "cu.cuStreamWaitEvent(stream, event, 0), cu.cuStreamEndCapture(other))[2]": 902,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_captured_is_refused_and_ends_the_capture(hgx: Machine, what: str) -> None:
    assert hgx.out(
        f"""{START}
recorded = ok(cu.cuEventCreate(2)); ok(cu.cuEventRecord(recorded, other))
begin(); add(); codes = [code({what}), state()]
codes += [code(launch(module, "dmaproof_increment", stream, gpu, 1)), code(end()), state()]
print(json.dumps([codes, word()]))
"""
    ) == [[REFUSED[what], 2, 901, 901, 0], 0]


def test_a_blocking_stream_that_is_captured_takes_the_legacy_stream_out_of_use(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
begin(blocking, RELAXED)
codes = [code(cu.cuStreamIsCapturing(0)), state(blocking), code(cu.cuMemsetD8Async(gpu, 1, 16, 0)), state(blocking)]
codes += [code(end(blocking)), code(cu.cuMemsetD8Async(gpu, 1, 16, 0)), code(cu.cuStreamBeginCapture(0, GLOBAL))]
begin(stream, RELAXED); codes += [code(cu.cuMemsetD8Async(gpu, 1, 16, 0)), state()]
print(json.dumps(codes))
"""
    ) == [906, 1, 906, 2, 901, 0, 900, 0, 1]


def test_modes_say_whom_a_capture_limits(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
def elsewhere(call):
    codes = []
    thread = threading.Thread(target=lambda: (cu.cuCtxSetCurrent(contexts[0]), codes.append(code(call()))))
    thread.start(); thread.join(); return codes[0]
alloc = lambda: cu.cuMemAlloc(16)
def relaxed():
    cu.cuThreadExchangeStreamCaptureMode(RELAXED); return alloc()
seen = []
for mode in (GLOBAL, LOCAL, RELAXED):
    begin(mode=mode); seen.append([elsewhere(relaxed), elsewhere(alloc)]); code(end())
    begin(mode=mode); seen[-1].append(code(alloc())); code(end())
begin(mode=LOCAL); ends = [elsewhere(end), code(end())]
begin(mode=RELAXED); ends.append(elsewhere(end))
print(json.dumps([seen, ends]))
"""
    ) == [[[0, 900, 900], [0, 0, 900], [0, 0, 0]], [908, 0, 0]]


def test_a_capture_ends_where_it_began(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
codes = [code(end())]
begin(); codes.append(code(cu.cuStreamBeginCapture(stream, GLOBAL))); add()
ok(cu.cuEventRecord(event, stream)); ok(cu.cuStreamWaitEvent(other, event, 0)); codes += [code(end(other)), code(end())]
print(json.dumps(codes))
"""
    ) == [401, 401, 903, 901]


def test_a_graph_launched_into_a_capture_is_a_node_of_it(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
begin(); add(); inner = ok(cu.cuGraphInstantiate(ok(end()), 0))
begin(); ok(cu.cuGraphLaunch(inner, stream)); ok(cu.cuGraphLaunch(inner, stream)); outer = ok(end())
nodes, _ = ok(cu.cuGraphGetNodes(outer, 2)); launched(outer, 2)
print(json.dumps([[int(ok(cu.cuGraphNodeGetType(node))) for node in nodes], word()]))
"""
    ) == [[4, 4], 4]
