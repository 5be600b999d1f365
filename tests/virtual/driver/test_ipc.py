"""Memory and events of another process: really the same memory, with the refusals that real drivers have."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import PRELUDE, Machine

SETUP = """
import os, subprocess
MIB = 1 << 20
LAZY = cu.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
ok(cu.cuInit(0))
def code(answer): return int(answer[0])
def reserved(handle): return ctypes.string_at(int(handle.getPtr()), 64)
def of(kind, text):
    made = kind(); ctypes.memmove(int(made.getPtr()), bytes.fromhex(text), 64); return made
def mem_handle(text): return of(cu.CUipcMemHandle, text)
def event_handle(text): return of(cu.CUipcEventHandle, text)
"""


def two(exporter: str, importer: str) -> str:
    """``exporter`` with ``child(*words)``, which starts ``importer`` with these words as ``given``."""
    whole = PRELUDE + SETUP + "given = sys.argv[1:]\n" + importer
    return (
        SETUP
        + f"IMPORTER = {whole!r}\n"
        + "def child(*words):\n"
        + "    command = [sys.executable, '-c', IMPORTER, *words]\n"
        + "    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n"
        + exporter
    )


WRITES = two(
    """
use(0); module = kernels("sm_90"); va = int(ok(cu.cuMemAlloc(5 * MIB)))
ok(launch(module, "dmaproof_fill", 0, va, 5 * MIB // 4, 31)); ok(cu.cuCtxSynchronize())
handle = reserved(ok(cu.cuIpcGetMemHandle(va + 8)))
with child(handle.hex()) as other:
    said = other.stdout.readline().split()
    here = verify(module, 0, va, 5 * MIB // 4, 32)
    ok(launch(module, "dmaproof_fill", 0, va, 5 * MIB // 4, 33)); ok(cu.cuCtxSynchronize())
    there = other.communicate("look\\n", timeout=60)[0].split()
print(json.dumps([said, here, there, code(cu.cuMemFree(va))]))
""",
    """
far = use(1); module = kernels("sm_90")
va = int(ok(cu.cuIpcOpenMemHandle(mem_handle(given[0]), LAZY)))
again = int(ok(cu.cuIpcOpenMemHandle(mem_handle(given[0]), LAZY))) == va
ok(cu.cuIpcCloseMemHandle(va))
seen = verify(module, 0, va, 5 * MIB // 4, 31)
ok(launch(module, "dmaproof_fill", 0, va, 5 * MIB // 4, 32)); ok(cu.cuCtxSynchronize())
print(again, *seen, code(cu.cuMemFree(va)), flush=True)
sys.stdin.readline()
print(*verify(module, 0, va, 5 * MIB // 4, 33))
ok(cu.cuIpcCloseMemHandle(va))
print(code(cu.cuIpcCloseMemHandle(va)), code(cu.cuMemsetD8(va, 0, 1)))
""",
)


def test_both_processes_see_what_either_writes(hgx: Machine) -> None:
    none = str(2**64 - 1)
    assert hgx.out(WRITES) == [["True", "0", none, "1"], [0, 2**64 - 1], ["0", none, "1", "1"], 0]
    ends = {(one["source"], one["target"]) for one in hgx.asked("dma")}
    links = {(source, target) for source, target in ends if source != target and "host" not in (source, target)}
    assert links == {("0000:43:00.0", "0000:1b:00.0"), ("0000:1b:00.0", "0000:43:00.0")}


def test_what_cannot_be_exported_or_opened_is_refused(hgx: Machine) -> None:
    said = hgx.out(
        two(
            """
use(0); va = int(ok(cu.cuMemAlloc(MIB))); stream = ok(cu.cuStreamCreate(1))
managed, pooled = ok(cu.cuMemAllocManaged(MIB, 1)), ok(cu.cuMemAllocAsync(MIB, stream))
pinned = ok(cu.cuMemHostAlloc(MIB, 3))
codes = [code(cu.cuIpcGetMemHandle(int(one))) for one in (managed, pooled, pinned, 4096)]
handle = ok(cu.cuIpcGetMemHandle(va)); words = reserved(handle)
codes += [code(cu.cuIpcOpenMemHandle(handle, LAZY)), code(cu.cuIpcOpenMemHandle(mem_handle("00" * 64), LAZY))]
codes += [code(cu.cuIpcCloseMemHandle(va)), code(cu.cuIpcGetEventHandle(ok(cu.cuEventCreate(2))))]
codes += [code(cu.cuEventCreate(4))]
ok(cu.cuMemFree(va))
print(json.dumps([codes, child(words.hex()).communicate(timeout=60)[0].split()]))
""",
            "use(0); print(code(cu.cuIpcOpenMemHandle(mem_handle(given[0]), LAZY)))",
        )
    )
    assert said == [[1, 1, 1, 1, 201, 1, 1, 400, 1], ["1"]]


def test_the_memory_outlives_the_process_that_exported_it(hgx: Machine) -> None:
    """As on a real driver, whose memory object the importer holds too; a handle that is opened later is void."""
    assert hgx.out(
        two(
            """
other = child()
words = other.stdout.readline().strip()
use(0); module = kernels("sm_90"); va = int(ok(cu.cuIpcOpenMemHandle(mem_handle(words), LAZY)))
other.kill(); other.communicate(timeout=60)
seen = verify(module, 0, va, MIB, 5); ok(cu.cuIpcCloseMemHandle(va))
print(json.dumps([seen, code(cu.cuIpcOpenMemHandle(mem_handle(words), LAZY))]))
""",
            """
use(0); module = kernels("sm_90"); va = int(ok(cu.cuMemAlloc(4 * MIB)))
ok(launch(module, "dmaproof_fill", 0, va, MIB, 5)); ok(cu.cuCtxSynchronize())
print(reserved(ok(cu.cuIpcGetMemHandle(va))).hex(), flush=True)
sys.stdin.readline()
""",
        )
    ) == [[0, 2**64 - 1], 1]


@pytest.mark.parametrize("wait", ["cu.cuStreamWaitEvent(stream, event, 0)", "cu.cuEventSynchronize(event)"])
def test_an_event_orders_the_work_of_two_processes(hgx: Machine, wait: str) -> None:
    """The exporter's stream is held when the importer begins to wait, and let go later."""
    said = hgx.out(
        two(
            """
use(0); module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1)); event = ok(cu.cuEventCreate(4 | 2))
flag = ok(cu.cuMemHostAlloc(8, 3)); words = view(flag, 8, ctypes.c_uint32); words[:] = 0
va = int(ok(cu.cuMemAlloc(4096)))
ok(launch(module, "dmaproof_hold", stream, flag, 10**11, grid=1, block=1))
ok(launch(module, "dmaproof_fill", stream, va, 1024, 6)); ok(cu.cuEventRecord(event, stream))
handles = [reserved(one).hex() for one in (ok(cu.cuIpcGetMemHandle(va)), ok(cu.cuIpcGetEventHandle(event)))]
with child(*handles) as other:
    pending = other.stdout.readline().strip()
    words[0] = 1
    said = other.communicate(timeout=60)[0].split()
print(json.dumps([pending, said]))
""",
            f"""
use(0); module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1))
va = int(ok(cu.cuIpcOpenMemHandle(mem_handle(given[0]), LAZY)))
event = ok(cu.cuIpcOpenEventHandle(event_handle(given[1])))
print(code(cu.cuEventQuery(event)), flush=True)
ok({wait}); seen = verify(module, stream, va, 1024, 6)
print(*seen, code(cu.cuEventQuery(event)), code(cu.cuEventElapsedTime(event, event)))
""",
        )
    )
    assert said == ["600", ["0", str(2**64 - 1), "0", "400"]]


POOLED = """
DEVICE, FD = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, cu.CUmemAllocationHandleType(1)
def pool_on(device):
    props = cu.CUmemPoolProps()
    props.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    props.handleTypes, props.location.type, props.location.id = FD, DEVICE, device
    return ok(cu.cuMemPoolCreate(props))
"""


def test_a_pools_memory_is_shared_by_the_pool_and_the_pointer(hgx: Machine) -> None:
    said = hgx.out(
        two(
            POOLED
            + """
use(0); module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1)); pool, other = pool_on(0), pool_on(0)
va = int(ok(cu.cuMemAllocFromPoolAsync(4 * MIB, pool, stream)))
ok(launch(module, "dmaproof_fill", stream, va, MIB, 41)); ok(cu.cuStreamSynchronize(stream))
fds = [int(ok(cu.cuMemPoolExportToShareableHandle(one, FD, 0))) for one in (pool, other)]
data = reserved(ok(cu.cuMemPoolExportPointer(va)))
plain = code(cu.cuMemPoolExportPointer(ok(cu.cuMemAlloc(16))))
command = [sys.executable, "-c", IMPORTER, *map(str, fds), data.hex()]
done = subprocess.run(command, pass_fds=fds, stdout=subprocess.PIPE, text=True, timeout=60)
here = verify(module, 0, va, MIB, 42)
print(json.dumps([done.stdout.split(), here, plain]))
""",
            POOLED
            + """
use(1); module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1))
pool, other = (ok(cu.cuMemPoolImportFromShareableHandle(int(one), FD, 0)) for one in given[:2])
data = of(cu.CUmemPoolPtrExportData, given[2])
codes = [code(cu.cuMemPoolImportPointer(other, data)), code(cu.cuMemAllocFromPoolAsync(4096, pool, stream))]
free = ok(cu.cuMemGetInfo())[0]
va = int(ok(cu.cuMemPoolImportPointer(pool, data)))
right = cu.CUmemAccessDesc(); right.location.type, right.location.id = DEVICE, 1
right.flags = cu.CUmemAccess_flags(3); ok(cu.cuMemPoolSetAccess(pool, [right], 1))
seen = verify(module, 0, va, MIB, 41)
ok(launch(module, "dmaproof_fill", 0, va, MIB, 42)); ok(cu.cuCtxSynchronize())
ok(cu.cuMemFreeAsync(va, stream)); ok(cu.cuStreamSynchronize(stream)); ok(cu.cuMemPoolDestroy(pool))
print(*codes, *seen)
""",
        )
    )
    assert said == [["1", "1", "0", str(2**64 - 1)], [0, 2**64 - 1], 1]
