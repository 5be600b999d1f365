"""A GPU works on the program's own memory while the program takes it away: faults as on a device, never a signal."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine

GPU0 = "0000:1b:00.0"

READING = """
from dmaproof.cuda.unified import regions
ok(cu.cuInit(0)); use(0); module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1)); PAGE = 4096
control = int(ok(cu.cuMemHostAlloc(4096, 3))); told = view(control, 64, ctypes.c_uint32); told[:] = 0

def passes(more):
    wanted = told[1] + more
    while told[1] < wanted and int(cu.cuStreamQuery(stream)[0]) == 600:
        time.sleep(0)

def read(address, nwords):
    values = (address, nwords, control, control + 4)
    ok(launch(module, "dmaproof_read_until", stream, *values, grid=1, block=32)); passes(1)

def stop():
    told[0] = 1
    return int(cu.cuStreamSynchronize(stream)[0])
"""


@pytest.mark.parametrize(
    ("taken", "code"),
    [
        ("regions.unmap(region)", 700),
        ("regions.protect(region, regions.NONE)", 700),
        ("regions.move(region, spare)", 700),
        ("regions.protect(region, regions.READ)", 0),
        ("regions.advise(region, regions.DONTNEED)", 0),
        ("regions.move(spare, region)", 0),
    ],
)
def test_what_is_taken_from_a_reading_kernel(hgx: Machine, taken: str, code: int) -> None:
    ended, before, after, start = hgx.out(
        f"""{READING}
with regions.mapped(4 * PAGE) as region, regions.mapped(4 * PAGE) as spare:
    region.words[:] = 2; spare.words[:] = 3
    read(region.address, 4 * PAGE // 4); before = int(told[2])
    {taken}; passes(3)
    print(json.dumps([stop(), before, int(told[2]), region.address]), flush=True)
import os; os._exit(0)
"""
    )
    assert ended == code
    assert before == 2 * 4096
    assert after == (0 if "DONTNEED" in taken else 3 * 4096 if "move(spare" in taken else before)
    unmapped = [(one["va"], one["gpu"]) for one in hgx.asked("fault") if one["space"] == "unmapped"]
    assert unmapped == ([(start, GPU0)] if code else [])


def test_a_hole_in_the_middle_is_named_by_its_own_address(hgx: Machine) -> None:
    codes, start = hgx.out(
        f"""{READING}
with regions.mapped(4 * PAGE) as region:
    region.words[:] = 2
    hole = regions.Region(region.address + PAGE, PAGE, region.words)
    regions.protect(hole, regions.READ)
    ok(launch(module, "dmaproof_fill", stream, region.address, 4 * PAGE // 4, 3))
    codes = [int(cu.cuStreamSynchronize(stream)[0]), int(cu.cuCtxSynchronize()[0])]
    print(json.dumps([codes, region.address]), flush=True)
import os; os._exit(0)
"""
    )
    assert codes == [700, 700]
    (fault,) = hgx.asked("fault")
    assert (fault["va"], fault["access"], fault["space"]) == (start + 4096, "write", "unmapped")


def test_a_kernel_of_managed_memory_asks_for_its_pages_each_pass(hgx: Machine) -> None:
    sums = hgx.out(
        f"""{READING}
memory = ok(cu.cuMemAllocManaged(64 << 10, 1)); words = view(memory, 64 << 10, ctypes.c_uint32); words[:] = 1
read(memory, 1024); sums = [int(told[2])]
words[:] = 2; passes(3); sums.append(int(told[2]))
assert stop() == 0
print(json.dumps(sums))
"""
    )
    assert sums == [1024, 2048]
    assert len(hgx.asked("fault")) > 1


def test_the_machine_knows_of_a_kernel_that_runs_and_of_one_that_traps(hgx: Machine) -> None:
    assert hgx.out(
        f"""{READING}
memory = ok(cu.cuMemAlloc(4096))
read(memory, 8); assert stop() == 0
told[:] = 0
ok(launch(module, "dmaproof_count_until", stream, memory, control, control + 4, grid=1, block=8)); assert stop() == 0
assert told[1] == told[8] and told[1] > 0 and told[9] == 0
ok(launch(module, "dmaproof_trap", stream, 64, grid=1, block=64)); assert int(cu.cuStreamSynchronize(stream)[0]) == 0
ok(launch(module, "dmaproof_trap", stream, 63, grid=1, block=64))
print(json.dumps([int(cu.cuStreamSynchronize(stream)[0]), int(cu.cuMemFree(memory)[0])]), flush=True)
import os; os._exit(0)
"""
    ) == [719, 719]
    assert [one["event"] for one in hgx.asked("kernel")] == ["begins", "ends", "begins", "ends", "traps"]


def test_a_child_has_none_of_the_managed_memory(hgx: Machine) -> None:
    signal, mine = hgx.out(
        """
from dmaproof.cuda.unified import forked
ok(cu.cuInit(0)); use(0)
memory = ok(cu.cuMemAllocManaged(64 << 10, 1)); words = view(memory, 4096, ctypes.c_uint32); words[:] = 5
with forked.reader(words, words.copy()) as child:
    ended = child.look()
print(json.dumps([ended.signal, int(words.sum())]))
"""
    )
    assert (signal, mine) == (11, 5 * 1024)


def test_a_child_sees_what_was_there_when_it_was_forked(hgx: Machine) -> None:
    assert hgx.out(
        """
from dmaproof.cuda.unified import forked
words = np.full(1024, 5, np.uint32)
with forked.reader(words, np.full(1024, 6, np.uint32)) as child:
    words[:] = 6
    ended = child.look()
print(json.dumps([ended.wrong_words, ended.signal]))
"""
    ) == [1024, None]
