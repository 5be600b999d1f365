"""The project's kernels, compiled by NVRTC and run by their counterparts, against plain Python."""

from __future__ import annotations

import pytest

from dmaproof.virtual.driver.kernels import counterpart
from dmaproof.virtual.driver.ptx import PtxError, entries
from tests.virtual.driver.test_chunks import pattern_word
from tests.virtual.driver.thread_machine import Machine

START = """
ok(cu.cuInit(0)); contexts = [use(0), use(1)]; use(0); ok(cu.cuCtxEnablePeerAccess(contexts[1], 0))
module = kernels("sm_90"); stream = ok(cu.cuStreamCreate(1))

def done(answer):
    ok(answer); ok(cu.cuStreamSynchronize(stream))

def read(va, nbytes, kind=np.uint32):
    back = np.empty(nbytes, np.uint8); ok(cu.cuMemcpyDtoH(back.ctypes.data, va, nbytes)); return back.view(kind)
"""


def test_fill_writes_the_pattern_and_nothing_beside_it(hgx: Machine) -> None:
    words = hgx.out(
        f"""{START}
gpu = ok(cu.cuMemAlloc(4000)); ok(cu.cuMemsetD8(gpu, 0, 4000))
done(launch(module, "dmaproof_fill", stream, int(gpu) + 8, 700, 0xFFFFFFF0))
print(json.dumps(read(gpu, 4000).tolist()))
"""
    )
    assert words == [0, 0] + [pattern_word(i, 0xFFFFFFF0) for i in range(700)] + [0] * 298


VERIFY = """
n = {nwords}
gpu = ok(cu.cuMemAlloc(n * 4)); done(launch(module, "dmaproof_fill", stream, gpu, n, 5))
spare = ok(cu.cuMemAlloc(n * 4 + 64))
ok(cu.cuMemcpyDtoD(spare, gpu, n * 4)); ok(cu.cuMemcpyDtoD(int(spare) + 4, gpu, n * 4 - 4))
results = [verify(module, stream, gpu, n, 5), verify(module, stream, gpu, n, 6), verify(module, stream, spare, 1, 5)]
results.append(verify(module, stream, spare, n, 5))
for at in {wrong}:
    word = read(int(gpu) + 4 * at, 4) ^ 1
    ok(cu.cuMemcpyHtoD(int(gpu) + 4 * at, word.ctypes.data, 4))
results.append(verify(module, stream, gpu, n, 5))
print(json.dumps(results))
"""


@pytest.mark.parametrize("nwords", [1000, (4 << 20) // 4 + 77])
def test_verify_counts_the_words_that_differ_and_finds_the_first(hgx: Machine, nwords: int) -> None:
    wrong = [nwords // 2, nwords - 1, 17]
    none = 2**64 - 1
    right, seed, first, shifted, three = hgx.out(START + VERIFY.format(nwords=nwords, wrong=wrong))
    assert right == first == [0, none]
    assert seed == [nwords, 0]
    assert shifted == [nwords - 1, 1]
    assert three == [3, 17]


def test_verify_adds_to_a_result_that_stands_there(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
gpu, result = ok(cu.cuMemAlloc(64)), ok(cu.cuMemAlloc(16)); ok(cu.cuMemsetD8(gpu, 0, 64))
before = np.array([40, 0], np.uint64); ok(cu.cuMemcpyHtoD(result, before.ctypes.data, 16))
done(launch(module, "dmaproof_verify", stream, gpu, 16, 1, result))
done(launch(module, "dmaproof_fill", stream, gpu, 3, 1))
done(launch(module, "dmaproof_verify", stream, gpu, 16, 1, result))
print(json.dumps(read(result, 16, np.uint64).tolist()))
"""
    ) == [69, 0]


def test_increment_and_copy(hgx: Machine) -> None:
    assert hgx.out(
        f"""{START}
n = (2 << 20) + 4096
content = np.random.default_rng(2).integers(0, 2**32, n // 4, np.uint32); content[7] = 0xFFFFFFFF
host = ok(cu.cuMemHostAlloc(n, 3)); view(host, n, ctypes.c_uint32)[:] = content
gpu = ok(cu.cuMemAlloc(n)); use(1); far = ok(cu.cuMemAlloc(n)); ok(cu.cuMemsetD8(far, 0, n)); use(0)
done(launch(module, "dmaproof_copy", stream, gpu, host, n // 16))
done(launch(module, "dmaproof_increment", stream, gpu, n // 4))
done(launch(module, "dmaproof_copy", stream, int(far) + 16, gpu, n // 16 - 2))
same = np.array_equal(read(gpu, n), content + np.uint32(1))
seen = read(far, n)
shifted = np.array_equal(seen[4:-4], (content + np.uint32(1))[:-8]) and not seen[:4].any() and not seen[-4:].any()
print(json.dumps([same, bool(shifted)]))
"""
    ) == [True, True]
    wires = {(one["engine"], one["source"], one["target"]) for one in hgx.asked("dma") if one["engine"] == "sm"}
    assert ("sm", "host", "0000:1b:00.0") in wires
    assert ("sm", "0000:1b:00.0", "0000:43:00.0") in wires


CHASE = """
lines, steps = 256, 1000
order = np.random.default_rng(3).permutation(lines)
words = np.zeros((lines, 16), np.uint64)

def walk(base):
    words[order, 0] = base + 128 * np.roll(order, -1).astype(np.uint64)
    return base + 128 * int(order[0])

def chase(memory, put):
    start = walk(int(memory)); put(memory)
    end = ok(cu.cuMemAlloc(8))
    walked = lambda: ok(launch(module, "dmaproof_chase", stream, start, steps, end, grid=1, block=1))
    ms, last = elapsed_ms(stream, walked, 1), int(memory) + 128 * int(order[steps % lines])
    return [round(ms * 1e6 / steps, 2), int(read(end, 8, np.uint64)[0]) == last]

n = words.nbytes
put = lambda memory: ok(cu.cuMemcpyHtoD(memory, words.ctypes.data, n))
near = ok(cu.cuMemAlloc(n)); use(1); far = ok(cu.cuMemAlloc(n)); use(0); host = ok(cu.cuMemHostAlloc(n, 3))
print(json.dumps([chase(near, put), chase(far, put), chase(host, put)]))
"""


def test_a_chase_ends_where_the_pointers_lead_and_takes_the_latency_of_the_memory(hgx: Machine) -> None:
    assert hgx.out(START + CHASE) == [[620.0, True], [826.0, True], [1191.0, True]]


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("dmaproof_fill", "int(far), 16, 1", 700),  # a peer that is not mapped
        ("dmaproof_fill", "int(gpu), 17, 1", 700),  # one word too far
        ("dmaproof_fill", "freed, 16, 1", 700),
        ("dmaproof_fill", "0, 16, 1", 700),
        ("dmaproof_fill", "int(gpu) + 2, 1, 1", 716),
        ("dmaproof_copy", "int(gpu), int(gpu) + 8, 1", 716),
        ("dmaproof_chase", "int(gpu), 5, int(gpu)", 700),  # zeros are no pointers
    ],
)
def test_an_address_that_a_kernel_must_not_use_ends_the_context(
    hgx: Machine, name: str, values: str, code: int
) -> None:
    codes = hgx.out(
        f"""
ok(cu.cuInit(0)); use(1); far = ok(cu.cuMemAlloc(64)); use(0); module = kernels("sm_90")
gpu, freed = ok(cu.cuMemAlloc(64)), int(ok(cu.cuMemAlloc(64))); ok(cu.cuMemFree(freed))
ok(cu.cuMemsetD8(gpu, 0, 64))
codes = [launch(module, {name!r}, 0, {values})]
codes += [cu.cuCtxSynchronize(), cu.cuMemAlloc(16), cu.cuStreamCreate(0), cu.cuMemsetD8(gpu, 0, 1)]
use(1); codes.append(cu.cuMemsetD8(far, 0, 64))
print(json.dumps([int(one[0]) for one in codes]))
"""
    )
    assert codes == [0, code, code, code, code, 0]


IMAGE = """
ok(cu.cuInit(0)); use(0)
from cuda.core import Program, ProgramOptions
def compiled(text, form="ptx"):
    return Program(text, "c++", ProgramOptions(arch="sm_90")).compile(form).code
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(unsigned int *words, unsigned int nwords, unsigned int seed) { words[0] = nwords + seed; }", "u64"),
        ("(unsigned int *words, unsigned long long nwords) { words[0] = (unsigned int)nwords; }", "pointer, u64, u32"),
    ],
)
def test_a_kernel_that_its_counterpart_does_not_fit_is_refused_by_name(hgx: Machine, text: str, said: str) -> None:
    source = f'extern "C" __global__ void dmaproof_fill{text}'
    done = hgx.run(f"{IMAGE}\nprint(int(cu.cuModuleLoadData(compiled({source!r}))[0]))")
    assert done.stdout == "218\n"
    assert "kernel dmaproof_fill" in done.stderr
    assert said in done.stderr


def test_a_kernel_without_a_counterpart_is_refused_by_name(hgx: Machine) -> None:
    done = hgx.run(
        f"""{IMAGE}
module = ok(cu.cuModuleLoadData(compiled('extern "C" __global__ void mystery(int *x) {{ *x = 1; }}')))
print(int(cu.cuModuleGetFunction(module, b"mystery")[0]), int(cu.cuModuleGetFunction(module, b"nothing")[0]))
"""
    )
    assert done.stdout == "801 500\n"
    assert "kernel mystery" in done.stderr


def test_machine_code_and_plain_text_are_refused(hgx: Machine) -> None:
    done = hgx.run(
        f"""{IMAGE}
print(int(cu.cuModuleLoadData(compiled('extern "C" __global__ void f() {{}}', "cubin"))[0]))
print(int(cu.cuModuleLoadData(b"hello\\0")[0]))
"""
    )
    assert done.stdout == "801\n218\n"
    assert "cubin" in done.stderr
    assert "not PTX" in done.stderr


PTX = """
.version 8.4
.target sm_90
.address_size 64
// .entry commented_out()
.visible .entry plain()
{ ret; }
.visible .entry many(
    .param .u64 .ptr .global .align 4 many_param_0,
    .param .u32 many_param_1,
    .param .f64 many_param_2,
    .param .align 8 .b8 many_param_3[24]
)
{ ret; }
"""


def test_ptx_entries_are_read_with_kinds_sizes_and_offsets() -> None:
    plain, many = entries(PTX)
    assert (plain.name, plain.parameters) == ("plain", ())
    assert many.name == "many"
    kinds = [(one.kind, one.nbytes, one.offset) for one in many.parameters]
    assert kinds == [("pointer", 8, 0), ("u32", 4, 8), ("f64", 8, 16), ("bytes", 24, 24)]
    assert counterpart.difference(many) is None


def test_ptx_that_cannot_be_read_is_an_error_naming_the_kernel() -> None:
    with pytest.raises(PtxError, match=r"kernel odd.*tensor"):
        entries(PTX + ".visible .entry odd(.param .tensor x)\n{ ret; }")
