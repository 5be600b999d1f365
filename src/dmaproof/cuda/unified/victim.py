"""``python -m dmaproof.cuda.unified.victim GPU``: a process with a kernel that runs until somebody kills it."""

from __future__ import annotations

import sys
import time

from dmaproof.cuda import kernels
from dmaproof.cuda.device import device
from dmaproof.cuda.memory import on_device, pinned
from dmaproof.cuda.timing import stream_on
from dmaproof.cuda.unified.running import TOLD, await_passes, running
from dmaproof.parent import die_with_parent

_NBYTES, _THREADS, _LIMIT_S = 4096, 64, 60.0
"""Nobody needs it for longer than a minute: then it ends by itself."""


def main(gpu: str) -> None:
    die_with_parent()
    one = device(gpu)
    kernels.load_all(one)
    with on_device(one, _NBYTES) as buffer, pinned(one, 4096) as control, stream_on(one) as stream:
        args = (buffer.address, buffer.nwords, control.address, control.address + TOLD)
        with running("dmaproof_read_until", one, stream, control, *args, threads=_THREADS):
            await_passes(control, stream, 1)
            sys.stdout.write("running\n")
            sys.stdout.flush()
            time.sleep(_LIMIT_S)


if __name__ == "__main__":
    main(sys.argv[1])
