"""What the unmodified pynvml tells of sick GPUs and their links, as the machine's state has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pynvml
import pytest

from dmaproof.node.node import Node
from tests.virtual.nvml.test_nvml import PRELUDE, run

LAST = "0000:df:00.0"
HEALTH = """
d = h(n.nvmlDeviceGetCount() - 1)
def ask(f, *a):
    try: return f(*a)
    except n.NVMLError as e: return [e.value]
v = n.nvmlDeviceGetFieldValues(d, [230, 4, 94, 144])
print(json.dumps({
    "rows": ask(n.nvmlDeviceGetRemappedRows, d), "mode": n.nvmlDeviceGetEccMode(d),
    "corrected": n.nvmlDeviceGetTotalEccErrors(d, 0, 0), "uncorrected": n.nvmlDeviceGetTotalEccErrors(d, 1, 0),
    "places": [ask(n.nvmlDeviceGetMemoryErrorCounter, d, 1, 0, place) for place in (0, 2, 7)],
    "fields": [v[0].value.uiVal, v[1].value.ullVal, v[2].value.uiVal, v[3].value.uiVal],
    "addressing": n.nvmlDeviceGetAddressingMode(d)}))
"""


def health(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = run(node, HEALTH)
    return found


def test_a_healthy_gpu_has_nothing_to_tell(boot) -> None:
    assert health(boot("virtual:hgx-h100")) == {
        "rows": [0, 0, 0, 0],
        "mode": [1, 1],
        "corrected": 0,
        "uncorrected": 0,
        "places": [[pynvml.NVML_ERROR_NOT_SUPPORTED], 0, 0],
        "fields": [0, 0, 0, 0],
        "addressing": pynvml.NVML_DEVICE_ADDRESSING_MODE_HMM,
    }


def test_a_pending_row_and_a_due_recovery_are_told_from_the_start(boot, tmp_path) -> None:
    node = boot("virtual:hgx-h100", "row-remap-pending", "gpu-recovery-required")
    found = health(node)
    assert found["rows"] == [0, 1, 1, 0]
    assert found["fields"] == [4, 0, 0, 1]
    assert found["uncorrected"] == 0


@pytest.mark.parametrize(
    ("plant", "count", "places", "recovery"),
    [("ecc-uncorrectable", 1, (1, 0), 1), ("ecc-contained", 1, (0, 1), 0)],
)
def test_memory_errors_are_counted_where_they_were(plant, count, places, recovery, boot, dial) -> None:
    node = boot("virtual:hgx-h100", plant)
    assert health(node)["uncorrected"] == 0
    assert dial(node).dma("host", LAST) == "failed"
    found = health(node)
    assert (found["uncorrected"], found["fields"][:2]) == (count, [recovery, count])
    assert found["places"][1:] == list(places)
    assert found["rows"][2] == int(plant == "ecc-uncorrectable")


LINKS = """
d = h(n.nvmlDeviceGetCount() - 1)
print(json.dumps([[n.nvmlDeviceGetNvLinkState(d, link) for link in range(18)],
    [[n.nvmlDeviceGetNvLinkErrorCounter(d, link, kind) for link in range(18)] for kind in (0, 1, 2)]]))
"""


def test_links_that_are_down_and_errors_of_the_one_that_is_marginal(boot, dial) -> None:
    node = boot("virtual:hgx-h100", "nvlink-degraded")
    states, (replay, recovery, crc) = run(node, LINKS)
    assert states == [0] * 9 + [1] * 9
    assert (sum(replay), sum(crc), recovery) == (0, 0, [1] * 9 + [0] * 9)
    client = dial(node)
    for _ in range(3):
        assert client.dma("0000:1b:00.0", LAST, nbytes=64 << 20) == "lands"
    _, (replay, _, crc) = run(node, LINKS)
    assert replay == crc
    assert replay[9] > 100
    assert [at for at, errors in enumerate(replay) if errors] == [9]
    assert client.dma("0000:1b:00.0", "0000:43:00.0", nbytes=64 << 20) == "lands"  # not over that GPU's links
    assert run(node, LINKS)[1][0] == replay


@pytest.mark.parametrize(("plant", "mode"), [("ats-setup-failed", 1), ("ats-setup-failed@1", 0)])
def test_the_addressing_mode_is_what_came_of_it(plant, mode, boot) -> None:
    assert health(boot("virtual:gh200", plant))["addressing"] == mode


EVENTS = """
s = n.nvmlEventSetCreate()
d = h(n.nvmlDeviceGetCount() - 1)
n.nvmlDeviceRegisterEvents(d, n.nvmlDeviceGetSupportedEventTypes(d), s)
print("watching", flush=True)
found = []
while True:
    try: e = n.nvmlEventSetWait_v2(s, 1500)
    except n.NVMLError: break
    found.append([e.eventType, e.eventData])
print(json.dumps(found))
"""
XID, RESET = 0x8, [0x8000, 1]


@pytest.mark.parametrize(
    ("plant", "events"),
    [
        (
            "ecc-uncorrectable",
            [[XID, 48], [0x2, 0], [XID, 63], [0x400, 0], [XID, 95], [0x2000, 0], [XID, 45], [0x4000, 0], RESET],
        ),
        ("ecc-contained", [[0x2, 0], [XID, 94], [0x1000, 0]]),
        ("gsp-timeout", [[XID, 119], [0x4000, 0], RESET]),
    ],
)
def test_every_consequence_is_an_event_of_its_type(plant, events, boot, dial) -> None:
    node = boot("virtual:pcie-pair", plant)
    watcher = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + EVENTS], env={**os.environ, **node.env}, stdout=subprocess.PIPE, text=True
    )
    with watcher:
        assert watcher.stdout.readline() == "watching\n"
        assert dial(node).dma("host", "0000:82:00.0") == "failed"
        found = json.loads(watcher.stdout.readline())
    assert found == events + ([[XID, 154]] if RESET in events else [])
