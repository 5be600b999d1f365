"""Runs a command that ends with whoever asked for it: ``python -m dmaproof.guest.leash COMMAND..``.

``make`` and ``apt-get`` start processes of their own; killing the one that asked would leave them at work. This process
has the command in a group of its own and the asker's pipe as its standard input: when that ends, so does the group.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

from dmaproof.parent import die_with_parent


def main(command: Sequence[str], inherited: Sequence[int]) -> int:
    """The command's exit status, or 128 and the signal's number, as shells have it."""
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for whoever asked, who will say what becomes of this
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread
    )
    pidfd = os.pidfd_open(child.pid)
    try:
        select.select([0, pidfd], [], [])
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # not reaped yet, so that the number is still its own
        code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], [int(fd) for fd in sys.argv[1].split(",") if fd]))
