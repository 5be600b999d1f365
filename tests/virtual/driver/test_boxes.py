"""Copies and fills of rows and slices, on linear memory."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine

START = """
ok(cu.cuInit(0)); far = use(1); remote = ok(cu.cuMemAlloc(1 << 16)); near = use(0); stream = ok(cu.cuStreamCreate(1))
device, pitch = ok(cu.cuMemAllocPitch(100, 20, 4)); KINDS = cu.CUmemorytype
HOST, DEVICE, UNIFIED = (getattr(KINDS, "CU_MEMORYTYPE_" + name) for name in ("HOST", "DEVICE", "UNIFIED"))
def code(answer): return int(answer[0])
def made(params, source, target, width, height, depth=None):
    for end, (kind, va, row, more) in (("src", source), ("dst", target)):
        setattr(params, end + "MemoryType", kind); setattr(params, end + "Pitch", row)
        setattr(params, end + ("Host" if kind == HOST else "Device"), int(va))
        for name, value in more.items(): setattr(params, end + name, value)
    params.WidthInBytes, params.Height = width, height
    if depth is not None: params.Depth = depth
    return params
def plane(*what): return made(cu.CUDA_MEMCPY2D(), *what)
def solid(*what): return made(cu.CUDA_MEMCPY3D(), *what)
def end(kind, va, row, **more): return kind, va, row, more
ground = np.arange(2000, dtype=np.uint32).astype(np.uint8); back = np.zeros(2000, np.uint8)
"""


def test_rows_go_there_and_back_and_the_gaps_stay(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
ok(cu.cuMemsetD8(device, 255, pitch * 20))
ok(cu.cuMemcpy2D(plane(end(HOST, ground.ctypes.data, 100, XInBytes=10, Y=2), end(DEVICE, device, pitch, Y=1), 30, 5)))
rows = np.zeros(pitch * 20, np.uint8); ok(cu.cuMemcpyDtoH(rows.ctypes.data, device, rows.nbytes))
wanted = np.full((20, pitch), 255, np.uint8); wanted[1:6, :30] = ground[:2000].reshape(20, 100)[2:7, 10:40]
there = bool((rows.reshape(20, pitch) == wanted).all())
ok(cu.cuMemcpy2DAsync(plane(end(DEVICE, device, pitch, Y=1), end(HOST, back.ctypes.data, 40), 30, 5), stream))
ok(cu.cuStreamSynchronize(stream)); seen = back[:200].reshape(5, 40)
print(json.dumps([pitch, there, bool((seen[:, :30] == wanted[1:6, :30]).all()), int(seen[:, 30:].max())]))
"""
    )
    assert said == [512, True, True, 0]


def test_slices_go_to_another_gpu_and_back(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
params = made(cu.CUDA_MEMCPY3D_PEER(), end(DEVICE, device, 20, Height=5), end(DEVICE, remote, 32, Height=4), 20, 4, 3)
params.srcContext, params.dstContext = near, far; ok(cu.cuMemcpyHtoD(device, ground.ctypes.data, 300))
ok(cu.cuMemcpy3DPeer(params)); ok(cu.cuCtxEnablePeerAccess(far, 0)); ok(cu.cuMemcpy3DPeerAsync(params, stream))
home = solid(end(UNIFIED, remote, 32, Height=4), end(HOST, back.ctypes.data, 20, Height=4), 20, 4, 3)
ok(cu.cuMemcpy3DAsync(home, stream))
ok(cu.cuStreamSynchronize(stream)); same = (back[:240].reshape(3, 4, 20) == ground[:300].reshape(3, 5, 20)[:, :4]).all()
params.srcContext = far; print(json.dumps([bool(same), code(cu.cuMemcpy3DPeer(params))]))
"""
    )
    assert said == [True, 1]
    moved = [one["nbytes"] for one in hgx.asked("dma") if one["target"] != one["source"] != "host"]
    assert 240 in moved  # the bytes of the rows, not of the gaps


@pytest.mark.parametrize("unit", [1, 2, 4])
def test_a_fill_of_rows_leaves_the_gaps(hgx: Machine, unit: int) -> None:
    said = hgx.out(
        f"{START}unit = {unit}"
        + """
bits = unit * 8; fill, later = getattr(cu, f"cuMemsetD2D{bits}"), getattr(cu, f"cuMemsetD2D{bits}Async")
value = 0x04030201 & (1 << bits) - 1; kinds = {1: np.uint8, 2: np.uint16, 4: np.uint32}
ok(cu.cuMemsetD8(device, 255, pitch * 20)); ok(fill(device, pitch, value, 3, 2))
ok(later(int(device) + 4 * pitch, pitch, value, 3, 2, stream)); ok(cu.cuStreamSynchronize(stream))
rows = np.zeros(pitch * 6, np.uint8); ok(cu.cuMemcpyDtoH(rows.ctypes.data, device, rows.nbytes))
words = rows.view(kinds[unit]).reshape(6, -1)
set_, kept = words[[0, 1, 4, 5], :3], words[:, 3:]
full = (1 << bits) - 1
codes = [code(fill(device, 3 * unit - 1, value, 3, 2))]
print(json.dumps([bool((set_ == value).all()), int(kept.min()) == full, int(words[2:4].min()) == full, *codes,
                  code(fill(device, pitch, value, 3, 200))]))
"""
    )
    assert said == [True, True, True, 1, 1]


def test_shapes_that_cannot_be_are_refused(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
host = lambda row, **more: end(HOST, back.ctypes.data, row, **more)
there = lambda row, **more: end(DEVICE, device, row, **more)
wrong = [plane(one, host(30), 30, 5) for one in (there(29), there(30, XInBytes=1), there(0))]
wrong += [plane(there(2**31), host(30), 30, 1), plane(there(pitch), host(30), 30, 500)]
wrong += [plane(there(512, Y=2000), host(9), 9, 1), plane(end(DEVICE, back.ctypes.data, 30), host(30), 30, 5)]
codes = [code(cu.cuMemcpy2D(one)) for one in wrong] + [code(cu.cuMemcpy2DUnaligned(plane(there(30), host(30), 30, 5)))]
codes += [code(cu.cuMemcpy3D(solid(there(30, Height=4), host(30, Height=5), 30, 5, 2)))]
codes += [code(cu.cuMemcpy2D(plane(there(9), host(9), 0, 5)))]
print(json.dumps(codes))
"""
    )
    assert said == [1] * 7 + [0, 1, 0]


def test_a_graph_copies_and_fills_rows(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
graph = ok(cu.cuGraphCreate(0)); fill = cu.CUDA_MEMSET_NODE_PARAMS()
fill.dst, fill.value, fill.elementSize, fill.width, fill.height, fill.pitch = device, 5, 1, 10, 4, 32
ok(cu.cuMemsetD8(device, 0, 512)); first = ok(cu.cuGraphAddMemsetNode(graph, [], 0, fill, near))
copy = solid(end(DEVICE, device, 32, Height=4), end(HOST, back.ctypes.data, 16, Height=4), 16, 4, 1)
node = ok(cu.cuGraphAddMemcpyNode(graph, [first], 1, copy, near)); executable = ok(cu.cuGraphInstantiate(graph, 0))
ok(cu.cuGraphLaunch(executable, stream)); ok(cu.cuStreamSynchronize(stream))
told, filled = ok(cu.cuGraphMemcpyNodeGetParams(node)), ok(cu.cuGraphMemsetNodeGetParams(first))
rows = back[:64].reshape(4, 16).tolist() == [[5] * 10 + [0] * 6] * 4
print(json.dumps([rows, told.Height, int(told.dstPitch), filled.pitch]))
"""
    )
    assert said == [True, 4, 16, 32]
