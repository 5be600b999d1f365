"""Memory by handle: created, mapped, made accessible, exported and imported; and what each step refuses."""

from __future__ import annotations

from tests.virtual.driver.thread_machine import PRELUDE, Machine

VMM = """
import os
MIB = 1 << 20
def prop(device=0, handles=1, kind=cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE):
    made = cu.CUmemAllocationProp()
    made.type = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    made.requestedHandleTypes = cu.CUmemAllocationHandleType(handles)
    made.location.type, made.location.id = kind, device
    return made

def right(device, flags=3, kind=cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE):
    made = cu.CUmemAccessDesc()
    made.location.type, made.location.id, made.flags = kind, device, cu.CUmemAccess_flags(flags)
    return made

def code(answer): return int(answer[0])

def mapped(device, nbytes, *rights):
    handle, va = ok(cu.cuMemCreate(nbytes, prop(device), 0)), ok(cu.cuMemAddressReserve(nbytes, 0, 0, 0))
    ok(cu.cuMemMap(va, nbytes, 0, handle, 0))
    if rights: ok(cu.cuMemSetAccess(va, nbytes, list(rights), len(rights)))
    return handle, va

FD = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
FABRIC = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_FABRIC
HOST_NUMA = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST_NUMA
ok(cu.cuInit(0)); far = use(1); near = use(0)
"""


def test_memory_lives_as_long_as_a_handle_or_a_mapping(hgx: Machine) -> None:
    said = hgx.out(
        VMM
        + """
free = lambda: ok(cu.cuMemGetInfo())[0]
before = free()
granularity = ok(cu.cuMemGetAllocationGranularity(prop(), cu.CUmemAllocationGranularity_flags(0)))
handle, va = mapped(0, 4 * MIB, right(0))
taken = before - free()
same = int(ok(cu.cuMemRetainAllocationHandle(int(va) + 5))) == int(handle)
known = ok(cu.cuMemGetAllocationPropertiesFromHandle(handle))
ok(cu.cuMemRelease(handle)); ok(cu.cuMemRelease(handle))
stale = code(cu.cuMemRelease(handle))
held = before - free()
ok(cu.cuMemsetD8(va, 7, 4 * MIB)); back = np.zeros(4 * MIB, np.uint8)
ok(cu.cuMemcpyDtoH(back.ctypes.data, va, back.nbytes))
early = code(cu.cuMemAddressFree(va, 4 * MIB))
ok(cu.cuMemUnmap(va, 4 * MIB))
gone = [before - free(), code(cu.cuMemsetD8(va, 7, 1)), code(cu.cuMemUnmap(va, 4 * MIB))]
codes = [code(cu.cuMemAddressFree(va, 2 * MIB)), code(cu.cuMemAddressFree(va, 4 * MIB))]
print(json.dumps([granularity, taken, same, [int(known.location.type), known.location.id], stale, held,
                  bool((back == 7).all()), early, gone, codes]))
"""
    )
    four = 4 << 20
    assert said == [2 << 20, four, True, [1, 0], 1, four, True, 1, [0, 1, 1], [1, 0]]


def test_nobody_uses_memory_without_a_right_to_it(hgx: Machine) -> None:
    said = hgx.out(
        VMM
        + """
module = kernels("sm_90")
handle, va = mapped(0, 2 * MIB)
def flags(device): asked = right(device); return int(ok(cu.cuMemGetAccess(asked.location, va)))
codes = [code(cu.cuMemsetD8(va, 1, 8)), flags(0)]
ok(cu.cuMemSetAccess(va, 2 * MIB, [right(0), right(1, 1)], 2))
codes += [code(cu.cuMemsetD8(va, 1, 8)), flags(0), flags(1), flags(2)]
use(1); other = kernels("sm_90"); result = ok(cu.cuMemAlloc(16))
ok(launch(other, "dmaproof_verify", 0, va, 2, 7, result)); codes.append(code(cu.cuCtxSynchronize()))
ok(launch(other, "dmaproof_fill", 0, va, 2, 7)); codes.append(code(cu.cuCtxSynchronize()))
use(0); codes.append(code(cu.cuCtxSynchronize()))
print(json.dumps(codes))
"""
    )
    assert said == [1, 0, 0, 3, 1, 0, 0, 700, 0]


def test_a_peer_that_was_given_the_right_writes_without_peer_access(hgx: Machine) -> None:
    assert hgx.out(
        VMM
        + """
handle, va = mapped(0, 4 * MIB, right(0), right(1))
use(1); other = kernels("sm_90")
ok(launch(other, "dmaproof_fill", 0, va, MIB, 9)); ok(cu.cuCtxSynchronize())
use(0); own = kernels("sm_90")
print(json.dumps(verify(own, 0, va, MIB, 9)))
"""
    ) == [0, 2**64 - 1]
    (write,) = [one for one in hgx.asked("dma") if one["source"] != one["target"] and one["engine"] == "sm"]
    assert write["source"] == "0000:43:00.0"


def test_mappings_side_by_side_are_one_range(hgx: Machine) -> None:
    assert hgx.out(
        VMM
        + """
va = int(ok(cu.cuMemAddressReserve(8 * MIB, 0, 0, 0)))
for index in (0, 1, 2):
    ok(cu.cuMemMap(va + index * 2 * MIB, 2 * MIB, 0, ok(cu.cuMemCreate(2 * MIB, prop(), 0)), 0))
ok(cu.cuMemSetAccess(va, 6 * MIB, [right(0)], 1))
module = kernels("sm_90"); nwords = 6 * MIB // 4 - 3
ok(launch(module, "dmaproof_fill", 0, va + 4, nwords, 3))
content = np.random.default_rng(1).integers(0, 256, 3 * MIB, np.uint8); back = np.empty_like(content)
seen = verify(module, 0, va + 4, nwords, 3)
ok(cu.cuMemcpyHtoD(va + MIB + 1, content.ctypes.data, 3 * MIB))
ok(cu.cuMemcpyDtoH(back.ctypes.data, va + MIB + 1, 3 * MIB))
attribute = lambda name: int(ok(cu.cuPointerGetAttribute(
    getattr(cu.CUpointer_attribute, "CU_POINTER_ATTRIBUTE_" + name), va + 5 * MIB)))
ranges = [attribute(name) for name in ("RANGE_SIZE", "MAPPING_SIZE")]
unmapped = int(ok(cu.cuPointerGetAttribute(cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MAPPED, va + 7 * MIB)))
codes = [code(cu.cuMemcpyDtoH(back.ctypes.data, va + 4 * MIB, 2 * MIB + 1)), code(cu.cuMemUnmap(va, 3 * MIB))]
codes.append(code(cu.cuMemUnmap(va + 2 * MIB, 4 * MIB)))
print(json.dumps([seen, back.tobytes() == content.tobytes(), ranges, unmapped, codes]))
"""
    ) == [[0, 2**64 - 1], True, [8 << 20, 2 << 20], 0, [1, 1, 0]]


def test_what_cannot_be_is_refused_as_documented(hgx: Machine) -> None:
    said = hgx.out(
        VMM
        + """
codes = [cu.cuMemCreate(MIB, prop(), 0), cu.cuMemCreate(2 * MIB, prop(), 1), cu.cuMemCreate(2 * MIB, prop(99), 0)]
codes += [cu.cuMemCreate(2 * MIB, prop(handles=8), 0), cu.cuMemCreate(2 * MIB, prop(handles=2), 0)]
codes += [cu.cuMemAddressReserve(5000, 0, 0, 0), cu.cuMemAddressReserve(2 * MIB, 3, 0, 0)]
handle, va = mapped(0, 4 * MIB); plain = ok(cu.cuMemCreate(2 * MIB, prop(handles=0), 0))
codes += [cu.cuMemMap(va, 2 * MIB, 0, handle, 0), cu.cuMemMap(int(va) + 4 * MIB, 2 * MIB, 0, handle, 0)]
codes += [cu.cuMemSetAccess(va, 2 * MIB, [right(0)], 1), cu.cuMemSetAccess(va, 4 * MIB, [right(99)], 1)]
codes += [cu.cuMemSetAccess(va, 4 * MIB, [right(0, kind=HOST_NUMA)], 1)]
codes += [cu.cuMemExportToShareableHandle(plain, FD, 0), cu.cuMemExportToShareableHandle(handle, FABRIC, 0)]
file = os.open("/dev/null", os.O_RDWR)
codes += [cu.cuMemImportFromShareableHandle(file, FD), cu.cuMemImportFromShareableHandle(999, FD)]
codes += [cu.cuMemFree(va)]
print(json.dumps([int(one[0]) for one in codes]))
"""
    )
    assert said == [1, 1, 101, 800, 801, 1, 1, 1, 1, 1, 101, 1, 1, 1, 1, 1, 1]


def test_a_gpu_without_switches_has_no_fabric_handles_and_no_host_memory_by_handle(pair: Machine) -> None:
    said = pair.out(
        VMM
        + """
codes = [cu.cuMemCreate(2 * MIB, prop(handles=8), 0), cu.cuMemCreate(2 * MIB, prop(kind=HOST_NUMA), 0)]
print(json.dumps([int(one[0]) for one in codes]))
"""
    )
    assert said == [801, 801]


def test_host_memory_by_handle_is_seen_by_cpu_and_gpu(hgx: Machine) -> None:
    assert hgx.out(
        VMM
        + """
handle = ok(cu.cuMemCreate(2 * MIB, prop(kind=HOST_NUMA), 0))
va = ok(cu.cuMemAddressReserve(2 * MIB, 0, 0, 0)); ok(cu.cuMemMap(va, 2 * MIB, 0, handle, 0))
ok(cu.cuMemSetAccess(va, 2 * MIB, [right(0), right(0, kind=HOST_NUMA)], 2))
words = view(va, 2 * MIB, ctypes.c_uint32); words[:] = 5
module = kernels("sm_90"); ok(launch(module, "dmaproof_increment", 0, va, len(words))); ok(cu.cuCtxSynchronize())
kind = int(ok(cu.cuPointerGetAttribute(cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, va)))
seen = sorted(set(words.tolist()))
ok(cu.cuMemUnmap(va, 2 * MIB)); ok(cu.cuMemRelease(handle)); ok(cu.cuMemAddressFree(va, 2 * MIB))
print(json.dumps([seen, kind]))
"""
    ) == [[6], 1]
    assert {one["source"] for one in hgx.asked("dma")} | {one["target"] for one in hgx.asked("dma")} >= {"host"}


EXPORTER = """
handle, va = mapped(0, 4 * MIB, right(0))
module = kernels("sm_90"); ok(launch(module, "dmaproof_fill", 0, va, MIB, 21)); ok(cu.cuCtxSynchronize())
fd = int(ok(cu.cuMemExportToShareableHandle(handle, FD, 0)))
import subprocess
child = subprocess.Popen([sys.executable, "-c", IMPORTER, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE, text=True)
said = child.communicate(timeout=60)[0]
print(json.dumps([said.split(), verify(module, 0, va, MIB, 22)]))
"""
IMPORTER = """
fd = int(sys.argv[1])
imported = ok(cu.cuMemImportFromShareableHandle(fd, FD)); os.close(fd)
known = ok(cu.cuMemGetAllocationPropertiesFromHandle(imported))
va = ok(cu.cuMemAddressReserve(4 * MIB, 0, 0, 0)); ok(cu.cuMemMap(va, 4 * MIB, 0, imported, 0))
ok(cu.cuMemSetAccess(va, 4 * MIB, [right(0), right(1)], 2)); use(1); module = kernels("sm_90")
seen = verify(module, 0, va, MIB, 21)
ok(launch(module, "dmaproof_fill", 0, va, MIB, 22)); ok(cu.cuCtxSynchronize())
print(known.location.id, *seen)
"""


def test_memory_exported_as_a_descriptor_is_the_same_memory_in_another_process(hgx: Machine) -> None:
    told = f"IMPORTER = {(PRELUDE + VMM + IMPORTER)!r}\n"
    assert hgx.out(VMM + told + EXPORTER) == [["0", "0", str(2**64 - 1)], [0, 2**64 - 1]]
