"""Pools of stream-ordered memory: their rights, what they hold, and what becomes of them; and host memory's flags."""

from __future__ import annotations

from tests.virtual.driver.thread_machine import Machine

POOLS = """
MIB = 1 << 20
DEVICE = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
def code(answer): return int(answer[0])
def pool_on(device, most=0, handles=0):
    props = cu.CUmemPoolProps()
    props.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    props.handleTypes, props.maxSize = cu.CUmemAllocationHandleType(handles), most
    props.location.type, props.location.id = DEVICE, device
    return cu.cuMemPoolCreate(props)
def give(pool, device, flags=3):
    right = cu.CUmemAccessDesc()
    right.location.type, right.location.id, right.flags = DEVICE, device, cu.CUmemAccess_flags(flags)
    return cu.cuMemPoolSetAccess(pool, [right], 1)
def rights(pool, device):
    asked = cu.CUmemLocation(); asked.type, asked.id = DEVICE, device
    return int(ok(cu.cuMemPoolGetAccess(pool, asked)))
A = cu.CUmemPool_attribute
def get(pool, name): return int(ok(cu.cuMemPoolGetAttribute(pool, getattr(A, "CU_MEMPOOL_ATTR_" + name))))
def put(pool, name, value):
    return cu.cuMemPoolSetAttribute(pool, getattr(A, "CU_MEMPOOL_ATTR_" + name), cu.cuuint64_t(value))
ok(cu.cuInit(0)); far = use(1); near = use(0); stream = ok(cu.cuStreamCreate(1))
"""


def test_peers_use_pool_memory_by_the_pools_rights_alone(hgx: Machine) -> None:
    said = hgx.out(
        POOLS
        + """
pool = ok(pool_on(0)); va = ok(cu.cuMemAllocFromPoolAsync(MIB, pool, stream)); ok(cu.cuStreamSynchronize(stream))
use(1); module = kernels("sm_90"); ok(cu.cuCtxEnablePeerAccess(near, 0))
before = rights(pool, 1); ok(give(pool, 1)); after = rights(pool, 1)
ok(launch(module, "dmaproof_fill", 0, va, MIB // 4, 1)); worked = code(cu.cuCtxSynchronize())
ok(give(pool, 1, 0))
ok(launch(module, "dmaproof_fill", 0, va, MIB // 4, 1)); refused = code(cu.cuCtxSynchronize())
print(json.dumps([before, after, worked, refused, rights(pool, 0)]))
"""
    )
    assert said == [0, 3, 0, 700, 3]


def test_a_pool_holds_what_its_threshold_allows(hgx: Machine) -> None:
    said = hgx.out(
        POOLS
        + """
free = lambda: ok(cu.cuMemGetInfo())[0]
before, pool = free(), ok(pool_on(0, most=8 * MIB)); ok(put(pool, "RELEASE_THRESHOLD", 4 * MIB))
vas = [ok(cu.cuMemAllocFromPoolAsync(3 * MIB, pool, stream)) for _ in range(2)]
full = [get(pool, "USED_MEM_CURRENT"), code(cu.cuMemAllocFromPoolAsync(3 * MIB, pool, stream))]
for va in vas: ok(cu.cuMemFreeAsync(va, stream))
ok(cu.cuStreamSynchronize(stream))
held = [get(pool, name) for name in ("USED_MEM_CURRENT", "RESERVED_MEM_CURRENT", "USED_MEM_HIGH")] + [before - free()]
again = ok(cu.cuMemAllocFromPoolAsync(3 * MIB, pool, stream)); same = before - free()
ok(cu.cuMemPoolTrimTo(pool, 0)); trimmed = before - free()
ok(put(pool, "USED_MEM_HIGH", 0)); refused = code(put(pool, "USED_MEM_HIGH", 1))
ok(cu.cuMemPoolDestroy(pool)); stale = code(cu.cuMemPoolTrimTo(pool, 0))
ok(cu.cuMemFreeAsync(again, stream)); ok(cu.cuStreamSynchronize(stream))
print(json.dumps([full, held, same, trimmed, refused, stale, before - free()]))
"""
    )
    mib = 1 << 20
    assert said == [[6 * mib, 2], [0, 4 * mib, 6 * mib, 4 * mib], 4 * mib, 3 * mib, 1, 1, 0]


def test_a_devices_pools_and_what_they_refuse(hgx: Machine) -> None:
    said = hgx.out(
        POOLS
        + """
default, pool, other = ok(cu.cuDeviceGetDefaultMemPool(0)), ok(pool_on(0)), ok(pool_on(1))
codes = [code(cu.cuMemPoolDestroy(default)), code(cu.cuDeviceSetMemPool(0, other)), code(pool_on(0, handles=2))]
codes += [code(pool_on(99)), code(give(pool, 0, 0)), code(give(pool, 99)), code(cu.cuDeviceSetMemPool(0, pool))]
of = lambda: int(ok(cu.cuPointerGetAttribute(
    cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, ok(cu.cuMemAllocAsync(MIB, stream)))))
first = of() == int(pool)
ok(cu.cuMemPoolDestroy(pool)); second = of() == int(default) == int(ok(cu.cuDeviceGetMemPool(0)))
print(json.dumps([codes, first, second]))
"""
    )
    assert said == [[1, 1, 801, 101, 1, 101, 0], True, True]


def test_host_memory_keeps_its_flags_and_is_registered_once(pair: Machine) -> None:
    said = pair.out(
        """
        ok(cu.cuInit(0)); use(0)
        def code(answer): return int(answer[0])
        combined = int(ok(cu.cuMemHostAlloc(8192, 1 | 4)))
        flags = int(ok(cu.cuMemHostGetFlags(combined + 100)))
        words = np.zeros(8192, np.uint32); address = words.ctypes.data
        ok(cu.cuMemHostRegister(address + 8192, 4096, 3))
        codes = [code(cu.cuMemHostRegister(address, words.nbytes, 0)), code(cu.cuMemHostRegister(0, 4096, 0))]
        codes += [code(cu.cuMemHostRegister(address, 4096, 8)), code(cu.cuMemHostRegister(address, 4096, 64))]
        codes += [code(cu.cuMemHostGetFlags(address + 8192)), code(cu.cuMemHostAlloc(4096, 8))]
        codes += [code(cu.cuMemFreeHost(address + 8192)), code(cu.cuMemHostUnregister(combined))]
        pointer = int(ok(cu.cuMemHostGetDevicePointer(address + 8200, 0))) - address
        attribute = lambda name, at: int(ok(cu.cuPointerGetAttribute(
            getattr(cu.CUpointer_attribute, "CU_POINTER_ATTRIBUTE_" + name), at)))
        kinds = [attribute("MEMORY_TYPE", at) for at in (combined, address + 8192)]
        print(json.dumps([flags, codes, pointer, kinds, attribute("HOST_POINTER", address + 8200) - address]))
        """
    )
    assert said == [5, [712, 1, 801, 1, 1, 1, 1, 713], 8200, [1, 1], 8200]
