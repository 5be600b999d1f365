"""Pools of managed and of host memory (CUDA 13): where their memory is, who may use it, and what they refuse."""

from __future__ import annotations

from tests.virtual.driver.test_pools import POOLS
from tests.virtual.driver.thread_machine import Machine

START = (
    POOLS
    + """
K, L = cu.CUmemAllocationType, cu.CUmemLocationType
MANAGED, PINNED = K.CU_MEM_ALLOCATION_TYPE_MANAGED, K.CU_MEM_ALLOCATION_TYPE_PINNED
def place(name, number=0):
    one = cu.CUmemLocation(); one.type, one.id = getattr(L, "CU_MEM_LOCATION_TYPE_" + name), number
    return one
def new(kind, where, number=0, handles=0):
    props = cu.CUmemPoolProps(); props.allocType, props.location = kind, place(where, number)
    props.handleTypes = cu.CUmemAllocationHandleType(handles)
    return cu.cuMemPoolCreate(props)
def take(pool, nbytes=MIB):
    va = ok(cu.cuMemAllocFromPoolAsync(nbytes, pool, stream)); ok(cu.cuStreamSynchronize(stream)); return va
def attribute(name, va):
    return int(ok(cu.cuPointerGetAttribute(getattr(cu.CUpointer_attribute, "CU_POINTER_ATTRIBUTE_" + name), va)))
"""
)


def test_managed_memory_of_a_pool_is_everybodys_and_prefers_the_pools_place(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
R = cu.CUmem_range_attribute.CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION
def prefers(where, number=-1):
    va = take(ok(new(MANAGED, where, number)))
    return int(ok(cu.cuMemRangeGetAttribute(4, R, va, MIB)))
locations = [prefers("NONE"), prefers("HOST"), prefers("DEVICE", 1)]
pool = ok(new(MANAGED, "NONE")); va = take(pool); words = view(va, MIB, ctypes.c_uint32); words[:] = 4
used = [get(pool, "USED_MEM_CURRENT")]
for ordinal in (0, 1):
    use(ordinal); ok(launch(kernels("sm_90"), "dmaproof_increment", 0, va, MIB // 4)); ok(cu.cuCtxSynchronize())
use(0); managed = attribute("IS_MANAGED", va); seen = sorted(set(words.tolist()))
ok(cu.cuMemFreeAsync(va, stream)); ok(cu.cuStreamSynchronize(stream)); used.append(get(pool, "USED_MEM_CURRENT"))
again = code(cu.cuMemFreeAsync(va, stream)); ok(cu.cuMemFree(take(pool))); used.append(get(pool, "USED_MEM_CURRENT"))
print(json.dumps([locations, used, managed, seen, again, rights(pool, 1)]))
"""
    )
    assert said == [[-2, -1, 1], [1 << 20, 0, 0], 1, [6], 1, 3]


def test_host_memory_of_a_pool_is_the_hosts_until_a_gpu_gets_rights(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
module = kernels("sm_90"); pool = ok(new(PINNED, "HOST_NUMA")); va = take(pool)
words = view(va, MIB, ctypes.c_uint32); words[:] = 7
def by_gpu():
    ok(launch(module, "dmaproof_increment", stream, va, MIB // 4)); return code(cu.cuStreamSynchronize(stream))
kind, before = attribute("MEMORY_TYPE", va), rights(pool, 0); ok(give(pool, 0)); worked = by_gpu()
after, refused = rights(pool, 0), code(cu.cuMemFreeHost(va)); ok(give(pool, 0, 0)); seen = int(words[-1])
print(json.dumps([kind, before, worked, after, refused, seen, by_gpu()]))
"""
    )
    assert said == [1, 0, 0, 3, 1, 8, 700]


def test_places_have_pools_and_refuse_those_of_others(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
host, managed = ok(new(PINNED, "HOST", -1)), ok(new(MANAGED, "NONE", -1))
codes = [code(new(PINNED, "NONE")), code(new(PINNED, "HOST", handles=1)), code(new(PINNED, "HOST_NUMA_CURRENT"))]
codes += [code(new(PINNED, "HOST_NUMA", 99)), code(new(MANAGED, "DEVICE", 99))]
codes += [code(cu.cuMemSetMemPool(place("HOST"), PINNED, one)) for one in (managed, host)]
current = int(ok(cu.cuMemGetMemPool(place("HOST", 5), PINNED))) == int(host)
first = int(ok(cu.cuMemGetDefaultMemPool(place("HOST"), PINNED))); kept = code(cu.cuMemPoolDestroy(first))
ok(cu.cuMemPoolDestroy(host)); back = int(ok(cu.cuMemGetMemPool(place("HOST"), PINNED))) == first
other = int(ok(cu.cuMemGetMemPool(place("NONE"), MANAGED))) != first
print(json.dumps([codes, current, kept, back, other]))
"""
    )
    assert said == [[1, 1, 1, 1, 101, 1, 0], True, 1, True, True]


def test_a_numa_nodes_pool_is_shared_with_another_process(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
import subprocess
FD = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
pool = ok(new(PINNED, "HOST_NUMA", handles=1)); va = take(pool, 8192); view(va, 8192)[:] = 9
fd = int(ok(cu.cuMemPoolExportToShareableHandle(pool, FD, 0)))
data = ctypes.string_at(int(ok(cu.cuMemPoolExportPointer(va)).getPtr()), 64)
there = '''
import ctypes, sys
from cuda.bindings import driver as cu
cu.cuInit(0); context = cu.cuDevicePrimaryCtxRetain(0)[1]; cu.cuCtxSetCurrent(context)
FD = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
pool = cu.cuMemPoolImportFromShareableHandle(int(sys.argv[1]), FD, 0)[1]
data = cu.CUmemPoolPtrExportData(); ctypes.memmove(int(data.getPtr()), bytes.fromhex(sys.argv[2]), 64)
va = int(cu.cuMemPoolImportPointer(pool, data)[1]); seen = (ctypes.c_uint8 * 8192).from_address(va)
print(sum(seen), int(cu.cuMemAllocFromPoolAsync(64, pool, 0)[0])); seen[5] = 1
print(int(cu.cuMemFreeAsync(va, 0)[0]))
'''
done = subprocess.run([sys.executable, "-c", there, str(fd), data.hex()], pass_fds=[fd], capture_output=True, text=True)
print(json.dumps([done.stdout.split(), int(view(va, 8192)[5]), done.stderr, code(cu.cuMemFree(va))]))
"""
    )
    assert said == [[str(9 * 8192), "1", "0"], 1, "", 0]


def test_cuda_core_allocates_from_pools_of_every_kind(hgx: Machine) -> None:
    said = hgx.out(
        """
from cuda.core import Device, ManagedMemoryResource, ManagedMemoryResourceOptions as Managed
from cuda.core import PinnedMemoryResource, PinnedMemoryResourceOptions as Pinned
device = Device(0); device.set_current(); stream = device.create_stream(); seen = []
source = device.allocate(4096, stream=stream); source.fill(3, stream=stream)
for resource in (ManagedMemoryResource(), ManagedMemoryResource(Managed(preferred_location=1)), PinnedMemoryResource(),
                 PinnedMemoryResource(Pinned(numa_id=0)), PinnedMemoryResource(Pinned(ipc_enabled=True))):
    buffer = resource.allocate(4096, stream=stream); source.copy_to(buffer, stream=stream); stream.sync()
    seen.append([int(view(buffer.handle, 4096).sum()), resource.attributes.used_mem_current])
    buffer.close(stream); stream.sync(); seen[-1].append(resource.attributes.used_mem_current)
source.close(stream); print(json.dumps(seen))
"""
    )
    assert said == [[3 * 4096, 4096, 0]] * 5


def test_a_copy_that_a_gpu_without_rights_to_a_pool_is_asked_for_is_refused(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
pool = ok(pool_on(0)); va = take(pool); use(1); own = ok(cu.cuMemAlloc(MIB)); far = ok(cu.cuStreamCreate(1))
asked = lambda: [code(cu.cuMemcpyAsync(own, va, 64, far)), code(cu.cuMemcpyAsync(va, own, 64, far)),
                 code(cu.cuMemsetD8Async(va, 1, 64, far))]
before = asked(); ok(give(pool, 1)); after = asked(); use(0)
print(json.dumps([before, after, code(cu.cuMemcpyAsync(own, va, 64, stream))]))
"""
    )
    assert said == [[1, 1, 1], [0, 0, 0], 0]


def test_the_driver_is_called_while_an_exception_is_under_way(hgx: Machine) -> None:
    """A pool that goes with the loop which fails: what is to be raised is none of the driver's business."""
    said = hgx.out(
        """
from cuda.core import Device, PinnedMemoryResource, PinnedMemoryResourceOptions
Device(0).set_current(); ended = None
def failing():
    for one in (PinnedMemoryResource(PinnedMemoryResourceOptions()),):
        del one
        raise ValueError("of the program")
try:
    failing()
except ValueError as error:
    ended = str(error)
print(json.dumps(ended))
"""
    )
    assert said == "of the program"


def test_rights_to_a_pool_are_those_of_the_current_gpu_whichever_the_stream_is_of(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
use(1); pools = [ok(pool_on(0)), ok(pool_on(1))]; use(0); vas = [take(pool) for pool in pools]
def asked():
    seen = []
    for one in (0, 1):
        use(one); seen += [code(cu.cuMemcpyAsync(*ends, 64, stream)) for ends in (vas, vas[::-1])]
    return seen
before = asked(); ok(give(pools[0], 1)); print(json.dumps([before, asked(), int(ok(cu.cuMemAllocAsync(0, stream)))]))
"""
    )
    assert said == [[1, 1, 1, 1], [1, 1, 0, 0], 0]


def test_batches_of_ranges_are_prefetched_and_discarded(hgx: Machine) -> None:
    said = hgx.out(
        START
        + """
va = int(ok(cu.cuMemAllocManaged(4 * MIB, 1))); view(va, 4 * MIB)[:] = 6
LAST = cu.CUmem_range_attribute.CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION
def last(at): return int(ok(cu.cuMemRangeGetAttribute(4, LAST, at, MIB)))
ranges = [cu.CUdeviceptr(va + at * MIB) for at in range(3)], [MIB] * 3, 3
ok(cu.cuMemPrefetchBatchAsync(*ranges, [place("DEVICE", 1), place("DEVICE", 0)], [0, 2], 2, 0, stream))
ok(cu.cuStreamSynchronize(stream)); seen = [last(va + at * MIB) for at in range(4)]
ok(cu.cuMemDiscardBatchAsync(*ranges, 0, stream))
ok(cu.cuMemDiscardAndPrefetchBatchAsync(*ranges, [place("HOST")], [0], 1, 0, stream))
ok(cu.cuStreamSynchronize(stream))
wrong = ([1], 1, 0, stream), ([0], 1, 0, 0)
codes = [code(cu.cuMemPrefetchBatchAsync(*ranges, [place("HOST")], *more)) for more in wrong]
codes += [code(cu.cuMemDiscardBatchAsync(*ranges, 1, stream))]
print(json.dumps([seen, last(va), codes]))
"""
    )
    assert said == [[1, 1, 0, -2], -1, [1, 1, 1]]
