"""The first root file system of a lab host that has none of this machine's: the userland from the cache, then the
kernel's modules, this project as it is now, and what starts its agent. The kernel unpacks one after the other.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import dmaproof
from dmaproof.guest import cpio, init
from dmaproof.guest.bytecode import Compiler, compiled
from dmaproof.guest.cpio import Entry
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.userland import Userland

_DRIVERS = ("virtio_pci", "virtio_console", "nvme")
"""Loaded before the agent starts, where the kernel has them as modules."""
_WANTED = (*_DRIVERS, "vfio_pci", "vfio_iommu_type1", "iommufd")
_TOGETHER = {"vfio_pci": "vfio_iommu_type1"}
"""MODULE_SOFTDEP of drivers/vfio/vfio_main.c, written as a need: busybox's modprobe knows no other."""
_PLAIN: Mapping[str, Callable[[bytes], bytes]] = {".ko": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress}
_INIT = f"""\
#!/usr/bin/python3 -SP
import sys
sys.path.append("{init.PACKAGES}")
from dmaproof.guest import init
init.main()
"""


def write(path: Path, userland: Userland, kernel: Kernel) -> None:
    """Write what ``-initrd`` takes. Raises DmaproofError where the project cannot be compiled for it."""
    ours = [*start(kernel), *project(Path(dmaproof.__file__).parent, userland.compiler)]
    with path.open("wb") as file, userland.archive.open("rb") as first:
        shutil.copyfileobj(first, file)
        file.write(cpio.packed(ours))


def project(package: Path, compiler: Compiler) -> Iterator[Entry]:
    """The package in the folder ``package``, every module with its bytecode."""
    place = PurePosixPath(init.PACKAGES, package.name)
    sources = {
        str(place / path.relative_to(package)): path
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name, path in sources.items():
        yield cpio.file(name.lstrip("/"), path.read_bytes())
    modules = {name: path for name, path in sources.items() if path.suffix == ".py"}
    for name, path in compiled(compiler, modules).items():
        module = PurePosixPath(name)
        yield cpio.file(
            str(module.parent / "__pycache__" / f"{module.stem}.{compiler.tag}.pyc").lstrip("/"), path.read_bytes()
        )


def start(kernel: Kernel) -> Iterator[Entry]:
    """What the kernel starts, and the modules that it may ask for."""
    yield cpio.file("init", _INIT.encode(), executable=True)
    modules = wanted_modules(kernel.modules / "modules.dep") if kernel.modules else {}
    names = {_name(path) for path in modules}
    yield cpio.file(str(init.MODULES).lstrip("/"), "\n".join(one for one in _DRIVERS if one in names).encode())
    folder = PurePosixPath("usr/lib/modules", kernel.release)
    lines = [f"{_plain(path)}: {' '.join(_plain(one) for one in needs)}" for path, needs in modules.items()]
    yield cpio.file(str(folder / "modules.dep"), "".join(f"{line}\n" for line in lines).encode())
    for path in modules:
        content = ((kernel.modules or Path()) / path).read_bytes()
        yield cpio.file(str(folder / _plain(path)), _PLAIN[PurePosixPath(path).suffix](content))


def wanted_modules(dep: Path) -> dict[str, tuple[str, ...]]:
    """The lines of modules.dep(5) for what a lab host may need, and for all that this needs.

    A module that is packed as this Python cannot unpack (.zst) is left out, with what needs it.
    """
    lines = (line.partition(":") for line in dep.read_text(encoding="utf-8").splitlines())
    needs = _with_companions({path: tuple(rest.split()) for path, _, rest in lines})
    roots = [path for path in needs if _name(path) in _WANTED]
    fit = [path for path in roots if all(PurePosixPath(one).suffix in _PLAIN for one in (path, *needs[path]))]
    return {path: needs[path] for path in sorted({one for root in fit for one in (root, *needs[root])})}


def _with_companions(needs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """modprobe loads from the right: a companion is the last to come before the module itself."""
    by_name = {_name(path): path for path in needs}
    companions = {path: by_name.get(_TOGETHER.get(_name(path), ""), "") for path in needs}
    return {path: (companions[path], *others) if companions[path] else others for path, others in needs.items()}


def _name(path: str) -> str:
    """As modprobe(8) has it."""
    return PurePosixPath(path).name.partition(".")[0].replace("-", "_")


def _plain(path: str) -> str:
    return path.partition(".ko")[0] + ".ko"
