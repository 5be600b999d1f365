"""The program's own functions in the order of streams and graphs."""

from __future__ import annotations

from tests.virtual.driver.thread_machine import Machine

START = """
ok(cu.cuInit(0)); use(0); module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1))
import threading
HOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
def address(function): return ctypes.cast(function, ctypes.c_void_p).value
def code(answer): return int(answer[0])
flag = ok(cu.cuMemHostAlloc(64, 3)); words = view(flag, 64, ctypes.c_uint32); words[:] = 0
def host_params(function, data=0):
    params = cu.CUDA_HOST_NODE_PARAMS(); params.fn = address(function)
    params.userData = data; return params
"""


def test_a_function_is_called_in_stream_order_in_another_thread_and_may_not_use_cuda(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
seen = []
@HOST
def function(data):
    seen.append([data, int(words[4]), threading.current_thread() is threading.main_thread(),
                 code(cu.cuMemAlloc(64)), code(cu.cuStreamQuery(stream)), code(cu.cuDriverGetVersion())])
counter = int(flag) + 16
ok(launch(module, "dmaproof_hold", stream, flag, 10**10, grid=1, block=1))
ok(launch(module, "dmaproof_increment", stream, counter, 1, grid=1, block=1))
ok(cu.cuLaunchHostFunc(stream, address(function), 77)); early = list(seen)
ok(launch(module, "dmaproof_increment", stream, counter, 1, grid=1, block=1))
words[0] = 1; ok(cu.cuStreamSynchronize(stream))
print(json.dumps([early, seen, int(words[4])]))
"""
    )
    assert said == [[], [[77, 1, False, 800, 800, 0]], 2]


def test_the_interpreter_runs_on_while_a_function_waits_for_it(hgx: Machine) -> None:
    """A function that waits for the thread which waits for the stream's work: neither holds what the other needs."""
    said = hgx.out(
        START
        + """
ready, told = threading.Event(), []
@HOST
def function(_):
    told.append(ready.wait(20))
ok(cu.cuLaunchHostFunc(stream, address(function), 0))
before = code(cu.cuStreamQuery(stream))
other = threading.Thread(target=lambda: (time.sleep(0.2), ready.set())); other.start()
ok(cu.cuStreamSynchronize(stream)); print(json.dumps([before, told]))
"""
    )
    assert said == [600, [True]]


def test_a_context_that_dies_calls_callbacks_with_its_error_and_functions_not_at_all(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
seen, told = [], threading.Event()
@CALLBACK
def callback(one, status, data): seen.append([int(one) == int(stream), status, data]); told.set()
@HOST
def function(_): seen.append("function")
ok(cu.cuStreamAddCallback(stream, address(callback), 5, 0)); ok(cu.cuStreamSynchronize(stream)); told.clear()
ok(launch(module, "dmaproof_hold", stream, flag, 10**10, grid=1, block=1))
ok(launch(module, "dmaproof_increment", stream, 4096, 1, grid=1, block=1))
ok(cu.cuLaunchHostFunc(stream, address(function), 0)); ok(cu.cuStreamAddCallback(stream, address(callback), 6, 0))
words[0] = 1; ended = code(cu.cuStreamSynchronize(stream)); told.wait(10)
print(json.dumps([ended, seen]))
""",
    )
    assert said[0] == 719 or said[0] == 700
    assert said[1] == [[True, 0, 5], [True, said[0], 6]]


def test_a_captured_function_is_called_by_each_launch(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
from cuda.core import Device
seen = []; device = Device(0); device.set_current(); own = device.create_stream()
builder = device.create_graph_builder().begin_building()
builder.callback(lambda: seen.append(len(seen)))
ok(launch(module, "dmaproof_increment", int(builder.stream.handle), flag, 1))
graph = builder.end_building().complete()
for _ in range(3): graph.launch(own)
own.sync(); print(json.dumps([seen, int(words[0])]))
"""
    )
    assert said == [[0, 1, 2], 3]


def test_host_nodes_are_told_and_changed_and_callbacks_cannot_be_captured(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
seen = []
@HOST
def function(data): seen.append(data)
@HOST
def other(data): seen.append(-data)
@CALLBACK
def callback(*_): pass
graph = ok(cu.cuGraphCreate(0)); node = ok(cu.cuGraphAddHostNode(graph, [], 0, host_params(function, 4)))
told = ok(cu.cuGraphHostNodeGetParams(node)); executable = ok(cu.cuGraphInstantiate(graph, 0))
for _ in range(2): ok(cu.cuGraphLaunch(executable, stream))
ok(cu.cuStreamSynchronize(stream)); ok(cu.cuGraphExecHostNodeSetParams(executable, node, host_params(other, 9)))
ok(cu.cuGraphLaunch(executable, stream)); ok(cu.cuStreamSynchronize(stream))
ok(cu.cuStreamBeginCapture(stream, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
refused = [code(cu.cuStreamAddCallback(stream, address(callback), 0, 0)), code(cu.cuStreamEndCapture(stream))]
kind, nothing = int(ok(cu.cuGraphNodeGetType(node))), code(cu.cuGraphAddHostNode(graph, [], 0, host_params(HOST())))
print(json.dumps([seen, int(told.userData), kind, refused, nothing]))
"""
    )
    assert said == [[4, 4, -9], 4, 3, [900, 901], 1]


def test_event_nodes_record_and_wait_where_a_launch_comes_to_them(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
one, other = ok(cu.cuEventCreate(0)), ok(cu.cuEventCreate(0)); near = ok(cu.cuMemAlloc(1 << 24))
params = cu.CUDA_MEMSET_NODE_PARAMS(); params.dst, params.elementSize, params.width, params.height = near, 1, 1 << 24, 1
context = ok(cu.cuCtxGetCurrent()); graph = ok(cu.cuGraphCreate(0))
first = ok(cu.cuGraphAddEventRecordNode(graph, [], 0, one))
fill = ok(cu.cuGraphAddMemsetNode(graph, [first], 1, params, context))
last = ok(cu.cuGraphAddEventRecordNode(graph, [fill], 1, other)); executable = ok(cu.cuGraphInstantiate(graph, 0))
ok(cu.cuGraphLaunch(executable, stream)); ok(cu.cuEventSynchronize(other))
took = ok(cu.cuEventElapsedTime(one, other)) * 1e-3
waiting = ok(cu.cuGraphCreate(0)); wait = ok(cu.cuGraphAddEventWaitNode(waiting, [], 0, one))
behind = ok(cu.cuGraphInstantiate(waiting, 0)); far = ok(cu.cuStreamCreate(1))
ok(launch(module, "dmaproof_hold", stream, flag, 10**10, grid=1, block=1)); ok(cu.cuEventRecord(one, stream))
ok(cu.cuGraphLaunch(behind, far)); before = code(cu.cuStreamQuery(far)); words[0] = 1
ok(cu.cuStreamSynchronize(far))
events = [int(ok(cu.cuGraphEventRecordNodeGetEvent(last))) == int(other), code(cu.cuGraphEventWaitNodeGetEvent(last))]
print(json.dumps([(1 << 24) / took / 1e9 > 1, before, events, code(cu.cuEventRecordWithFlags(one, stream, 1))]))
"""
    )
    assert said == [True, 600, [True, 1], 1]
