"""The unmodified pynvml, in a process of its own, on a machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pynvml
import pytest

from dmaproof.node.node import Node
from dmaproof.rig.load import load
from dmaproof.virtual.nvml.stub import function_names

PRELUDE = "import json, sys, time, pynvml as n\nn.nvmlInit()\nh = n.nvmlDeviceGetHandleByIndex\n"
LAST = "0000:df:00.0"


def run(node: Node, code: str, *, prelude: str = PRELUDE) -> Any:
    """The JSON that ``code`` prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + code],
        env={**os.environ, **node.env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def test_devices_are_those_of_the_rig(boot) -> None:
    node = boot("virtual:hgx-h100")
    found = run(
        node,
        """
rows = []
for i in range(n.nvmlDeviceGetCount()):
    d = h(i)
    p = n.nvmlDeviceGetPciInfo(d)
    rows.append([n.nvmlDeviceGetName(d), n.nvmlDeviceGetUUID(d), p.busId, p.busIdLegacy, p.domain, p.bus, p.device,
        n.nvmlDeviceGetIndex(d), n.nvmlDeviceGetMinorNumber(d), n.nvmlDeviceGetMemoryInfo(d).total,
        n.nvmlDeviceGetMemoryInfo(d, version=n.nvmlMemory_v2).total, list(n.nvmlDeviceGetCudaComputeCapability(d)),
        n.nvmlDeviceGetCurrPcieLinkGeneration(d), n.nvmlDeviceGetMaxPcieLinkWidth(d),
        n.nvmlDeviceGetPcieReplayCounter(d), n.nvmlDeviceGetNvLinkState(d, 17), n.nvmlDeviceGetAddressingMode(d)])
print(json.dumps(rows))
""",
    )
    for index, (row, gpu) in enumerate(zip(found, load("virtual:hgx-h100").nodes[0].gpus, strict=True)):
        upper, bus = gpu.bdf.upper(), int(gpu.bdf[5:7], 16)
        place = [f"0000{upper}", upper, 0, bus, 0, index, index]
        memory = [gpu.memory_nbytes, gpu.memory_nbytes]
        assert row == [
            gpu.product,
            gpu.uuid,
            *place,
            *memory,
            [9, 0],
            5,
            16,
            0,
            1,
            pynvml.NVML_DEVICE_ADDRESSING_MODE_HMM,
        ]


def test_handles_are_found_by_uuid_and_address(boot) -> None:
    node = boot("virtual:pcie-pair")
    assert run(
        node,
        """
uuid, bdf = "GPU-4d6f6f66-0000-4000-8000-000000000082", "00000000:82:00.0"
def code(f, *a):
    try: return f(*a) and 0
    except n.NVMLError as e: return e.value
print(json.dumps([n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(uuid)),
    n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(bdf)),
    code(n.nvmlDeviceGetHandleByUUID, "GPU-nobody"), code(n.nvmlDeviceGetHandleByPciBusId, "83:00.0"),
    code(n.nvmlDeviceGetHandleByPciBusId, "?"), code(h, 2)]))
""",
    ) == [1, 1, *(pynvml.NVML_ERROR_NOT_FOUND,) * 2, *(pynvml.NVML_ERROR_INVALID_ARGUMENT,) * 2]


@pytest.mark.parametrize(
    ("word", "statuses", "level"),
    [
        ("virtual:hgx-h100", [0, 0, 0, 0, 5], pynvml.NVML_TOPOLOGY_NODE),
        ("virtual:pcie-pair", [0, 0, 5, 5, 0], pynvml.NVML_TOPOLOGY_NODE),
        ("virtual:guest-pair", [0, 0, 5, 5, 0], pynvml.NVML_TOPOLOGY_HOSTBRIDGE),
    ],
)
def test_peers_are_what_the_rig_declares(word, statuses, level, boot) -> None:
    code = """
print(json.dumps([[n.nvmlDeviceGetP2PStatus(h(0), h(1), i) for i in range(5)],
    n.nvmlDeviceGetTopologyCommonAncestor(h(0), h(1))]))
"""
    assert run(boot(word), code) == [statuses, level]


def test_a_function_that_is_not_there_says_its_own_name(boot) -> None:
    code = """
found = []
for f in (lambda: n.nvmlDeviceGetTemperature(h(0), 0), lambda: n.nvmlDeviceGetSerial(h(0))):
    try: found.append(f())
    except n.NVMLError as e: found.append([e.value >= 3000, str(e)])
print(json.dumps(found))
"""
    names = ("nvmlDeviceGetTemperature", "nvmlDeviceGetSerial")
    assert run(boot("virtual:gh200"), code) == [
        [True, f"{one} is not implemented by the virtual driver"] for one in names
    ]


def test_every_name_that_pynvml_asks_for_is_exported(boot) -> None:
    library = boot("virtual:gh200").root / "usr/lib/libnvidia-ml.so.1"
    table = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in table.splitlines()}
    assert len(function_names()) > 300
    assert set(function_names()) <= exported


def test_without_a_machine_the_driver_is_not_loaded(boot) -> None:
    node = boot("virtual:gh200")
    gone = Node("gone", node.root, {**node.env, "DMAPROOF_MACHINE": str(node.root / "nowhere")})
    code = """
try: n.nvmlInit()
except n.NVMLError as e: print(json.dumps([e.value, str(e)]))
"""
    assert run(gone, code, prelude="import json, pynvml as n\n") == [
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        "Driver Not Loaded",
    ]


def test_after_shutdown_nothing_works_until_the_next_init(boot) -> None:
    code = """
n.nvmlInit(); n.nvmlShutdown()
counts = [n.nvmlDeviceGetCount()]
n.nvmlShutdown()
try: n.nvmlDeviceGetCount()
except n.NVMLError as e: counts.append(e.value)
n.nvmlInit()
print(json.dumps([*counts, n.nvmlDeviceGetCount()]))
"""
    assert run(boot("virtual:pcie-pair"), code) == [2, pynvml.NVML_ERROR_UNINITIALIZED, 2]


def test_waiting_for_events_takes_as_long_as_it_says(boot) -> None:
    code = """
s = n.nvmlEventSetCreate()
mask = n.nvmlDeviceGetSupportedEventTypes(h(0))
n.nvmlDeviceRegisterEvents(h(0), mask, s)
t = time.monotonic()
try: n.nvmlEventSetWait_v2(s, 300)
except n.NVMLError as e: print(json.dumps([e.value, time.monotonic() - t, mask & 8]))
n.nvmlEventSetFree(s)
"""
    code_, waited, xid = run(boot("virtual:gh200"), code)
    assert (code_, xid) == (pynvml.NVML_ERROR_TIMEOUT, 8)
    assert 0.3 <= waited < 2


def test_a_loss_comes_as_events_and_then_as_an_error(boot, dial) -> None:
    node = boot("virtual:hgx-h100", "gpu-lost")
    watcher = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + WATCHER], env={**os.environ, **node.env}, stdout=subprocess.PIPE, text=True
    )
    with watcher:
        assert watcher.stdout.readline() == "watching\n"
        assert dial(node).dma("host", LAST) == "lost"
        events, after, chosen = json.loads(watcher.stdout.readline())
    assert events == [[0x8, 79, 7], [0x4000, 0, 7], [0x8000, 1, 7], [0x8, 154, 7]]
    assert chosen == [0x4000, pynvml.NVML_ERROR_TIMEOUT]
    assert after == [["name", pynvml.NVML_ERROR_GPU_IS_LOST], ["handle", pynvml.NVML_ERROR_GPU_IS_LOST], ["other", 0]]


WATCHER = """
import ctypes
devices = [h(i) for i in range(n.nvmlDeviceGetCount())]
s = n.nvmlEventSetCreate()
for d in devices:
    n.nvmlDeviceRegisterEvents(d, n.nvmlDeviceGetSupportedEventTypes(d), s)
few = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(devices[0], 0x8, few)
n.nvmlDeviceRegisterEvents(devices[7], 0x4000, few)
print("watching", flush=True)
events = []
for _ in range(4):
    e = n.nvmlEventSetWait_v2(s, 5000)
    handle = ctypes.cast(e.device, ctypes.c_void_p).value
    events.append([e.eventType, e.eventData, [ctypes.cast(d, ctypes.c_void_p).value for d in devices].index(handle)])
after = []
for what, call in (("name", lambda: n.nvmlDeviceGetName(devices[7])), ("handle", lambda: h(7)),
                   ("other", lambda: n.nvmlDeviceGetName(devices[0]))):
    try: call(); after.append([what, 0])
    except n.NVMLError as e: after.append([what, e.value])
chosen = [n.nvmlEventSetWait_v2(few, 5000).eventType]
try: n.nvmlEventSetWait_v2(few, 200)
except n.NVMLError as e: chosen.append(e.value)
print(json.dumps([events, after, chosen]))
"""


def test_the_recovery_action_is_a_field_and_other_fields_say_that_they_are_not_there(boot) -> None:
    code = """
v = n.nvmlDeviceGetFieldValues(h(0), [n.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 1])
print(json.dumps([[x.fieldId, x.nvmlReturn] for x in v] + [v[0].value.uiVal]))
"""
    assert run(boot("virtual:gh200"), code) == [[230, 0], [1, pynvml.NVML_ERROR_NOT_SUPPORTED], 0]
