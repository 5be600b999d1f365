"""The distribution's stock kernel, downloaded and unpacked with its modules, never installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.guest import child, kernel, packages, store
from dmaproof.guest.kernel import STOCK, Kernel
from dmaproof.guest.packages import ARCHITECTURE, Archive, Package
from dmaproof.guest.telling import Tell, quietly
from dmaproof.node.deadline import Deadline

_IMAGE = {"debian": "linux-image-cloud-{}", "ubuntu": "linux-image-virtual"}
_PARTS = ("linux-base-", "linux-binary-", "linux-image-", "linux-modules-")
_MODULES = Path("usr/lib/modules")
_DEPMOD_S = 120.0


def supply(arch: str, tell: Tell = quietly, *, anew: bool = False) -> Kernel:
    """The stock kernel for ``arch``: from the cache, else the newest suite's; ``anew``: that in any case.

    Raises UsageError where this system has no archive or no depmod, DmaproofError where a download fails.
    """
    if not anew:
        try:
            return kernel.choose(STOCK, arch)
        except UsageError:
            pass
    if depmod() is None or shutil.which("busybox") is None:
        why = "its modules are indexed and loaded by kmod, from an initramfs of busybox"
        raise UsageError(
            f"a stock kernel's lab host needs both: {why}: run `sudo apt-get install -y kmod busybox-static`"
        )
    with store.locked(tell) as lock:
        archive = packages.archive(arch, lock, tell)
        parts = _parts(archive, _IMAGE[archive.distribution].format(ARCHITECTURE[arch]))
        target = store.folder() / "kernel" / f"{STOCK}-{arch}-{parts[0].version}"
        if not target.exists():
            with store.making(target) as scratch:
                packages.unpack(archive, parts, scratch)
                _settle(archive, scratch)
        target.touch()
    return kernel.choose(STOCK, arch)


def depmod() -> str | None:
    """kmod's, which lies where only root's PATH leads (Debian: /usr/sbin), though it works for anybody."""
    return shutil.which("depmod", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def _parts(archive: Archive, image: str) -> list[Package]:
    """What has the image and its modules, of all that the kernel's package depends on."""
    found = [one for one in packages.closure(archive, [image]) if one.name.startswith(_PARTS)]
    if not found:
        raise UsageError(f"{archive.distribution}'s newest suite has no {image}; see {archive.log}")
    return found


def _settle(archive: Archive, tree: Path) -> None:
    """One layout for all: ``usr/lib/modules/RELEASE/vmlinuz`` beside the modules, indexed."""
    if (tree / "lib").is_dir():
        shutil.move(tree / "lib" / "modules", tree / _MODULES)
    for one in tree.glob("boot/vmlinu[xz]-*"):
        shutil.move(one, tree / _MODULES / one.name.partition("-")[2] / "vmlinuz")
    releases = [one.parent.name for one in tree.glob(f"{_MODULES}/*/vmlinuz")]
    if len(releases) != 1:
        raise DmaproofError(f"the stock kernel's packages have {len(releases)} kernels, not one: {releases}")
    words = [depmod() or "depmod", "--basedir", str(tree / "usr"), releases[0]]
    child.run(words, archive.log, Deadline.after(_DEPMOD_S), keep=(archive.lock,))
