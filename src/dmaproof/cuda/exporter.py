"""``python -m dmaproof.cuda.exporter GPU NBYTES``: owns memory that another process writes (dmaproof.cuda.memory.ipc).

Says ``{"handle": HEX}`` (CUipcMemHandle) first. Then one JSON object a line each way: ``{"op": "fill", "seed": N}`` is
answered ``{}``, ``{"op": "verify", "seed": N}`` ``{"wrong_words": .., "first_wrong_offset": ..}``. Ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import sys
from dataclasses import asdict
from typing import Any

from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import fill, verify
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.errors import DmaproofError
from dmaproof.parent import die_with_parent


def main(gpu: str, nbytes: int) -> None:
    die_with_parent()
    try:
        one = device(gpu)
        with on_device(one, nbytes) as buffer:
            handle = cu.cuIpcGetMemHandle(buffer.address)
            _say({"handle": ctypes.string_at(int(handle.getPtr()), 64).hex()})
            for line in sys.stdin:
                _say(_answer(one, buffer, json.loads(line)))
    except DmaproofError as error:
        _say({"error": str(error)})


def _answer(one: Device, buffer: Buffer, request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "verify":
        return asdict(verify(one, buffer, request["seed"]))
    fill(one, buffer, request["seed"])
    return {}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
