"""Memory that nodes of graphs allocate and free, added one by one or captured."""

from __future__ import annotations

from tests.virtual.driver.test_graphs import START as GRAPHS
from tests.virtual.driver.thread_machine import Machine

START = (
    GRAPHS
    + """
MIB = 1 << 20
def code(answer): return int(answer[0])
def alloc_params(nbytes, device=0, also=()):
    params = cu.CUDA_MEM_ALLOC_NODE_PARAMS(); params.bytesize = nbytes
    params.poolProps.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    params.poolProps.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    params.poolProps.location.id = device
    rights = []
    for one in also:
        right = cu.CUmemAccessDesc(); right.flags = cu.CUmemAccess_flags(3)
        right.location.type, right.location.id = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, one
        rights.append(right)
    params.accessDescs, params.accessDescCount = rights, len(rights)
    return params
def alloc(graph, after, nbytes, **more):
    params = alloc_params(nbytes, **more)
    node = ok(cu.cuGraphAddMemAllocNode(graph, after, len(after), params)); return node, int(params.dptr)
def free(graph, after, va): return cu.cuGraphAddMemFreeNode(graph, after, len(after), va)
USAGE = cu.CUgraphMem_attribute
def usage(name): return int(ok(cu.cuDeviceGetGraphMemAttribute(0, getattr(USAGE, "CU_GRAPH_MEM_ATTR_" + name))))
left = lambda: ok(cu.cuMemGetInfo())[0]
"""
)


def test_memory_of_a_graph_is_there_between_its_nodes_at_one_address(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
graph = ok(cu.cuGraphCreate(0)); first, va = alloc(graph, [], MIB); free_before = left()
fill = fill_node(graph, [first], va, 7, 64); out = copy_node(graph, [fill], near, va, 64)
last = ok(free(graph, [out], va)); executable = ok(cu.cuGraphInstantiate(graph, 0)); seen = []
for _ in range(2):
    ok(cu.cuMemsetD8(near, 0, 64)); launch_graph(executable); seen.append(read(near, 4))
used = [usage("USED_MEM_CURRENT"), usage("RESERVED_MEM_HIGH"), free_before - left()]
ok(cu.cuDeviceGraphMemTrim(0)); used += [usage("USED_MEM_CURRENT"), usage("USED_MEM_HIGH"), free_before - left()]
ok(cu.cuDeviceSetGraphMemAttribute(0, USAGE.CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, cu.cuuint64_t(0)))
told = ok(cu.cuGraphMemAllocNodeGetParams(first))
same = int(told.dptr) == va == int(ok(cu.cuGraphMemFreeNodeGetParams(last)))
print(json.dumps([seen, used, usage("USED_MEM_HIGH"), same, int(told.bytesize)]))
"""
    )
    mib = 1 << 20
    assert said == [[[7] * 4] * 2, [mib, mib, mib, 0, mib, 0], 0, True, mib]


def test_what_graphs_that_allocate_refuse(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
graph, other = ok(cu.cuGraphCreate(0)), ok(cu.cuGraphCreate(0)); node, va = alloc(graph, [], MIB)
inner, held = alloc(graph, [node], MIB); end = ok(free(graph, [inner], held))
codes = [code(free(where, [], what)) for where, what in ((graph, held), (other, held), (graph, near), (graph, va + 64))]
codes += [code(cu.cuGraphDestroyNode(node)), code(cu.cuGraphClone(graph))]
codes += [code(cu.cuGraphAddChildGraphNode(other, [], 0, graph))]
codes += [code(cu.cuGraphRemoveDependencies(graph, [node], [inner], None, 1))]
executable = ok(cu.cuGraphInstantiate(graph, 0)); codes += [code(cu.cuGraphInstantiate(graph, 0))]
launch_graph(executable); again = [code(cu.cuGraphLaunch(executable, stream))]
ok(cu.cuMemFreeAsync(va, stream)); again += [code(cu.cuMemFreeAsync(va, stream))]
again += [code(cu.cuGraphLaunch(executable, stream))]
ok(free(other, [], va)); ending = ok(cu.cuGraphInstantiate(other, 0)); launch_graph(ending)
again += [code(cu.cuGraphLaunch(ending, stream)), code(free(graph, [], va)), code(cu.cuMemFree(va))]
ok(cu.cuGraphLaunch(executable, stream)); again += [code(cu.cuMemFree(va))]
ok(cu.cuGraphExecDestroy(executable)); ok(cu.cuGraphInstantiate(graph, 1))
print(json.dumps([codes, again]))
"""
    )
    assert said == [[1] * 9, [1, 1, 0, 1, 1, 1, 0]]


def test_memory_that_a_graph_left_is_used_behind_it_and_freed_by_the_next_launch_if_asked(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
graph = ok(cu.cuGraphCreate(0)); node, va = alloc(graph, [], 4096, also=[1])
fill_node(graph, [node], va, 3, 4096)
executable = ok(cu.cuGraphInstantiate(graph, 1)); ok(cu.cuGraphLaunch(executable, stream))
ok(launch(module, "dmaproof_increment", stream, va, 4)); ok(cu.cuStreamSynchronize(stream))
seen = [read(va, 16, np.uint32)]
use(1); ok(launch(far_module, "dmaproof_increment", 0, va, 4)); ok(cu.cuCtxSynchronize()); use(0)
seen += [read(va, 16, np.uint32)]; ok(cu.cuGraphLaunch(executable, stream)); ok(cu.cuStreamSynchronize(stream))
seen += [read(va, 4)]; ok(cu.cuMemFreeAsync(va, stream)); ok(cu.cuStreamSynchronize(stream))
ok(launch(module, "dmaproof_increment", stream, va, 4)); print(json.dumps([seen, code(cu.cuStreamSynchronize(stream))]))
"""
    )
    assert said == [[[0x03030304] * 4, [0x03030305] * 4, [3] * 4], 700]


def test_allocations_are_captured(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
from cuda.core import Device, GraphMemoryResource
device = Device(0); device.set_current(); own = device.create_stream(); resource = GraphMemoryResource(device)
builder = device.create_graph_builder().begin_building(); buffer = resource.allocate(4096, stream=builder)
buffer.fill(9, stream=builder); ok(cu.cuMemcpyAsync(near, int(buffer.handle), 64, int(builder.stream.handle)))
buffer.close(); graph = builder.end_building().complete()
for _ in range(2): graph.launch(own)
own.sync(); seen = read(near, 4)
ok(cu.cuStreamBeginCapture(stream, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
refused = code(cu.cuMemFreeAsync(near, stream)); va = ok(cu.cuMemAllocAsync(4096, stream))
captured = ok(cu.cuStreamEndCapture(stream))
kinds = [int(ok(cu.cuGraphNodeGetType(one))) for one in ok(cu.cuGraphGetNodes(captured, 1))[0]]
print(json.dumps([seen, refused, kinds, resource.attributes.used_mem_current]))
"""
    )
    assert said == [[9] * 4, 1, [10], 4096]
