"""A machine in a thread, just enough of the wire for the driver's tests, and real CUDA programs run on it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmaproof.rig.load import load
from dmaproof.rig.model import Node
from dmaproof.virtual.stub.build import build_cuda
from dmaproof.virtual.wire import ROOT_VARIABLE

Request = dict[str, Any]
Answer = dict[str, Any]
Rule = Callable[[Request], Answer | None]

PRELUDE = """
import ctypes, sys, time, faulthandler
faulthandler.enable()
import numpy as np
from cuda.bindings import driver as cu

def ok(answer):
    code, *values = answer
    assert int(code) == 0, (str(code), values)
    return values[0] if len(values) == 1 else values

def use(ordinal):
    context = ok(cu.cuDevicePrimaryCtxRetain(ok(cu.cuDeviceGet(ordinal))))
    ok(cu.cuCtxSetCurrent(context))
    return context

def view(address, nbytes, kind=ctypes.c_uint8):
    return np.ctypeslib.as_array((kind * (nbytes // ctypes.sizeof(kind))).from_address(int(address)))

def elapsed_ms(stream, work, count):
    start, end = ok(cu.cuEventCreate(0)), ok(cu.cuEventCreate(0))
    ok(cu.cuEventRecord(start, stream))
    for _ in range(count):
        work()
    ok(cu.cuEventRecord(end, stream))
    ok(cu.cuEventSynchronize(end))
    return ok(cu.cuEventElapsedTime(start, end))

def kernels(arch):
    from importlib import resources
    from cuda.core import Program, ProgramOptions
    folder = resources.files("dmaproof.cuda") / "kernels"
    names = ("pattern.cuh", "memory.cu", "sync.cu", "atomics.cu", "bandwidth.cu", "tma.cu", "peer.cu")
    names += ("unified.cu", "contain.cu")
    needs = {"tma.cu": 90}  # dmaproof.cuda.kernels.NEEDS
    text = "".join((folder / name).read_text() for name in names if needs.get(name, 0) <= int(arch[3:]))
    ptx = Program(text, "c++", ProgramOptions(arch=arch)).compile("ptx").code
    return ok(cu.cuModuleLoadData(ptx))

TYPES = {
    "dmaproof_fill": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32),
    "dmaproof_verify": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p),
    "dmaproof_increment": (ctypes.c_void_p, ctypes.c_uint64),
    "dmaproof_copy": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64),
    "dmaproof_chase": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p),
    "dmaproof_hold": (ctypes.c_void_p, ctypes.c_uint64),
    "dmaproof_pingpong": (ctypes.c_void_p, ctypes.c_uint32),
    "dmaproof_add_until": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    "dmaproof_read_until": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p),
    "dmaproof_count_until": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    "dmaproof_trap": (ctypes.c_uint32,),
    "dmaproof_copy_rounds": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32),
    "dmaproof_exchange_rounds": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32),
    "dmaproof_read_rounds": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p),
    "dmaproof_write_rounds": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32),
    "dmaproof_chase_on": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint32),
    "dmaproof_tma_copy": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32),
    "dmaproof_tma_chase": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint32),
    "dmaproof_copy_bytes": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64),
    "dmaproof_red": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32),
    "dmaproof_atom": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p),
    "dmaproof_send": (*(ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p),
                      *(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p)),
    "dmaproof_receive": (*(ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p),
                         *(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p)),
}

def launch(module, name, stream, *values, grid=4, block=64):
    function = ok(cu.cuModuleGetFunction(module, name.encode()))
    values = tuple(int(value) for value in values)
    return cu.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, (values, TYPES[name]), 0)

def verify(module, stream, va, nwords, seed):
    result = ok(cu.cuMemAlloc(16))
    host = np.array([0, 2**64 - 1], np.uint64)
    ok(cu.cuMemcpyHtoD(result, host.ctypes.data, 16))
    ok(launch(module, "dmaproof_verify", stream, va, nwords, seed, result))
    ok(cu.cuStreamSynchronize(stream))
    ok(cu.cuMemcpyDtoH(host.ctypes.data, result, 16))
    return int(host[0]), int(host[1])
"""


class Machine:
    """Answers from the rig's paths, unless a rule answers first. ``requests`` is everything asked."""

    def __init__(self, root: Path, rig: str) -> None:
        self.root, self.node = root, load(rig).nodes[0]
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        (root / "run").mkdir(parents=True)
        build_cuda(root / "lib")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(root / "run" / "machine.sock"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def asked(self, op: str) -> list[Request]:
        return [request for request in self.requests if request["op"] == op]

    def run(self, program: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run ``program`` after the prelude as a plain script of real cuda-python."""
        environment = {**os.environ, ROOT_VARIABLE: str(self.root), "LD_LIBRARY_PATH": str(self.root / "lib")}
        command = [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(program)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)

    def out(self, program: str, timeout_s: float = 60.0) -> Any:
        """What the last line that ``program`` prints says, as JSON. The program must end well."""
        done = self.run("import json\n" + textwrap.dedent(program), timeout_s)
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, link.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                self.requests.append(request)
                ruled = next(filter(None, (rule(request) for rule in self.rules)), None)
                link.sendall(json.dumps(ruled or self._answer(request)).encode() + b"\n")

    def _answer(self, request: Request) -> Answer:
        if request["op"] == "hello":
            return {"node": self.node.model_dump_json()}
        if request["op"] == "inquiry":
            return {"state": "present"}
        if request["op"] == "kernel":
            return {}
        if request["op"] == "fault":
            return {"effect": "served", "duration_ns": 1000.0 + request["nbytes"] / 20.0}
        path = self.node.path_between(name(self.node, request["source"]), name(self.node, request["target"]))
        assert path is not None, request
        return {"effect": "lands", "bandwidth_GBps": path.bandwidth_GBps, "latency_ns": path.latency_ns}


def name(node: Node, place: str) -> str:
    return next((gpu.name for gpu in node.gpus if gpu.bdf == place), place)


def transfers(effect: str, **fields: Any) -> Rule:
    """A rule: DMA whose request has all of ``fields`` ends in ``effect``."""

    def rule(request: Request) -> Answer | None:
        matches = request["op"] == "dma" and all(request[key] == value for key, value in fields.items())
        return {"effect": effect, "bandwidth_GBps": 20.0, "latency_ns": 1000.0} if matches else None

    return rule
