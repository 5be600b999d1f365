"""Graphs: nodes that are added one by one, and launches of what they make."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine

START = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]
for one in (0, 1):
    use(one); ok(cu.cuCtxEnablePeerAccess(contexts[1 - one], 0))
use(1); far_module = kernels("sm_90"); far = ok(cu.cuMemAlloc(4096))
use(0); module = kernels("sm_90"); near = ok(cu.cuMemAlloc(4096)); stream = ok(cu.cuStreamCreate(1))
for memory in (near, far): ok(cu.cuMemsetD8(memory, 0, 4096))

def copy_node(graph, after, target, source, nbytes, context=0):
    params = cu.CUDA_MEMCPY3D()
    params.srcMemoryType = params.dstMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
    params.srcDevice, params.dstDevice, params.WidthInBytes = source, target, nbytes
    params.Height = params.Depth = 1
    return ok(cu.cuGraphAddMemcpyNode(graph, after, len(after), params, contexts[context]))

def fill_params(target, value, nbytes):
    params = cu.CUDA_MEMSET_NODE_PARAMS()
    params.dst, params.value, params.elementSize, params.width, params.height = target, value, 1, nbytes, 1
    return params

def fill_node(graph, after, *what):
    return ok(cu.cuGraphAddMemsetNode(graph, after, len(after), fill_params(*what), contexts[0]))

def kernel_params(name, *values, module=module, grid=4, block=64):
    params = cu.CUDA_KERNEL_NODE_PARAMS()
    params.func = ok(cu.cuModuleGetFunction(module, name.encode()))
    params.gridDimX, params.blockDimX = grid, block
    params.gridDimY = params.gridDimZ = params.blockDimY = params.blockDimZ = 1
    params.kernelParams = (tuple(int(value) for value in values), TYPES[name])
    return params

def kernel_node(graph, after, *what, **more):
    return ok(cu.cuGraphAddKernelNode(graph, after, len(after), kernel_params(*what, **more)))

def launch_graph(executable, times=1):
    for _ in range(times): ok(cu.cuGraphLaunch(executable, stream))
    ok(cu.cuStreamSynchronize(stream))

def read(va, nbytes, kind=np.uint8):
    back = np.empty(nbytes, np.uint8); ok(cu.cuMemcpyDtoH(back.ctypes.data, va, nbytes))
    return back.view(kind).tolist()
"""


def test_a_graph_does_its_nodes_in_order_each_time_it_is_launched(hgx: Machine) -> None:
    out = hgx.out(
        f"""{START}
graph = ok(cu.cuGraphCreate(0))
add = kernel_node(graph, [], "dmaproof_increment", near, 4)
middle = ok(cu.cuGraphAddEmptyNode(graph, [add], 1))
copy_node(graph, [middle], far, near, 16)
executable = ok(cu.cuGraphInstantiate(graph, 0))
seen = [read(far, 16, np.uint32)]
for times in (1, 2):
    launch_graph(executable, times); seen.append(read(far, 16, np.uint32))
ok(cu.cuGraphDestroy(graph)); launch_graph(executable); seen.append(read(far, 16, np.uint32))
ok(cu.cuGraphExecDestroy(executable))
print(json.dumps([seen, int(cu.cuGraphLaunch(executable, stream)[0]), int(cu.cuGraphInstantiate(graph, 0)[0])]))
"""
    )
    assert out == [[[0] * 4, [1] * 4, [3] * 4, [4] * 4], 1, 1]
    assert any(one["target"] == "0000:43:00.0" and one["engine"] == "ce" for one in hgx.asked("dma"))


def test_a_graph_says_what_it_is_made_of(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
graph = ok(cu.cuGraphCreate(0))
first = fill_node(graph, [], near, 7, 64); second = copy_node(graph, [first], far, near, 64)
third = kernel_node(graph, [first], "dmaproof_increment", near, 1); last = ok(cu.cuGraphAddEmptyNode(graph, [], 0))
ok(cu.cuGraphAddDependencies(graph, [second, third], [last, last], None, 2))
nodes, count = ok(cu.cuGraphGetNodes(graph, 10)); roots, nroots = ok(cu.cuGraphGetRootNodes(graph, 10))
known = [int(node) for node in (first, second, third, last)]
sources, targets, _, nedges = ok(cu.cuGraphGetEdges(graph, 10))
edges = sorted([known.index(int(a)), known.index(int(b))] for a, b in zip(sources[:nedges], targets[:nedges]))
types = [int(ok(cu.cuGraphNodeGetType(node))) for node in nodes[:count]]
print(json.dumps([[int(node) for node in nodes[:count]] == known, types, nroots, edges]))
"""
    ) == [True, [2, 1, 0, 5], 1, [[0, 1], [0, 2], [1, 3], [2, 3]]]


def test_nodes_that_wait_for_each_other_cannot_be_instantiated(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
graph, other = ok(cu.cuGraphCreate(0)), ok(cu.cuGraphCreate(0))
one = ok(cu.cuGraphAddEmptyNode(graph, [], 0)); two = ok(cu.cuGraphAddEmptyNode(graph, [one], 1))
codes = [cu.cuGraphAddEmptyNode(other, [one], 1)]
ok(cu.cuGraphAddDependencies(graph, [two], [one], None, 1)); codes.append(cu.cuGraphInstantiate(graph, 0))
ok(cu.cuGraphDestroyNode(two)); codes.append(cu.cuGraphInstantiate(graph, 0))
print(json.dumps([int(code[0]) for code in codes]))
"""
    ) == [1, 1, 0]


def test_sixteen_copies_in_a_graph_take_as_long_as_sixteen_copies(hgx: Machine) -> None:
    alone, replayed, both = hgx.out(
        f"""{START}
n = 64 << 20
source = ok(cu.cuMemAlloc(n)); use(1); target = ok(cu.cuMemAlloc(n)); use(0)
graph, wide = ok(cu.cuGraphCreate(0)), ok(cu.cuGraphCreate(0)); last = []
for _ in range(16): last = [copy_node(graph, last, target, source, n)]
for _ in range(16): copy_node(wide, [], target, source, n)
executables = [ok(cu.cuGraphInstantiate(one, 0)) for one in (graph, wide)]
elapsed_ms(stream, lambda: ok(cu.cuGraphLaunch(executables[0], stream)), 1)
times = [elapsed_ms(stream, lambda: cu.cuMemcpyDtoDAsync(target, source, n, stream), 16)]
times += [elapsed_ms(stream, lambda: ok(cu.cuGraphLaunch(one, stream)), 1) for one in executables]
print(json.dumps([16 * n / ms / 1e6 for ms in times]))
"""
    )
    assert alone == pytest.approx(397.0, rel=0.001)
    assert replayed == pytest.approx(alone, rel=0.001)
    assert both == pytest.approx(alone, rel=0.001)  # side by side they share the link


def test_nodes_of_two_gpus_that_wait_for_the_cpu_run_side_by_side(hgx: Machine) -> None:
    """Each node holds until it is released: one after the other, the second would never see its flag in time."""
    assert hgx.out(
        f"""{START}
flags = ok(cu.cuMemHostAlloc(32, 3)); words = view(flags, 32, ctypes.c_uint32); words[:] = 0
graph = ok(cu.cuGraphCreate(0))
kernel_node(graph, [], "dmaproof_pingpong", int(flags), 3, grid=1, block=1)
kernel_node(graph, [], "dmaproof_pingpong", int(flags) + 16, 3, grid=1, block=1, module=far_module)
executable = ok(cu.cuGraphInstantiate(graph, 0)); ok(cu.cuGraphLaunch(executable, stream))
for turn in range(3):
    for at in (4, 0):
        words[at] = 2 * turn + 1
        while words[at] != 2 * turn + 2: pass
ok(cu.cuStreamSynchronize(stream)); print(json.dumps(words.tolist()))
""",
    ) == [6, 0, 0, 0, 6, 0, 0, 0]


def test_launches_of_one_executable_on_two_streams_follow_each_other(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
flag = ok(cu.cuMemHostAlloc(8, 3)); words = view(flag, 8, ctypes.c_uint32); words[:] = 0
graph = ok(cu.cuGraphCreate(0)); held = kernel_node(graph, [], "dmaproof_hold", flag, 10**10, grid=1, block=1)
kernel_node(graph, [held], "dmaproof_increment", near, 1); executable = ok(cu.cuGraphInstantiate(graph, 0))
other = ok(cu.cuStreamCreate(1)); ok(cu.cuGraphLaunch(executable, stream)); ok(cu.cuGraphLaunch(executable, other))
before = [int(cu.cuStreamQuery(one)[0]) for one in (stream, other)]
words[0] = 1; ok(cu.cuStreamSynchronize(other))
print(json.dumps([before, int(cu.cuStreamQuery(stream)[0]), read(near, 4, np.uint32)]))
"""
    ) == [[600, 600], 0, [2]]


def test_an_executable_takes_new_work_where_the_shape_stays(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
def made(value, *more):
    graph = ok(cu.cuGraphCreate(0)); last = fill_node(graph, [], near, value, 4)
    for add in more: last = add(graph, [last])
    return graph, last
one, node = made(5); executable = ok(cu.cuGraphInstantiate(one, 0)); seen = []
def look(): launch_graph(executable); seen.append(read(near, 1)[0])
look()
ok(cu.cuGraphExecMemsetNodeSetParams(executable, node, fill_params(near, 6, 4), contexts[0])); look()
answer, told = cu.cuGraphExecUpdate(executable, made(7)[0]); look()
longer = made(8, lambda graph, after: ok(cu.cuGraphAddEmptyNode(graph, after, 1)))[0]
code, why = cu.cuGraphExecUpdate(executable, longer); look()
print(json.dumps([seen, int(answer), int(told.result), int(code)]))
"""
    ) == [[5, 6, 7, 7], 0, 0, 910]


def test_a_graph_that_writes_where_nothing_is_any_more_ends_its_context(hgx: Machine) -> None:
    codes = hgx.out(
        f"""{START}
graph = ok(cu.cuGraphCreate(0)); copy_node(graph, [], far, near, 64); executable = ok(cu.cuGraphInstantiate(graph, 0))
launch_graph(executable); use(1); ok(cu.cuMemFree(far)); use(0)
codes = [cu.cuGraphLaunch(executable, stream), cu.cuStreamSynchronize(stream), cu.cuMemAlloc(16)]
print(json.dumps([int(code[0]) for code in codes]))
"""
    )
    assert codes == [0, 700, 700]
    assert [one["space"] for one in hgx.asked("fault")] == ["unmapped"]


def test_cuda_core_captures_and_launches(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
from cuda.core import Device
device = Device(0); device.set_current(); own = device.create_stream()
builder = own.create_graph_builder().begin_building()
ok(launch(module, "dmaproof_increment", int(own.handle), near, 4))
captured = builder.end_building().complete(); captured.upload(own)
for _ in range(3): captured.launch(own)
own.sync(); print(json.dumps(read(near, 16, np.uint32)))
"""
    ) == [3, 3, 3, 3]
