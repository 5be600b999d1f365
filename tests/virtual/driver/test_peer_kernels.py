"""The kernels of dmaproof/cuda/kernels/peer.cu by their counterparts: bytes, atomics, and order between two GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.virtual.driver.thread_machine import Machine, transfers

START = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]
for one in (0, 1):
    use(one); ok(cu.cuCtxEnablePeerAccess(contexts[1 - one], 0))

def made(ordinal, nbytes):
    use(ordinal); va = ok(cu.cuMemAlloc(nbytes)); ok(cu.cuMemsetD8(va, 0, nbytes)); return va

def read(ordinal, va, nbytes, kind=np.uint32):
    use(ordinal); back = np.empty(nbytes, np.uint8); ok(cu.cuMemcpyDtoH(back.ctypes.data, va, nbytes))
    return back.view(kind)

modules, streams = [], []
for one in (0, 1):
    use(one); modules.append(kernels("sm_90")); streams.append(ok(cu.cuStreamCreate(1)))

def begin(ordinal, name, *values, block=64):
    use(ordinal); ok(launch(modules[ordinal], name, streams[ordinal], *values, grid=1, block=block))

def finish(*ordinals):
    for ordinal in ordinals: use(ordinal); ok(cu.cuStreamSynchronize(streams[ordinal]))
"""


def test_bytes_go_anywhere(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
n = (2 << 20) + 100; content = np.random.default_rng(5).integers(0, 256, n, np.uint8)
near, far = made(0, n), made(1, n); use(0); ok(cu.cuMemcpyHtoD(near, content.ctypes.data, n))
begin(0, "dmaproof_copy_bytes", int(far) + 7, int(near) + 3, n - 50); begin(0, "dmaproof_copy_bytes", far, near, 0)
finish(0); seen = read(1, far, n, np.uint8)
whole = np.array_equal(seen[7 : n - 43], content[3 : n - 47])
print(json.dumps([bool(whole), bool(seen[:7].any()), bool(seen[n - 43 :].any())]))
"""
    ) == [True, False, False]


def test_adds_of_both_gpus_add_up_and_the_fetching_one_sees_the_old_values(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
words, last = made(1, 64), made(0, 64)
begin(1, "dmaproof_red", words, 16, 5); begin(0, "dmaproof_atom", words, 16, 3, last)
begin(0, "dmaproof_red", words, 8, 100); finish(0, 1)
print(json.dumps([read(1, words, 64).tolist(), read(0, last, 64).tolist()]))
"""
    ) == [[108] * 8 + [8] * 8, [7] * 16]


ORDER = """
data, flag, ack = made(1, 4096), made(1, 16), made(0, 16)
sent, received = made(0, 24), made(1, 24)
first = np.array([0, 0, 2**64 - 1], np.uint64); use(1); ok(cu.cuMemcpyHtoD(received, first.ctypes.data, 24))
begin(1, "dmaproof_receive", data, 1024, flag, ack, 20, {timeout}, received)
begin(0, "dmaproof_send", data, 1024, flag, ack, 20, {timeout}, sent)
finish(0, 1)
print(json.dumps([read(0, sent, 16, np.uint64).tolist(), read(1, received, 24, np.uint64).tolist()]))
"""
NONE = 2**64 - 1


def order(machine: Machine, timeout_ns: int) -> Any:
    return machine.out(START + ORDER.format(timeout=timeout_ns))


def test_each_round_of_data_is_there_when_its_flag_is(hgx: Machine) -> None:
    assert order(hgx, 20_000_000_000) == [[20, 20], [20, 0, NONE]]


@pytest.mark.parametrize("lost", ["all", "data"])
def test_what_does_not_arrive_is_counted_or_waited_for_only_so_long(hgx: Machine, lost: str) -> None:
    """Without its data every round is wrong; without its flag none begins."""
    fields = {"nbytes": 4096} if lost == "data" else {}
    hgx.rules.append(transfers("dropped", requester="0000:1b:00.0", target="0000:43:00.0", engine="sm", **fields))
    if lost == "data":
        assert order(hgx, 20_000_000_000) == [[20, 20], [20, 20 * 1024, 1]]
    else:
        assert order(hgx, 200_000_000) == [[1, 0], [0, 0, NONE]]
