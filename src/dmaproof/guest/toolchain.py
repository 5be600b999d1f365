"""What compiling a kernel needs of this system, each tried."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass

from dmaproof.errors import UsageError

_TRY_S = 30.0
_PACKAGE = {
    "make": "make",
    "gcc": "gcc",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "tar": "tar",
    "xz": "xz-utils",
}
_HEADERS = {"gelf.h": "libelf-dev"}  # tools/objtool, which checks the code that the unwinder relies on
SELFTESTS_HEADERS = {"linux/if_alg.h": "linux-libc-dev", "sys/capability.h": "libcap-dev", "numa.h": "libnuma-dev"}


@dataclass(frozen=True, slots=True)
class Target:
    """How make is told of an architecture: its name there, the image it makes, the cross compiler's prefix."""

    arch: str
    image: str
    prefix: str

    @property
    def words(self) -> tuple[str, ...]:
        """For make's command line. A native build takes the system's own compiler."""
        native = TARGETS.get(platform.machine()) is self
        return (f"ARCH={self.arch}",) if native else (f"ARCH={self.arch}", f"CROSS_COMPILE={self.prefix}")


TARGETS = {
    "x86_64": Target("x86", "arch/x86/boot/bzImage", "x86_64-linux-gnu-"),
    "aarch64": Target("arm64", "arch/arm64/boot/Image", "aarch64-linux-gnu-"),
}


def check(arch: str, headers: dict[str, str] | None = None) -> None:
    """Raises UsageError with the one command that installs all that is missing for ``arch``'s kernel."""
    if lacking := missing(arch, headers):
        words = " ".join(lacking)
        raise UsageError(f"to build the lab's kernel, this system lacks {words}: run `sudo apt-get install -y {words}`")


def missing(arch: str, headers: dict[str, str] | None = None) -> list[str]:
    """Debian packages of the programs and headers that a build for ``arch`` would not find, once each."""
    packages = [package for program, package in _PACKAGE.items() if shutil.which(program) is None]
    if arch != platform.machine() and shutil.which(f"{TARGETS[arch].prefix}gcc") is None:
        packages.append(f"gcc-{TARGETS[arch].prefix}".rstrip("-"))
    if shutil.which("gcc") is None:
        return [*packages, "libc6-dev", *_HEADERS.values(), *(headers or {}).values()]
    if not _compiles("stdio.h"):
        packages.append("libc6-dev")
    needed = _HEADERS | (headers or {})
    return list(dict.fromkeys([*packages, *(needed[one] for one in needed if not _compiles(one))]))


def _compiles(header: str) -> bool:
    """Whether the C compiler finds ``header``, and all that it includes."""
    program = f"#include <{header}>\n"
    tried = subprocess.run(
        ["gcc", "-E", "-x", "c", "-"], input=program, text=True, capture_output=True, timeout=_TRY_S, check=False
    )
    return tried.returncode == 0
