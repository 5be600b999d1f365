"""The driver as a library: what it is asked at the door, what it refuses, and that it says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.virtual.driver.test_chunks import pattern_word
from tests.virtual.driver.thread_machine import PRELUDE, Machine, transfers


def test_devices_are_what_the_rig_says(hgx: Machine) -> None:
    said = hgx.out(
        """
        ok(cu.cuInit(0))
        device = ok(cu.cuDeviceGetByPCIBusId(b"0000:43:00.0"))
        name = ok(cu.cuDeviceGetName(64, device)).rstrip(b"\\0 ").decode()
        def attribute(name):
            number = getattr(cu.CUdevice_attribute, "CU_DEVICE_ATTRIBUTE_" + name)
            return int(ok(cu.cuDeviceGetAttribute(number, device)))
        print(json.dumps({
            "count": ok(cu.cuDeviceGetCount()), "ordinal": int(device), "name": name,
            "bdf": ok(cu.cuDeviceGetPCIBusId(13, device)).split(b"\\0")[0].decode(),
            "uuid": ok(cu.cuDeviceGetUuid(device)).bytes.hex(), "memory": ok(cu.cuDeviceTotalMem(device)),
            "cc": [attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")],
            "bus": attribute("PCI_BUS_ID"), "pageable": attribute("PAGEABLE_MEMORY_ACCESS"),
            "ats": attribute("PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES"), "sms": attribute("MULTIPROCESSOR_COUNT"),
            "peer": [ok(cu.cuDeviceCanAccessPeer(0, 1)), ok(cu.cuDeviceCanAccessPeer(1, 1))],
            "missing": [int(cu.cuDeviceGet(8)[0]), int(cu.cuDeviceGetByPCIBusId(b"0000:44:00.0")[0])],
        }))
        """
    )
    assert said == {
        "count": 8,
        "ordinal": 1,
        "name": "NVIDIA H100 80GB HBM3",
        "bdf": "0000:43:00.0",
        "uuid": "4d6f6f66000040008000000000000043",
        "memory": 85520809984,
        "cc": [9, 0],
        "bus": 0x43,
        "pageable": 1,
        "ats": 0,
        "sms": 132,
        "peer": [1, 0],
        "missing": [101, 101],
    }


@pytest.mark.parametrize(
    ("rig", "expected"),
    [("virtual:gh200", [1, 1, 1]), ("virtual:pcie-pair", [0, 0, 0]), ("virtual:hgx-h100", [1, 0, 0])],
)
def test_addressing_modes(machine_of, rig: str, expected: list[int]) -> None:  # type: ignore[no-untyped-def]
    program = "ok(cu.cuInit(0)); print(json.dumps([int(ok(cu.cuDeviceGetAttribute(cu.CUdevice_attribute(n), 0)))"
    assert machine_of(rig).out(program + " for n in (88, 100, 101)]))") == expected


def test_a_call_that_is_not_implemented_names_itself(pair: Machine) -> None:
    done = pair.run("ok(cu.cuInit(0)); cu.cuMulticastCreate(cu.CUmulticastObjectProp())")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("function cuMulticastCreate is not found")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("cuDeviceGetAttribute(cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 0)", "attribute 13"),
        ("cuMemAllocManaged(4096, 2)", "cuMemAllocManaged: .* flags 0x2"),
        (
            "cuPointerGetAttribute(cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_P2P_TOKENS, ok(cu.cuMemAlloc(16)))",
            "attribute 5",
        ),
    ],
)
def test_parameters_that_are_not_implemented_are_refused_aloud(pair: Machine, call: str, said: str) -> None:
    done = pair.run(f"ok(cu.cuInit(0)); use(0); print(int(cu.{call}[0]))")
    assert done.stdout == "801\n", done.stderr
    message = done.stderr.splitlines()[-1]
    assert "not implemented by the virtual driver" in message
    assert re.search(said, message)


def test_calls_before_init_and_without_a_context_are_refused(pair: Machine) -> None:
    assert pair.out(
        """
        codes = [cu.cuDeviceGetCount(), cu.cuCtxSynchronize()]; ok(cu.cuInit(0)); codes.append(cu.cuMemAlloc(16))
        print(json.dumps([int(code[0]) for code in codes]))
        """
    ) == [3, 3, 201]


def test_a_forked_child_cannot_use_the_driver(pair: Machine) -> None:
    done = pair.run(
        """
        import os
        ok(cu.cuInit(0)); use(0)
        if os.fork() == 0:
            print(int(cu.cuMemAlloc(16)[0]), flush=True); os._exit(0)
        os.wait(); print(int(cu.cuMemAlloc(16)[0]))
        """
    )
    assert done.stdout == "3\n0\n"


def test_without_a_machine_init_says_what_is_missing(pair: Machine) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(pair.root / "lib")}
    environment.pop("DMAPROOF_MACHINE", None)
    command = [sys.executable, "-c", PRELUDE + "print(int(cu.cuInit(0)[0]))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "100\n"
    assert "DMAPROOF_MACHINE is not set" in done.stderr


def test_a_driver_that_cannot_be_imported_shows_why(pair: Machine) -> None:
    done = pair.run(
        """
        sys.modules["dmaproof.virtual.driver"] = None
        cu.cuInit(0)
        """
    )
    assert "Traceback" in done.stderr
    assert "could not be loaded" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("function cuInit is not found")


def test_peer_access_has_the_errors_of_cuda(hgx: Machine) -> None:
    assert hgx.out(
        """
        ok(cu.cuInit(0)); far, near = use(1), use(0)
        codes = [cu.cuCtxDisablePeerAccess(far), cu.cuCtxEnablePeerAccess(far, 1), cu.cuCtxEnablePeerAccess(near, 0)]
        codes += [cu.cuCtxEnablePeerAccess(far, 0), cu.cuCtxEnablePeerAccess(far, 0)]
        codes += [cu.cuCtxDisablePeerAccess(far), cu.cuCtxDisablePeerAccess(far)]
        print(json.dumps([int(code[0]) for code in codes]))
        """
    ) == [705, 1, 201, 0, 704, 0, 705]


def test_memory_is_accounted_for_and_addresses_are_not_reused(pair: Machine) -> None:
    assert pair.out(
        """
        ok(cu.cuInit(0)); use(1); other = int(ok(cu.cuMemAlloc(1 << 30))); use(0)
        free, total = ok(cu.cuMemGetInfo()); seen = set()
        for _ in range(500):
            va = int(ok(cu.cuMemAlloc(512 << 20))); seen.add(va)
            ok(cu.cuMemcpyDtoD(va, va + (1 << 20), 16)); ok(cu.cuMemFree(va))
        last = cu.cuMemcpyDtoD(va, va, 16)
        kept = int(ok(cu.cuMemAlloc(4096)))
        base, size = ok(cu.cuMemGetAddressRange(kept + 5))
        ordinal = ok(cu.cuPointerGetAttribute(cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, other))
        codes = [cu.cuMemAlloc(total + 1), cu.cuMemFree(kept + 16), cu.cuMemFree(kept), cu.cuMemFree(kept), last]
        codes.append(cu.cuMemcpyDtoD(other, other + (1 << 30) - 8, 16))
        print(json.dumps([len(seen) > 200, free == ok(cu.cuMemGetInfo())[0], int(base) == kept, size, int(ordinal),
                          [int(code[0]) for code in codes]]))
        """
    ) == [True, True, True, 4096, 1, [2, 1, 0, 1, 1, 1]]


def test_host_memory_can_be_registered_and_is_then_reached_as_pinned(pair: Machine) -> None:
    assert pair.out(
        """
        ok(cu.cuInit(0)); use(0); module = kernels("sm_86")
        words = np.zeros(4096, np.uint32); address = words.ctypes.data
        codes = [cu.cuMemHostUnregister(address), cu.cuMemHostRegister(address, words.nbytes, 0)]
        codes.append(cu.cuMemHostRegister(address, words.nbytes, 0))
        same = int(ok(cu.cuMemHostGetDevicePointer(address, 0))) == address
        ok(launch(module, "dmaproof_increment", 0, address, 4096)); ok(cu.cuCtxSynchronize())
        codes.append(cu.cuMemHostUnregister(address))
        print(json.dumps([[int(code[0]) for code in codes], same, sorted(set(words.tolist()))]))
        """
    ) == [[713, 0, 712, 0], True, [1]]


def test_resetting_the_primary_context_frees_what_was_in_it(pair: Machine) -> None:
    assert pair.out(
        """
        ok(cu.cuInit(0)); use(0); va = ok(cu.cuMemAlloc(1 << 20)); managed = ok(cu.cuMemAllocManaged(1 << 20, 1))
        ok(cu.cuDevicePrimaryCtxReset(0)); stale = cu.cuCtxSynchronize(); use(0)
        free, total = ok(cu.cuMemGetInfo())
        print(json.dumps([free == total, int(cu.cuMemFree(va)[0]), int(cu.cuMemFree(managed)[0])]))
        """
    ) == [True, 1, 1]


def test_errors_have_their_names(pair: Machine) -> None:
    assert pair.out(
        """
        answers = [cu.cuGetErrorName(cu.CUresult(code))[1].decode() for code in (0, 700)]
        answers.append(ok(cu.cuGetErrorString(cu.CUresult(700))).decode())
        print(json.dumps(answers))
        """
    ) == ["CUDA_SUCCESS", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"]


def test_an_interrupted_wait_is_an_error_of_the_call(pair: Machine) -> None:
    pair.rules.append(transfers("never"))
    done = pair.run(
        """
        import os, signal, threading
        ok(cu.cuInit(0)); use(0); gpu = ok(cu.cuMemAlloc(16))
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        print(int(cu.cuMemsetD8(gpu, 1, 16)[0]), flush=True)
        os._exit(0)
        """
    )
    assert done.stdout == "999\n"
    assert "cuMemsetD8: interrupted" in done.stderr


CUDA_CORE = """
from importlib import resources
from cuda.core import Device, DeviceMemoryResource, EventOptions, LaunchConfig, Program, ProgramOptions
from cuda.core import launch as go

device = Device(0); device.set_current(); stream = device.create_stream()
folder = resources.files("dmaproof.cuda") / "kernels"
text = (folder / "pattern.cuh").read_text() + (folder / "memory.cu").read_text()
kernel = Program(text, "c++", ProgramOptions(arch=f"sm_{device.arch}")).compile("ptx").get_kernel("dmaproof_fill")
memory = DeviceMemoryResource(0)
one, other = memory.allocate(1 << 20, stream=stream), memory.allocate(1 << 20, stream=stream)
timed = EventOptions(timing_enabled=True) if hasattr(EventOptions(), "timing_enabled") else EventOptions()
start = stream.record(options=timed)
go(stream, LaunchConfig(grid=4, block=64), kernel, one, np.uint64(1 << 18), np.uint32(5))
other.copy_from(one, stream=stream)
end = stream.record(options=timed)
stream.sync()
back = np.empty(1 << 18, np.uint32); ok(cu.cuMemcpyDtoH(back.ctypes.data, int(other.handle), back.nbytes))
expected = 2 * (1 << 20) / 1520e6
close = abs((end - start) - expected) < 1e-6
properties = device.properties
print(json.dumps([device.name, close, back[:3].tolist(), bool(properties.pageable_memory_access),
                  device.can_access_peer(Device(1))]))
one.close(stream); other.close(stream)
"""


def test_cuda_core_works_as_its_manual_has_it(hgx: Machine) -> None:
    name, close, words, pageable, peer = hgx.out(CUDA_CORE)
    assert (name, close, pageable, peer) == ("NVIDIA H100 80GB HBM3", True, True, True)
    assert words == [pattern_word(i, 5) for i in range(3)]
