"""Kernels that move the same bytes several times in one launch: what they do to memory, and how long that takes."""

from __future__ import annotations

import pytest

from tests.virtual.driver.test_kernels import START
from tests.virtual.driver.thread_machine import Machine

BUFFERS = f"""{START}
nbytes = (4 << 20) + 1024
one, other = ok(cu.cuMemAlloc(nbytes)), ok(cu.cuMemAlloc(nbytes))
done(launch(module, "dmaproof_fill", stream, one, nbytes // 4, 5))
done(launch(module, "dmaproof_fill", stream, other, nbytes // 4, 6))
before = read(one, nbytes), read(other, nbytes)
"""


@pytest.mark.parametrize(("kernel", "unit"), [("dmaproof_copy_rounds", 16), ("dmaproof_tma_copy", 1)])
def test_a_copy_of_several_rounds_copies_and_takes_as_long_as_all_of_them(hgx: Machine, kernel: str, unit: int) -> None:
    same, untouched, times = hgx.out(
        f"""{BUFFERS}
def timed(rounds):
    return elapsed_ms(stream, lambda: ok(launch(module, "{kernel}", stream, other, one, 1024 // {unit}, rounds)), 1)
times = timed(1), timed(16)
done(launch(module, "{kernel}", stream, other, one, (nbytes - 512) // {unit}, 3))
after = read(other, nbytes)
same = bool((after[: (nbytes - 512) // 4] == before[0][: (nbytes - 512) // 4]).all())
untouched = bool((after[(nbytes - 512) // 4 :] == before[1][(nbytes - 512) // 4 :]).all())
peer = use(1); far = ok(cu.cuMemAlloc(64 << 20)); use(0); near = ok(cu.cuMemAlloc(64 << 20))
def timed(rounds):
    values = far, near, (64 << 20) // {unit}, rounds
    return elapsed_ms(stream, lambda: ok(launch(module, "{kernel}", stream, *values)), 1)
print(json.dumps([same, untouched, [timed(1), timed(16)]]))
"""
    )
    assert same
    assert untouched
    one_ns = (64 << 20) / 397.0
    assert [time * 1e6 for time in times] == pytest.approx([one_ns + 826, 16 * one_ns + 826], rel=1e-4)


def test_an_exchange_moves_every_other_512_bytes_each_way(hgx: Machine) -> None:
    odd, even, same = hgx.out(
        f"""{BUFFERS}
done(launch(module, "dmaproof_exchange_rounds", stream, one, other, nbytes // 16, 1))
after = read(one, nbytes).reshape(-1, 128), read(other, nbytes).reshape(-1, 128)
old = [words.reshape(-1, 128) for words in before]
odd = bool((after[0][1::2] == old[0][1::2]).all())
even = bool((after[0][::2] == old[1][::2]).all())
print(json.dumps([odd, even, bool((after[0] == after[1]).all())]))
"""
    )
    assert odd
    assert even
    assert same


def test_a_read_adds_up_all_words_each_round_and_a_write_leaves_its_value(hgx: Machine) -> None:
    sums, written, times = hgx.out(
        f"""{BUFFERS}
total = ok(cu.cuMemAlloc(4))
def added(rounds, nbytes=nbytes):
    ok(cu.cuMemsetD32(total, 7, 1))
    done(launch(module, "dmaproof_read_rounds", stream, one, nbytes // 16, rounds, total))
    return int(read(total, 4)[0])
expected = [(7 + rounds * int(before[0].sum(dtype=np.uint64))) % 2**32 for rounds in (1, 16)]
sums = [[added(1), added(16)], expected]
done(launch(module, "dmaproof_write_rounds", stream, other, (nbytes - 16) // 16, 2, 0xABCD))
words = read(other, nbytes)
written = [bool((words[:-4] == 0xABCD).all()), bool((words[-4:] == before[1][-4:]).all())]
big, nchunks = ok(cu.cuMemAlloc(512 << 20)), (512 << 20) // 16
times = [
    elapsed_ms(stream, lambda: ok(launch(module, "dmaproof_read_rounds", stream, big, nchunks, 16, total)), 1),
    elapsed_ms(stream, lambda: ok(launch(module, "dmaproof_write_rounds", stream, big, nchunks, 16, 1)), 1),
]
print(json.dumps([sums, written, times]))
"""
    )
    assert sums[0] == sums[1]
    assert written == [True, True]
    gbps = [16 * (512 << 20) / (time * 1e6) for time in times]
    assert gbps == pytest.approx([2 * 1520] * 2, rel=1e-3), "memory that is only read or written moves half the bytes"


@pytest.mark.parametrize("kernel", ["dmaproof_chase_on", "dmaproof_tma_chase"])
def test_a_chase_of_one_multiprocessor_ends_where_the_pointers_lead(hgx: Machine, kernel: str) -> None:
    where, elapsed = hgx.out(
        f"""{START}
use(1); chain = int(ok(cu.cuMemAlloc(2 << 20))); nlines = (2 << 20) // 128
lines = np.zeros((nlines, 16), np.uint64); lines[:, 0] = chain + np.roll(np.arange(nlines, dtype=np.uint64), -1) * 128
ok(cu.cuMemcpyHtoD(chain, lines.ctypes.data, lines.nbytes)); use(0); end = ok(cu.cuMemAlloc(8))
work = lambda: ok(launch(module, "{kernel}", stream, chain, 20000, end, 3, grid=132, block=1))
ms = elapsed_ms(stream, work, 1)
print(json.dumps([int(read(end, 8, np.uint64)[0]) - chain, ms]))
"""
    )
    assert where == 20000 % ((2 << 20) // 128) * 128
    assert elapsed * 1e6 / 20000 == pytest.approx(826, rel=1e-3)


def test_the_accelerator_wants_addresses_and_lengths_of_16_bytes(hgx: Machine) -> None:
    code = hgx.out(
        f"""{BUFFERS}
launch(module, "dmaproof_tma_copy", stream, other, int(one) + 8, 1024, 1)
print(json.dumps(int(cu.cuStreamSynchronize(stream)[0])))
"""
    )
    assert code == 716  # CUDA_ERROR_MISALIGNED_ADDRESS
