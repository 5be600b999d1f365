"""Managed memory: one address for CPU and GPU, pages that really move, CPU faults that are really taken."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine

GPU0, GPU1 = "0000:1b:00.0", "0000:43:00.0"
PAGE = 64 << 10

START = """
ok(cu.cuInit(0)); use(1); module1 = kernels("sm_90"); use(0); module = kernels("sm_90")
stream = ok(cu.cuStreamCreate(1))
from dmaproof.virtual.driver.driver import driver

def managed(nbytes):
    memory = ok(cu.cuMemAllocManaged(nbytes, 1))
    return memory, view(memory, nbytes, ctypes.c_uint32)

def faults(memory):
    return driver().space.at(int(memory), "managed").memory.cpu_faults

def on_gpu(name, memory, *values):
    ok(launch(module, name, stream, memory, *values)); ok(cu.cuStreamSynchronize(stream))

def location(kind, number=0):
    place = cu.CUmemLocation()
    place.type, place.id = getattr(cu.CUmemLocationType, "CU_MEM_LOCATION_TYPE_" + kind), number
    return place

def told(name, memory, nbytes):
    attribute = getattr(cu.CUmem_range_attribute, "CU_MEM_RANGE_ATTRIBUTE_" + name)
    return int(ok(cu.cuMemRangeGetAttribute(4, attribute, memory, nbytes)))
"""


def test_the_cpu_takes_one_fault_a_page_that_a_gpu_holds_and_no_more(hgx: Machine) -> None:
    counts = hgx.out(
        f"""{START}
n = 8 * {PAGE}
memory, words = managed(n)
counts = [faults(memory)]
words[:] = 5; counts.append(faults(memory))
words[:] = 6; counts.append(faults(memory))
on_gpu("dmaproof_increment", memory, n // 4); counts.append(faults(memory))
assert words[0] == 7; counts.append(faults(memory))
assert (words == 7).all(); counts.append(faults(memory))
print(json.dumps(counts))
"""
    )
    assert counts == [0, 8, 8, 8, 9, 16]


def test_a_gpu_touch_of_cpu_pages_is_one_fault_toward_that_gpu(hgx: Machine) -> None:
    base = hgx.out(
        f"""{START}
n = 4 * {PAGE}
memory, words = managed(n)
words[:] = 0
on_gpu("dmaproof_fill", memory, n // 4, 3)
on_gpu("dmaproof_fill", memory, n // 4, 3)
assert words[{PAGE} // 4 * 2] >= 0
on_gpu("dmaproof_fill", memory, n // 4, 3)
print(json.dumps(int(memory)))
"""
    )
    whole, one = hgx.asked("fault")
    assert whole == {
        "op": "fault",
        "gpu": GPU0,
        "va": base,
        "nbytes": 4 * PAGE,
        "access": "write",
        "space": "managed",
        "toward": GPU0,
        "mapping": "private",
    }
    assert (one["va"], one["nbytes"]) == (base + 2 * PAGE, PAGE)


def test_pages_go_from_gpu_to_gpu(hgx: Machine) -> None:
    result = hgx.out(
        f"""{START}
memory, words = managed(1 << 20)
on_gpu("dmaproof_fill", memory, 1 << 18, 3)
use(1)
print(json.dumps([verify(module1, 0, memory, 1 << 18, 3), faults(memory)]))
"""
    )
    assert result == [[0, 2**64 - 1], 0]
    assert [(one["gpu"], one["access"]) for one in hgx.asked("fault")] == [(GPU0, "write"), (GPU1, "read")]


def test_prefetch_moves_pages_and_is_remembered(hgx: Machine) -> None:
    result = hgx.out(
        f"""{START}
n = 1 << 20
memory, words = managed(n)
words[:] = 9
seen = [told("LAST_PREFETCH_LOCATION", memory, n)]
ok(cu.cuMemPrefetchAsync(memory, n, location("DEVICE", 1), 0, stream)); ok(cu.cuStreamSynchronize(stream))
seen += [told("LAST_PREFETCH_LOCATION" + end, memory, n) for end in ("", "_TYPE", "_ID")]
use(1); ok(launch(module1, "dmaproof_increment", 0, memory, n // 4)); ok(cu.cuCtxSynchronize()); use(0)
before = faults(memory)
ok(cu.cuMemPrefetchAsync(memory, n, location("HOST"), 0, stream)); ok(cu.cuStreamSynchronize(stream))
seen += [told("LAST_PREFETCH_LOCATION" + end, memory, n) for end in ("", "_TYPE")]
assert (words == 10).all() and faults(memory) == before
ok(cu.cuMemPrefetchAsync(memory, n // 2, location("DEVICE", 0), 0, stream))
print(json.dumps(seen + [told("LAST_PREFETCH_LOCATION", memory, n)]))
"""
    )
    assert result == [-2, 1, 1, 1, -1, 2, -2]
    kinds = [(one["gpu"], one["access"], one["toward"]) for one in hgx.asked("fault")]
    assert kinds == [(GPU1, "prefetch", GPU1), (GPU1, "prefetch", "host"), (GPU0, "prefetch", GPU0)]


def test_read_mostly_pages_have_copies_until_someone_writes(hgx: Machine) -> None:
    hgx.out(
        f"""{START}
n = {PAGE}
memory, words = managed(n)
words[:] = 4
ok(cu.cuMemAdvise(memory, n, cu.CUmem_advise.CU_MEM_ADVISE_SET_READ_MOSTLY, location("HOST")))
assert told("READ_MOSTLY", memory, n) == 1
before = faults(memory)
verify(module, stream, memory, n // 4, 1)
assert words[0] == 4 and faults(memory) == before, "the CPU has lost its copy"
verify(module, stream, memory, n // 4, 1)
words[0] = 5
assert faults(memory) == before + 1
verify(module, stream, memory, n // 4, 1)
before = faults(memory)
on_gpu("dmaproof_increment", memory, 1)
assert words[0] == 6 and faults(memory) == before + 1, "the GPU wrote and the CPU kept its copy"
print(json.dumps(None))
"""
    )
    assert [one["access"] for one in hgx.asked("fault")] == ["read", "read", "write"]


def test_preferred_location_host_is_read_over_the_bus_and_moves_nothing(hgx: Machine) -> None:
    hgx.out(
        f"""{START}
n = {PAGE}
memory, words = managed(n)
ok(cu.cuMemAdvise(memory, n, cu.CUmem_advise.CU_MEM_ADVISE_SET_PREFERRED_LOCATION, location("HOST")))
assert (told("PREFERRED_LOCATION", memory, n), told("PREFERRED_LOCATION_TYPE", memory, n)) == (-1, 2)
words[:] = 4
before = faults(memory)
verify(module, stream, memory, n // 4, 1)
verify(module, stream, memory, n // 4, 1)
assert words[0] == 4 and faults(memory) == before
print(json.dumps(None))
"""
    )
    assert [one["toward"] for one in hgx.asked("fault")] == ["host"]
    over_the_bus = [one for one in hgx.asked("dma") if one["engine"] == "sm" and one["source"] == "host"]
    assert [one["nbytes"] for one in over_the_bus] == [PAGE, PAGE]


def test_other_segmentation_faults_still_end_the_process(hgx: Machine) -> None:
    done = hgx.run(f"{START}\nmemory, words = managed(4096); words[0] = 1\nctypes.string_at(64)")
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr  # faulthandler, enabled before the driver, still speaks


def test_freed_managed_memory_is_gone(hgx: Machine) -> None:
    done = hgx.run(f"{START}\nmemory, words = managed(4096); words[0] = 1; ok(cu.cuMemFree(memory)); print(words[0])")
    assert done.returncode == -11


def test_many_threads_fault_at_once(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
import threading
n = 64 * {PAGE}
memory, words = managed(n)
def count(part):
    for _ in range(20):
        words[part::4] += np.uint32(1)
for _ in range(3):
    on_gpu("dmaproof_increment", memory, n // 4)
    threads = [threading.Thread(target=count, args=(part,)) for part in range(4)]
    [one.start() for one in threads]; [one.join() for one in threads]
print(json.dumps(sorted(set(words.tolist()))))
"""
    ) == [63]


@pytest.mark.parametrize("memory", ["pinned", "managed", "malloc"])
def test_cpu_and_kernel_answer_each_other_while_the_kernel_runs(hgx: Machine, memory: str) -> None:
    result = hgx.out(
        f"""{START}
libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p
make = dict(pinned=lambda: ok(cu.cuMemHostAlloc(4096, 3)), managed=lambda: ok(cu.cuMemAllocManaged(4096, 1)),
            malloc=lambda: libc.malloc(4096))
address = int(make[{memory!r}]()); flag = view(address, 4, ctypes.c_uint32); flag[0] = 0
rounds, begin = 1000, time.monotonic()
ok(launch(module, "dmaproof_pingpong", stream, address, rounds, grid=1, block=1))
for turn in range(rounds):
    flag[0] = 2 * turn + 1
    while flag[0] != 2 * turn + 2:
        assert time.monotonic() - begin < 30
ok(cu.cuStreamSynchronize(stream))
print(json.dumps(time.monotonic() - begin))
"""
    )
    assert result < 10  # far above what it takes; a lock-step by the interpreter's switch interval takes longer


def test_malloc_memory_is_used_in_place_where_the_node_addresses_it(hgx: Machine) -> None:
    address = hgx.out(
        f"""{START}
words = np.zeros(1 << 18, np.uint32)
on_gpu("dmaproof_fill", words.ctypes.data, 1 << 18, 3)
assert verify(module, stream, words.ctypes.data, 1 << 18, 3)[0] == 0
assert words.any()
print(json.dumps(words.ctypes.data))
"""
    )
    fault = hgx.asked("fault")[0]
    assert (fault["va"], fault["space"], fault["toward"], fault["access"]) == (address, "system", GPU0, "write")


def test_unmapped_memory_is_an_illegal_address_also_there(hgx: Machine) -> None:
    codes = hgx.out(
        f"""{START}
import mmap
hole = mmap.mmap(-1, 8192); address = ctypes.addressof(ctypes.c_char.from_buffer(hole))
libc = ctypes.CDLL(None); libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(8192))
ok(launch(module, "dmaproof_fill", stream, address, 1024, 3))
print(json.dumps(int(cu.cuStreamSynchronize(stream)[0])), flush=True)
import os; os._exit(0)
"""
    )
    assert codes == 700


def test_malloc_memory_is_an_illegal_address_without_hmm_or_ats(pair: Machine) -> None:
    codes = pair.out(
        """
        ok(cu.cuInit(0)); use(0); module = kernels("sm_86"); words = np.zeros(1024, np.uint32)
        ok(launch(module, "dmaproof_fill", 0, words.ctypes.data, 1024, 3))
        print(json.dumps([int(cu.cuCtxSynchronize()[0]), int(words.any())]))
        """
    )
    assert codes == [700, 0]


def test_a_numa_node_of_the_host_is_a_place_of_its_own(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{START}
n = {PAGE}
memory, words = managed(n)
words[:] = 4
on_gpu("dmaproof_increment", memory, n // 4)
def ends(name): return [told(name + end, memory, n) for end in ("", "_TYPE", "_ID")]
ok(cu.cuMemPrefetchAsync(memory, n, location("HOST_NUMA", 1), 0, stream)); ok(cu.cuStreamSynchronize(stream))
before = faults(memory)
assert (words == 5).all() and faults(memory) == before, "the pages have not come to the host"
seen = [ends("LAST_PREFETCH_LOCATION")]
ok(cu.cuMemAdvise(memory, n, cu.CUmem_advise.CU_MEM_ADVISE_SET_PREFERRED_LOCATION, location("HOST_NUMA", 0)))
seen += [ends("PREFERRED_LOCATION")]
ok(cu.cuMemPrefetchAsync(memory, n, location("HOST_NUMA_CURRENT"), 0, stream))
seen += [told("LAST_PREFETCH_LOCATION_TYPE", memory, n)]
print(json.dumps(seen + [int(cu.cuMemPrefetchAsync(memory, n, location("HOST_NUMA", 2), 0, stream)[0])]))
"""
    )
    assert seen == [[-2, 3, 1], [-2, 3, 0], 3, 101]


def test_advised_gpus_are_named_and_a_mapping_that_came_by_itself_is_no_advice(hgx: Machine) -> None:
    named = hgx.out(
        f"""{START}
n = 2 * {PAGE}
memory, words = managed(n)
words[:] = 4
def accessed_by(nbytes, room=3):
    name = cu.CUmem_range_attribute.CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY
    return ok(cu.cuMemRangeGetAttribute(4 * room, name, memory, nbytes))
def advise(name, nbytes, *place):
    ok(cu.cuMemAdvise(memory, nbytes, getattr(cu.CUmem_advise, "CU_MEM_ADVISE_" + name), location(*place)))
advise("SET_PREFERRED_LOCATION", n, "HOST")
verify(module, stream, memory, n // 4, 1)
named = [accessed_by(n)]
advise("SET_ACCESSED_BY", n // 2, "DEVICE", 5); advise("SET_ACCESSED_BY", n, "DEVICE", 2)
named += [accessed_by(n), accessed_by(n // 2), accessed_by(n // 2, room=1)]
advise("UNSET_ACCESSED_BY", n, "DEVICE", 2)
print(json.dumps(named + [accessed_by(n)]))
"""
    )
    assert named == [[-2, -2, -2], [2, -2, -2], [2, 5, -2], [2], [-2, -2, -2]]


def test_another_gpus_mapping_spares_this_one_no_fault(hgx: Machine) -> None:
    hgx.out(
        f"""{START}
n = {PAGE}
memory, words = managed(n)
ok(cu.cuMemAdvise(memory, n, cu.CUmem_advise.CU_MEM_ADVISE_SET_PREFERRED_LOCATION, location("HOST")))
ok(cu.cuMemAdvise(memory, n, cu.CUmem_advise.CU_MEM_ADVISE_SET_ACCESSED_BY, location("DEVICE", 1)))
words[:] = 4
verify(module, stream, memory, n // 4, 1)
use(1); verify(module1, 0, memory, n // 4, 1)
print(json.dumps(None))
"""
    )
    assert [(one["gpu"], one["toward"]) for one in hgx.asked("fault")] == [(GPU0, "host")]
