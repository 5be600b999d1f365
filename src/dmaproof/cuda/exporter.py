"""``python -m dmaproof.cuda.exporter GPU NBYTES [SOCKET]``: owns memory that another process writes
(dmaproof.cuda.memory.ipc).

Says ``{"va": N, "handle": HEX}`` (CUipcMemHandle) first; with a SOCKET ``{"va": N}``, after it has sent a descriptor of
its memory there (SCM_RIGHTS, unix(7)). Then one JSON object a line each way: ``{"op": "fill", "seed": N}`` is answered
``{}``, ``{"op": "verify", "seed": N}`` ``{"wrong_words": .., "first_wrong_offset": ..}``. Ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from dataclasses import asdict
from typing import Any

from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import fill, verify
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.cuda.memory.vmm import exported, on_device_by_handle
from dmaproof.errors import DmaproofError
from dmaproof.parent import die_with_parent


def main(gpu: str, nbytes: int, channel: int | None) -> None:
    die_with_parent()
    try:
        one = device(gpu)
        with on_device(one, nbytes) if channel is None else on_device_by_handle(one, (), nbytes) as buffer:
            _say(_offer(buffer) if channel is None else _send(buffer, channel))
            for line in sys.stdin:
                _say(_answer(one, buffer, json.loads(line)))
    except DmaproofError as error:
        _say({"error": str(error)})


def _offer(buffer: Buffer) -> dict[str, Any]:
    handle = cu.cuIpcGetMemHandle(buffer.address)
    return {"va": buffer.address, "handle": ctypes.string_at(int(handle.getPtr()), 64).hex()}


def _send(buffer: Buffer, channel: int) -> dict[str, Any]:
    fd = exported(buffer.address)
    try:
        with socket.socket(fileno=channel) as to:
            socket.send_fds(to, [b"!"], [fd])
    finally:
        os.close(fd)
    return {"va": buffer.address}


def _answer(one: Device, buffer: Buffer, request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "verify":
        return asdict(verify(one, buffer, request["seed"]))
    fill(one, buffer, request["seed"])
    return {}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else None)
