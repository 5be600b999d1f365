"""Which kernel a lab host runs: the project's own build, the distribution's stock one, the host's, or a user's file."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.guest import image, store

OWN, STOCK, HOST = "own", "stock", "host"
SELFTESTS = "selftests"
"""The project's own with what the kernel's selftests need on top."""
_HOST_PLACES = ("usr/lib/modules/{}/vmlinuz", "lib/modules/{}/vmlinuz", "boot/vmlinuz-{}")


@dataclass(frozen=True, slots=True)
class Kernel:
    """``path`` is a bzImage (x86_64) or Image (aarch64); ``release`` what uname -r will say.

    ``modules`` is its folder below lib/modules, None where all is built in. ``source`` is the tree it was built from,
    where that is here; ``lacks`` are the options that its fragment asks for and the source does not have.
    """

    path: Path
    modules: Path | None
    release: str
    source: Path | None
    lacks: tuple[str, ...] = ()


def choose(wanted: str, arch: str) -> Kernel:
    """The kernel for ``wanted``: ``own``, ``stock``, ``host``, ``selftests`` or a file, on ``arch`` (x86_64, aarch64).

    Nothing is downloaded or built. Raises UsageError with the command that supplies what is not there.
    """
    if wanted in (OWN, SELFTESTS):
        return _own(wanted, arch)
    if wanted == STOCK:
        return _stock(arch)
    if wanted == HOST:
        return _host(Path("/"), arch)
    return _described(Path(wanted).expanduser().absolute(), arch)


def command(wanted: str, arch: str) -> str:
    """What supplies the kernel ``wanted``."""
    if wanted == SELFTESTS:
        return "dmaproof lab selftests"
    word = "build" if wanted == OWN else wanted
    return f"dmaproof lab kernel --kernel {word}" + ("" if arch == platform.machine() else f" --arch {arch}")


def fragment(wanted: str, arch: str) -> str:
    """The options of the project's own kernel for ``arch``, as KCONFIG_ALLCONFIG takes them. Raises UsageError."""
    name = f"kernel.{arch}.config"
    here = resources.files("dmaproof.guest")
    if not (here / name).is_file():
        raise UsageError(f"the project builds no kernel for {arch}: use a stock one (`{command(STOCK, arch)}`)")
    parts = [name, "kernel.selftests.config"] if wanted == SELFTESTS else [name]
    return "\n".join((here / one).read_text(encoding="utf-8") for one in parts)


def asked_for(options: str) -> tuple[str, ...]:
    """The lines ``CONFIG_..=y`` of a fragment or a .config, once each."""
    return tuple(dict.fromkeys(line for line in options.splitlines() if line.startswith("CONFIG_")))


def place(wanted: str, arch: str, version: str) -> Path:
    """The folder of a build of the fragment from the source ``version``; ``*`` for any."""
    key = hashlib.sha256("\n".join(sorted(asked_for(fragment(wanted, arch)))).encode()).hexdigest()[:12]
    return store.folder() / "kernel" / f"{wanted}-{arch}-{version}-{key}"


def _own(wanted: str, arch: str) -> Kernel:
    found = store.newest("kernel", place(wanted, arch, "*").name)
    if found is None:
        raise UsageError(f"no lab kernel of the project's own ({wanted}, {arch}) yet: run `{command(wanted, arch)}`")
    return built(found, arch)


def built(folder: Path, arch: str) -> Kernel:
    """The kernel in a folder that ``dmaproof.guest.kernel_build`` made."""
    path = folder / "vmlinuz"
    lacks = asked_for((folder / "lacks").read_text(encoding="utf-8"))
    source = folder.parent.parent / "source" / (folder / "source").read_text(encoding="utf-8")
    return Kernel(path, None, _release(path, arch), source if source.is_dir() else None, lacks)


def _stock(arch: str) -> Kernel:
    found = store.newest("kernel", f"{STOCK}-{arch}-*")
    if found is None:
        raise UsageError(f"no stock kernel for {arch} unpacked yet: run `{command(STOCK, arch)}`")
    (path,) = found.glob("usr/lib/modules/*/vmlinuz")
    return _described(path, arch)


def _host(root: Path, arch: str) -> Kernel:
    release = platform.release()
    if arch != platform.machine():
        raise UsageError(f"this host's kernel is for {platform.machine()}, not {arch}: `{command(STOCK, arch)}`")
    places = [root / one.format(release) for one in _HOST_PLACES]
    path = next((one for one in places if one.exists()), None)
    if path is None:
        where = " nor ".join(str(one) for one in places)
        raise UsageError(f"this host's kernel {release} is not in {where}: run `{command(STOCK, arch)}`")
    try:
        path.open("rb").close()
    except PermissionError:
        raise UsageError(f"{path} may not be read: run `sudo chmod a+r {path}`") from None
    return _described(path, arch)


def _described(path: Path, arch: str) -> Kernel:
    found = image.read(path)
    if found.arch != arch:
        raise UsageError(f"the kernel {path} is for {found.arch}, the lab host for {arch}: name another")
    release = found.release or _folder_says(path)
    return Kernel(path, modules_of(path, release), release, None)


def _release(path: Path, arch: str) -> str:
    return _described(path, arch).release


def _folder_says(path: Path) -> str:
    return path.parent.name if path.parent.parent.name == "modules" else "unknown"


def modules_of(path: Path, release: str) -> Path | None:
    """The folder of the modules of a kernel: the one it lies in, or the host's of the same release."""
    places: Sequence[Path] = (path.parent, Path("/usr/lib/modules", release), Path("/lib/modules", release))
    return next((one for one in places if (one / "modules.dep").exists()), None)
