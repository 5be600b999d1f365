"""The first process of a lab host: mounts what a kernel offers, starts the agent, takes in orphans, and switches the
machine off once the agent has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from dmaproof.guest import agent

PACKAGES = "/usr/lib/python3/dist-packages"
MODULES = Path("/etc/dmaproof/modules")
"""The drivers to load first, a name a line. A root that is shared has none: the kernel for it has all built in."""
_MOUNTS = {
    "/proc": "proc",
    "/sys": "sysfs",
    "/dev": "devtmpfs",
    "/dev/pts": "devpts",
    "/dev/shm": "tmpfs",  # noqa: S108 - it is what shm_open(3) wants
    "/sys/kernel/debug": "debugfs",
    "/sys/kernel/tracing": "tracefs",
    "/run": "tmpfs",
}
_TMP = "/tmp"  # noqa: S108 - of a machine of its own
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # it would read the metadata of every package there is to look for some
}
_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF, include/uapi/linux/reboot.h
_AF_INET, _SOCK_DGRAM = 2, 2  # bits/socket.h of glibc
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # include/uapi/linux/sockios.h, if.h
_LOOPBACK = struct.pack("16sH22x", b"lo", _IFF_UP)  # struct ifreq, netdevice(7)
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Does not return: where the first process ends, the kernel panics."""
    until_off(_come_up)


def until_off(work: Callable[[], None]) -> None:
    """Do ``work``, then switch the machine off, whatever became of that. Does not return."""
    try:
        work()
    except Exception:  # noqa: BLE001 - the console is all that can be told, and the machine has to end
        _say(_trace())
    finally:
        os.sync()
        _libc.reboot(_POWER_OFF)


def keep_agent() -> None:
    """Have the agent run, until it ends."""
    _say(f"the agent ended (status {_outlived(_agent())})")


def _come_up() -> None:
    for place, kind in _MOUNTS.items():
        _mount(place, kind)
    _mount_tmp()
    _loopback_up()
    os.environ |= ENVIRONMENT
    os.environ.setdefault("PYTHONPATH", PACKAGES)
    _load_drivers()
    keep_agent()


def _mount(place: str, kind: str, options: str = "") -> bool:
    """A kernel without such a file system has none, and says so to whoever wants it."""
    with contextlib.suppress(OSError):  # sysfs makes no folders
        Path(place).mkdir(exist_ok=True)
    return not _libc.mount(kind.encode(), place.encode(), kind.encode(), 0, options.encode())


def _mount_tmp() -> None:
    """Over what the root has there: on a root that is shared, the project itself may be below."""
    scratch = Path("/run/scratch")
    for name in ("upper", "work"):
        (scratch / name).mkdir(parents=True, mode=0o1777)
    if not _mount(_TMP, "overlay", f"lowerdir={_TMP},upperdir={scratch}/upper,workdir={scratch}/work"):
        _mount(_TMP, "tmpfs")


def _loopback_up() -> None:
    """By it the agent of a guest with a disk image is started. A kernel without a network has none.

    By libc, and not by Python's own modules: an emulated processor takes a tenth of a second over these.
    """
    sock = _libc.socket(_AF_INET, _SOCK_DGRAM, 0)
    if sock >= 0:
        _libc.ioctl(sock, ctypes.c_ulong(_SIOCSIFFLAGS), _LOOPBACK)
        os.close(sock)


def _load_drivers() -> None:
    names = MODULES.read_text(encoding="utf-8").split() if MODULES.exists() else []
    if names:
        os.waitpid(os.posix_spawnp("modprobe", ["modprobe", "-a", *names], os.environ), 0)


def _agent() -> int:
    """Its own process group and session, in this very interpreter: starting another takes a second."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            agent.main()
        except BaseException:  # noqa: BLE001 - as above
            _say(_trace())
        os._exit(1)
    return pid


def _outlived(pid: int) -> int:
    """Take in every child until ``pid`` ends; its status."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _trace() -> str:
    import traceback  # here, for an emulated processor takes a tenth of a second over it

    return traceback.format_exc()


def _say(words: str) -> None:
    """To the console."""
    sys.stderr.write(f"init error: {words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
