"""Files whose reads answer what a test says: bytes, an errno, or nothing ever. A FUSE server spoken raw over /dev/fuse.

Message layouts: include/uapi/linux/fuse.h. Two processes, both without any descriptor of the test: the *server*
answers, the *keeper* waits for the test to end, in whatever way, then ends the server (which aborts the connection, and
so every read still waiting) and unmounts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import stat
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

Answer = bytes | int | None
"""What a read gets: data, an errno, or (None) no answer as long as the mount lives."""
Read = Callable[[int, int], Answer]

_WITHOUT_REPLY = {2, 36, 42}  # FORGET, INTERRUPT, BATCH_FORGET
_ROOT = 1
_FOPEN_DIRECT_IO = 1
_MNT_FORCE, _MNT_DETACH = 1, 2
_MS_NOSUID_NODEV = 6
_PR_SET_PDEATHSIG = 1
_BUFFER_NBYTES = 1 << 17
_START_S = _STOP_S = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):  # noqa: N818
    """FUSE cannot be had here, and why: what a test skips with."""


@contextlib.contextmanager
def serve(mountpoint: Path, files: Mapping[str, Read]) -> Iterator[None]:
    """Mount ``files`` (name → ``read(offset, size)``) at the folder ``mountpoint``. Raises Unavailable.

    The functions run in the server's process, which starts as a copy of the test's: they see no later change of it, and
    open what they read. Reads come as they are made (direct I/O); an answer longer than ``size`` is cut.
    """
    ours, theirs = os.pipe(), os.pipe()
    keeper = _fork()
    if keeper == 0:
        _keep(mountpoint, files, until=ours[0], tell=theirs[1])
    os.close(ours[0])
    os.close(theirs[1])
    try:
        refusal = _hear(theirs[0])
        if refusal:
            raise Unavailable(refusal)
        yield
    finally:
        os.close(ours[1])
        os.close(theirs[0])
        _wait(keeper)


def _hear(fd: int) -> str:
    if not select.select([fd], [], [], _START_S)[0]:
        return f"the FUSE server did not start within {_START_S:g} s"
    word = os.read(fd, 4096).decode()
    return "" if word == "ready" else word or "the FUSE server died"


def _keep(mountpoint: Path, files: Mapping[str, Read], until: int, tell: int) -> NoReturn:
    try:
        os.setsid()  # Ctrl-C is the test's
        test = os.pidfd_open(os.getppid())  # beside the pipe, whose other end a child of the test may have inherited
        _close_all_but(until, tell, test)
        try:
            fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            _mount(mountpoint, fuse)
        except OSError as error:
            os.write(tell, f"no FUSE mount: {error}".encode())
            os._exit(1)
        server = _fork()
        if server == 0:
            _serve(fuse, files)
        os.close(fuse)  # the server's is the last one: its end aborts the connection
        os.write(tell, b"ready")
        select.select([until, test], [], [])
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        _libc.umount2(os.fsencode(mountpoint), _MNT_FORCE | _MNT_DETACH)
    finally:
        os._exit(0)


def _mount(mountpoint: Path, fuse: int) -> None:
    options = f"fd={fuse},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other".encode()
    if _libc.mount(b"dmaproof-test", os.fsencode(mountpoint), b"fuse", _MS_NOSUID_NODEV, options):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(mountpoint))


def _serve(fuse: int, files: Mapping[str, Read]) -> NoReturn:
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        names = list(files)
        while True:
            request = os.read(fuse, _BUFFER_NBYTES)
            _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
            answer = _answer(opcode, node, request[40:], names, files)
            if opcode in _WITHOUT_REPLY or answer is None:
                continue
            data, error = (b"", -answer) if isinstance(answer, int) else (answer, 0)
            with contextlib.suppress(FileNotFoundError):  # the reader was killed while we answered
                os.write(fuse, struct.pack("=IiQ", 16 + len(data), error, unique) + data)
    finally:
        os._exit(0)


def _answer(opcode: int, node: int, body: bytes, names: list[str], files: Mapping[str, Read]) -> Answer:
    match opcode:
        case 26:  # INIT
            return struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
        case 1:  # LOOKUP
            name = body.rstrip(b"\0").decode()
            if name not in files:
                return errno.ENOENT
            found = names.index(name) + _ROOT + 1
            return struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + _attributes(found)
        case 3:  # GETATTR
            return struct.pack("=QII", 0, 0, 0) + _attributes(node)
        case 14 | 27:  # OPEN, OPENDIR
            return struct.pack("=QIi", 0, _FOPEN_DIRECT_IO, 0)
        case 15:  # READ
            _, offset, size = struct.unpack_from("=QQI", body)
            answer = files[names[node - _ROOT - 1]](offset, size)
            return answer[:size] if isinstance(answer, bytes) else answer
        case 18 | 25 | 28 | 29:  # RELEASE, FLUSH, READDIR, RELEASEDIR
            return b""
    return errno.ENOSYS


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o444
    return struct.pack("=QQQQQQIIIIIIIIII", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _close_all_but(*kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    edges = sorted(kept)
    for low, high in zip([2, *edges], [*edges, os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, since Python 3.12
        return os.fork()


def _wait(pid: int) -> None:
    end = time.monotonic() + _STOP_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            raise TimeoutError(f"FUSE keeper {pid} has not ended within {_STOP_S:g} s")
        time.sleep(0.005)
