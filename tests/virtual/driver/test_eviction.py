"""Managed memory beyond what a GPU has room for."""

from __future__ import annotations

from tests.virtual.driver.thread_machine import Machine

GPU0 = "0000:1b:00.0"
MiB = 1 << 20

CROWDED = """
from dmaproof.virtual.driver.driver import driver
ok(cu.cuInit(0)); use(0); module = kernels("sm_90"); MiB = 1 << 20
free, total = ok(cu.cuMemGetInfo())
ballast = ok(cu.cuMemAlloc(free - 4 * MiB))
def managed(nbytes):
    memory = ok(cu.cuMemAllocManaged(nbytes, 1))
    return memory, view(memory, nbytes, ctypes.c_uint32)
def on_gpu(name, memory, *values):
    ok(launch(module, name, 0, memory, *values)); ok(cu.cuCtxSynchronize())
def held(memory):
    pages = driver().space.at(int(memory), "managed").memory
    return int(((pages.where & 2) != 0).sum()) << 16
def left(): return int(ok(cu.cuMemGetInfo())[0])
"""


def test_more_than_fits_goes_through_the_gpu_in_parts(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{CROWDED}
n = 10 * MiB
memory, words = managed(n)
seen = [left()]
on_gpu("dmaproof_fill", memory, n // 4, 3); seen += [held(memory), left()]
on_gpu("dmaproof_increment", memory, n // 4); seen += [held(memory), left()]
other, _ = managed(MiB)
on_gpu("dmaproof_fill", other, MiB // 4, 5); seen += [held(memory), held(other)]
from dmaproof.cuda.kernels import pattern
assert (words == pattern(n // 4, 3) + np.uint32(1)).all()
print(json.dumps(seen))
"""
    )
    assert seen == [4 * MiB, 4 * MiB, 0, 4 * MiB, 0, 3 * MiB, MiB]
    faults = [one["nbytes"] for one in hgx.asked("fault") if one["gpu"] == GPU0][:3]
    assert faults == [4 * MiB, 4 * MiB, 2 * MiB]
    written = [one for one in hgx.asked("dma") if one["source"] == GPU0 and one["target"] == "host"]
    assert sum(one["nbytes"] for one in written) >= 6 * MiB, "pages left without a transfer"


def test_memory_of_the_gpu_itself_makes_managed_pages_go(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{CROWDED}
memory, words = managed(3 * MiB)
on_gpu("dmaproof_fill", memory, 3 * MiB // 4, 3); seen = [held(memory), left()]
ok(cu.cuMemAlloc(2 * MiB)); seen += [held(memory), left()]
print(json.dumps(seen + [int(cu.cuMemAlloc(3 * MiB)[0])]))
"""
    )
    assert seen == [3 * MiB, MiB, 2 * MiB, 0, 2]


def test_a_prefetch_evicts_too(hgx: Machine) -> None:
    seen = hgx.out(
        f"""{CROWDED}
place = cu.CUmemLocation(); place.type, place.id = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, 0
memory, words = managed(3 * MiB); other, _ = managed(3 * MiB)
words[:] = 7
for one in (memory, other):
    ok(cu.cuMemPrefetchAsync(one, 3 * MiB, place, 0, 0)); ok(cu.cuCtxSynchronize())
assert (words == 7).all()
print(json.dumps([held(memory), held(other)]))
"""
    )
    assert seen == [0, 3 * MiB]
