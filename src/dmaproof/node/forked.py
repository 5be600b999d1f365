"""A worker's process made by fork(2), not by starting Python anew: for a system on which that takes seconds.

Only for a process that has one thread and has not touched CUDA, such as an agent's. The worker sees what was imported
before; environment that the dynamic loader reads (LD_LIBRARY_PATH) has no effect on it.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from dmaproof.node import worker_main


class Forked:
    """What of a subprocess.Popen dmaproof.node.process needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def spawn(fd: int, output: Path, stacks: Path, env: Mapping[str, str]) -> Forked:
    """A worker that takes its calls from socket ``fd`` (dmaproof.node.worker_main)."""
    pid = os.fork()
    if pid == 0:
        _be_the_worker(fd, output, stacks, env)
    return Forked(pid)


def _be_the_worker(fd: int, output: Path, stacks: Path, env: Mapping[str, str]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for standard in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), standard)
        os.closerange(3, fd)
        os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ |= env
        worker_main.main(fd, stacks)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - nobody else is left to write it down
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
