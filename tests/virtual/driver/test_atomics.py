"""A kernel's system-scope atomics against a CPU that adds at the same time: no add is lost."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine, Request

BOTH = """
import mmap
from dmaproof.cuda.atomics import _cpu_add
ok(cu.cuInit(0)); use(0); module = kernels("sm_90"); add = _cpu_add()
kind, rounds, nwords = {kind!r}, 300, 32
if kind == "managed":
    address = int(ok(cu.cuMemAllocManaged(4096, 1)))
else:
    memory = mmap.mmap(-1, 4096, mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if kind == "shared" else mmap.MAP_PRIVATE))
    address = np.frombuffer(memory, np.uint32).ctypes.data
words = view(address, 4096, ctypes.c_uint32); words[:] = 0
control = int(ok(cu.cuMemHostAlloc(4096, 3))); told = view(control, 4096, ctypes.c_uint32); told[:] = 0
stream = ok(cu.cuStreamCreate(1))
launched = launch(module, "dmaproof_add_until", stream, address, control, control + 4, grid=1, block=nwords)
for _ in range(rounds):
    for word in range(nwords):
        add(address + 4 * word, 1)
told[0] = 1
code = int(cu.cuStreamSynchronize(stream)[0])
counts = told[1 : 1 + nwords].astype(int)
print(json.dumps([code, int(counts.min()), (words[:nwords] - counts).tolist() if not code else []]))
"""


@pytest.mark.parametrize("kind", ["managed", "private", "shared"])
def test_every_add_counts(hgx: Machine, kind: str) -> None:
    code, rounds, left = hgx.out(BOTH.format(kind=kind))
    assert code == 0
    assert rounds > 1, "CPU and GPU did not add at the same time"
    assert left == [300] * 32
    assert {fault["access"] for fault in hgx.asked("fault")} == {"atomic"}


def test_a_fatal_fault_ends_the_kernel_at_once(hgx: Machine) -> None:
    def rule(request: Request) -> dict[str, str] | None:
        return {"effect": "fatal"} if request.get("mapping") == "shared" else None

    hgx.rules.append(rule)
    assert hgx.out(BOTH.format(kind="shared"))[0] == 700


def test_a_mapping_that_cannot_be_written_takes_no_atomic(hgx: Machine) -> None:
    """The kernel driver is told of nothing to write to there; this process is not harmed by its driver's try."""
    code = hgx.out(
        """
        import mmap
        ok(cu.cuInit(0)); use(0); module = kernels("sm_90"); libc = ctypes.CDLL(None)
        memory = mmap.mmap(-1, 4096, mmap.MAP_ANONYMOUS | mmap.MAP_PRIVATE)
        address = np.frombuffer(memory, np.uint32).ctypes.data
        assert libc.mprotect(ctypes.c_void_p(address), 4096, 1) == 0
        control = int(ok(cu.cuMemHostAlloc(4096, 3))); view(control, 4, ctypes.c_uint32)[0] = 1
        launch(module, "dmaproof_add_until", 0, address, control, control + 4, grid=1, block=1)
        print(json.dumps(int(cu.cuCtxSynchronize()[0])))
        """
    )
    assert code == 700
