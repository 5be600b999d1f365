"""Questions to this machine that only trying answers: each does the thing itself, in a process that may be left behind.

Every probe returns what it saw, or raises OSError or an error of the tool with the reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.node import isolated
from dmaproof.node.deadline import Deadline
from dmaproof.node.isolated import Outcome

_KMSG_RECORD_NBYTES = 8192  # CONSOLE_EXT_LOG_MAX, kernel/printk/printk.c
_KVM_GET_API_VERSION, _KVM_CREATE_VM, _KVM_API_VERSION = 0xAE00, 0xAE01, 12  # include/uapi/linux/kvm.h


def attempt(probe: Callable[[], str], deadline_s: float) -> Outcome:
    """What ``probe`` says, or why it cannot, within ``deadline_s`` seconds: a wedged driver may hold who asks it."""
    return isolated.start(probe).collect(Deadline.after(deadline_s))


def compiler(timeout_s: float) -> str:
    """Build a shared library of one function with ``cc``: headers and linker are looked for as well."""
    found = shutil.which("cc")
    if found is None:
        raise UsageError("no cc on PATH")
    with tempfile.TemporaryDirectory() as folder:
        source, said = Path(folder, "probe.c"), Path(folder, "said")
        source.write_text("#include <pthread.h>\n#include <stdio.h>\nint probe(void) { return 0; }\n")
        command = [found, "-shared", "-fPIC", "-pthread", "-o", str(source.with_suffix(".so")), str(source)]
        with said.open("wb") as errors:  # a file, since a pipe would be waited for as long as any child has it
            status = subprocess.run(command, stdout=errors, stderr=errors, timeout=timeout_s, check=False).returncode
        if status != 0:
            last = said.read_text(errors="replace").strip().splitlines()[-1:]
            raise UsageError(f"{found} cannot build a shared library: {' '.join(last) or f'exit status {status}'}")
    return found


def bindings() -> str:
    """Import what workers import. No driver is needed for that."""
    import cuda.bindings
    import cuda.bindings.driver
    import cuda.core

    return f"cuda-bindings {cuda.bindings.__version__}, cuda-core {cuda.core.__version__}"


def nvrtc() -> str:
    """Compile a kernel of the project. NVRTC itself is asked, since it needs no driver; cuda.core wants one."""
    from cuda.bindings import nvrtc

    from dmaproof.cuda.kernels import source

    status, program = nvrtc.nvrtcCreateProgram(source("memory.cu").encode(), b"memory.cu", 0, [], [])
    if int(status) == 0:
        options = [b"--gpu-architecture=compute_90"]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status) != 0:
        raise UsageError(f"memory.cu does not compile: {nvrtc.nvrtcGetErrorString(status)[1].decode()}")
    _, major, minor = nvrtc.nvrtcVersion()
    return f"NVRTC {major}.{minor} compiled memory.cu"


def kmsg(root: Path) -> str:
    """Read one record of the kernel log."""
    fd = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.read(fd, _KMSG_RECORD_NBYTES)
    except BlockingIOError:
        return "readable, no record yet"
    except BrokenPipeError:  # the oldest record was overwritten meanwhile: the next read would give one
        pass
    finally:
        os.close(fd)
    return "readable"


def fuse(root: Path) -> str:
    """Open the FUSE device as a file system's server does."""
    os.close(os.open(root / "dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    if os.geteuid() != 0:
        raise PermissionError("mounting needs root")
    return "can be opened, and root can mount"


def kvm(root: Path) -> str:
    """Make an empty virtual machine: a device that is there may still refuse."""
    fd = os.open(root / "dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
        if version != _KVM_API_VERSION:
            raise UsageError(f"speaks API {version}, not {_KVM_API_VERSION}")
        os.close(fcntl.ioctl(fd, _KVM_CREATE_VM, 0))
    finally:
        os.close(fd)
    return "made a virtual machine"
