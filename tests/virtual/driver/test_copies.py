"""Copies: every byte arrives, nothing else changes, and the modelled time is the path's."""

from __future__ import annotations

import pytest

from tests.virtual.driver.thread_machine import Machine, name

MIB = 1 << 20

INTEGRITY = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]
for one, other in ((0, 1), (1, 0)):
    use(one); ok(cu.cuCtxEnablePeerAccess(contexts[other], 0))
size = (5 << 20) + 12345
content = np.random.default_rng(1).integers(0, 256, size, np.uint8)
gpus = [(use(n), ok(cu.cuMemAlloc(size)))[1] for n in (0, 1)]
pinned = ok(cu.cuMemHostAlloc(size, 3)); host = view(pinned, size)
wrong = []

def expect(label, plain):
    back = np.empty(size, np.uint8)
    ok(cu.cuMemcpyDtoH(back.ctypes.data, gpus[1], size))
    if back.tobytes() != bytes(plain):
        wrong.append(label)

use(0)
ok(cu.cuMemcpyHtoD(gpus[0], content.ctypes.data, size))
ok(cu.cuMemsetD8(gpus[1], 0xEE, size))
plain = bytearray(b"\\xee" * size)
expect("memset", plain)
ranges = [(0, 0, size), (1, 0, 2 << 20), (0, 3, 4 << 20), (2 << 20, 2 << 20, 2 << 20), (4095, 77777, 1)]
ranges.append((size - 5, 0, 5))
for to, of, n in ranges:
    ok(cu.cuMemcpyPeer(int(gpus[1]) + to, contexts[1], int(gpus[0]) + of, contexts[0], n))
    plain[to : to + n] = content[of : of + n].tobytes()
    expect(f"peer {to} {of} {n}", plain)
ok(cu.cuMemcpyDtoD(int(gpus[1]) + 3, int(gpus[1]) + (3 << 20), 1 << 20))
plain[3 : 3 + (1 << 20)] = plain[3 << 20 : 4 << 20]
expect("within", plain)
ok(cu.cuMemcpy(pinned, gpus[1], size))
if host.tobytes() != bytes(plain): wrong.append("to pinned")
host[:] = content[::-1]
ok(cu.cuMemcpy(int(gpus[1]) + 1, pinned, size - 1))
plain[1:] = content[::-1][:-1].tobytes()
expect("from pinned", plain)
ok(cu.cuMemsetD32(int(gpus[1]) + 8, 0x01020304, 1000))
plain[8:4008] = bytes((4, 3, 2, 1)) * 1000
expect("memset 32", plain)
print(json.dumps(wrong))
"""


def test_bytes_arrive_whole_and_at_any_alignment(hgx: Machine) -> None:
    assert hgx.out(INTEGRITY) == []


RATES = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]
for one, other in ((0, 1), (1, 0)):
    use(one); ok(cu.cuCtxEnablePeerAccess(contexts[other], 0))
n = 64 << 20
far = ok(cu.cuMemAlloc(n)); use(0); near, spare = ok(cu.cuMemAlloc(n)), ok(cu.cuMemAlloc(n))
host = ok(cu.cuMemHostAlloc(n, 3)); stream = ok(cu.cuStreamCreate(1))
work = {
    "gpu0>gpu1": lambda: cu.cuMemcpyPeerAsync(far, contexts[1], near, contexts[0], n, stream),
    "gpu1>gpu0": lambda: cu.cuMemcpyAsync(near, far, n, stream),
    "host>gpu0": lambda: cu.cuMemcpyHtoDAsync(near, host, n, stream),
    "gpu0>host": lambda: cu.cuMemcpyAsync(host, near, n, stream),
    "gpu0>gpu0": lambda: cu.cuMemcpyDtoDAsync(spare, near, n, stream),
}
rates = {}
for label, queue in work.items():
    elapsed_ms(stream, queue, 4)
    rates[label] = 16 * n / elapsed_ms(stream, queue, 16) / 1e6
print(json.dumps(rates))
"""


@pytest.mark.parametrize("rig", ["virtual:hgx-h100", "virtual:pcie-pair"])
def test_sixteen_copies_measure_the_rate_of_the_path(machine_of, rig: str) -> None:  # type: ignore[no-untyped-def]
    machine = machine_of(rig)
    rates = machine.out(RATES)
    for label, rate in rates.items():
        path = machine.node.path_between(*label.split(">"))
        assert rate == pytest.approx(path.bandwidth_GBps, rel=0.0005), label


def test_a_peer_copy_is_one_transfer_of_the_gpu_whose_stream_it_is(hgx: Machine) -> None:
    hgx.out(
        """
        ok(cu.cuInit(0)); contexts = [use(0), use(1)]
        a = ok(cu.cuMemAlloc(4096)); use(0); b = ok(cu.cuMemAlloc(4096)); ok(cu.cuCtxEnablePeerAccess(contexts[1], 0))
        ok(cu.cuMemcpyPeer(a, contexts[1], b, contexts[0], 4096))
        ok(cu.cuMemcpyPeer(b, contexts[0], a, contexts[1], 4096))
        print(json.dumps([int(a), int(b)]))
        """
    )
    write, read = hgx.asked("dma")
    gpu0, gpu1 = "0000:1b:00.0", "0000:43:00.0"
    assert (write["requester"], write["source"], write["target"], write["engine"]) == (gpu0, gpu0, gpu1, "ce")
    assert (read["requester"], read["source"], read["target"]) == (gpu0, gpu1, gpu0)
    assert write["va"] == read["va"]


def test_without_peer_access_a_copy_is_staged_through_the_host_at_a_share_of_the_slower_rate(hgx: Machine) -> None:
    rate = hgx.out(
        """
        ok(cu.cuInit(0)); contexts = [use(0), use(1)]
        n = 64 << 20
        a = ok(cu.cuMemAlloc(n)); use(0); b = ok(cu.cuMemAlloc(n)); stream = ok(cu.cuStreamCreate(1))
        copy = lambda: cu.cuMemcpyPeerAsync(a, contexts[1], b, contexts[0], n, stream)
        elapsed_ms(stream, copy, 1)
        print(json.dumps(16 * n / elapsed_ms(stream, copy, 16) / 1e6))
        """
    )
    assert rate == pytest.approx(0.75 * 55.2, rel=0.0005)
    out, back = hgx.asked("dma")[:2]
    assert (out["requester"], out["target"]) == (out["source"], "host")
    assert (back["source"], back["requester"]) == ("host", back["target"])


BOTH_WAYS = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]
n = 64 << 20
lanes = []
for one in (0, 1):
    use(one)
    if other_way or one == 0:
        ok(cu.cuCtxEnablePeerAccess(contexts[1 - one], 0))
memory = [(use(one), ok(cu.cuMemAlloc(n)))[1] for one in (0, 1)]
use(0); flag = ok(cu.cuMemHostAlloc(8, 3)); words = view(flag, 8, ctypes.c_uint32); words[:] = 0
modules = [(use(one), kernels("sm_90"))[1] for one in (0, 1)]  # before anything is held: loading waits
for one in (0, 1):
    owner = one if other_way else 0
    use(owner); module = modules[owner]; stream = ok(cu.cuStreamCreate(1))
    start, end = ok(cu.cuEventCreate(0)), ok(cu.cuEventCreate(0))
    if one == 1:  # work that nobody has waited for: this stream comes to its hold later than the other
        ok(cu.cuMemcpyPeerAsync(memory[1 - owner], contexts[1 - owner], memory[owner], contexts[owner], n, stream))
    ok(launch(module, "dmaproof_hold", stream, flag, 10**10, grid=1, block=1))
    ok(cu.cuEventRecord(start, stream))
    for _ in range(16):
        ok(cu.cuMemcpyPeerAsync(memory[1 - owner], contexts[1 - owner], memory[owner], contexts[owner], n, stream))
    ok(cu.cuEventRecord(end, stream))
    assert int(cu.cuStreamQuery(stream)[0]) == 600
    lanes.append((owner, stream, start, end))
words[0] = 1
rates = []
for owner, stream, start, end in lanes:
    use(owner); ok(cu.cuStreamSynchronize(stream))
    rates.append(16 * n / ok(cu.cuEventElapsedTime(start, end)) / 1e6)
skew = ok(cu.cuEventElapsedTime(lanes[0][2], lanes[1][2]))
print(json.dumps([rates, skew, int(words[1])]))
"""


def test_opposite_directions_held_and_released_together_both_run_at_full_rate(hgx: Machine) -> None:
    rates, skew, gave_up = hgx.out("other_way = True\n" + BOTH_WAYS)
    assert rates == [pytest.approx(397.0, rel=0.0005)] * 2
    assert (skew, gave_up) == (0.0, 0)


def test_two_streams_in_the_same_direction_share_the_link(hgx: Machine) -> None:
    rates, _, _ = hgx.out("other_way = False\n" + BOTH_WAYS)
    assert sum(rates) == pytest.approx(397.0, rel=0.05)


def test_every_transfer_names_places_the_machine_knows(hgx: Machine) -> None:
    hgx.out(INTEGRITY)
    names = {name(hgx.node, request[end]) for request in hgx.asked("dma") for end in ("source", "target", "requester")}
    assert names == {"gpu0", "gpu1", "host"}


def test_a_batch_of_copies_is_as_many_copies_in_the_order_of_the_stream(hgx: Machine) -> None:
    assert hgx.out(
        """
        ok(cu.cuInit(0)); use(0); stream = ok(cu.cuStreamCreate(1))
        a, b, c = (int(ok(cu.cuMemAlloc(64))) for _ in range(3))
        for va, value in ((a, 7), (c, 1)): ok(cu.cuMemsetD8(va, value, 64))
        order = cu.CUmemcpyAttributes()
        order.srcAccessOrder = cu.CUmemcpySrcAccessOrder.CU_MEMCPY_SRC_ACCESS_ORDER_STREAM
        def batch(on, firsts=(0,)): return cu.cuMemcpyBatchAsync(
            [cu.CUdeviceptr(b), cu.CUdeviceptr(c)], [cu.CUdeviceptr(a), cu.CUdeviceptr(b)], [64, 32], 2,
            [order] * len(firsts), list(firsts), len(firsts), on)
        codes = [int(one[0]) for one in (batch(stream), batch(0), batch(stream, (1,)), batch(stream, (0, 2)))]
        ok(cu.cuStreamSynchronize(stream)); back = np.empty(64, np.uint8); ok(cu.cuMemcpyDtoH(back.ctypes.data, c, 64))
        print(json.dumps([codes, [int(back[0]), int(back[31]), int(back[32])]]))
        """
    ) == [[0, 1, 1, 1], [7, 7, 1]]
