"""Kernels made from an archive's packages: a source tree of a few lines, whose make does what the kernel's does."""

from __future__ import annotations

import base64
import os
import platform
import shutil
from pathlib import Path

import pytest

from dmaproof.errors import DmaproofError
from dmaproof.guest import kernel, kernel_build, packages, stock, toolchain
from tests.guest import archives
from tests.guest.archives import FolderArchive
from tests.guest.test_image import bzimage

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or bool(toolchain.missing("x86_64")), reason="building takes a kernel's tools"
)
MAKEFILE = """\
allnoconfig:
\t@grep -v -e '^#' -e CXL_ACPI $(KCONFIG_ALLCONFIG) > $(O)/.config
bzImage:
\t@echo "  CC      init/main.o"
\t@echo "  AS      arch/x86/head.o"
\t@echo built by $$KBUILD_BUILD_USER for $(ARCH) >&2
\t@{trouble}
\t@mkdir -p $(O)/arch/x86/boot && base64 -d image > $(O)/arch/x86/boot/bzImage
"""


@pytest.fixture
def site(debian: FolderArchive, monkeypatch: pytest.MonkeyPatch, cache: Path) -> FolderArchive:
    """The test's archive in place of the system's."""
    monkeypatch.setattr(packages, "systems_own", lambda _log: debian.site)
    return debian


def publish(site: FolderArchive, version: str, trouble: str = "true") -> None:
    tree = site.folder / "linux" / f"linux-source-{version}"
    tree.mkdir(parents=True)
    (tree / "Makefile").write_text(MAKEFILE.format(trouble=trouble))
    (tree / "image").write_bytes(base64.encodebytes(bzimage(f"{version}.1")))
    packed = tree.with_suffix(".tar.xz")
    archives.call("tar", "-C", tree.parent, "-cJf", packed, tree.name)
    name = f"linux-source-{version}"
    site.package(name, {f"usr/src/{name}.tar.xz": packed.read_bytes()}, version=f"{version}.1-1", arch="all")
    shutil.rmtree(site.folder / "trees" / "linux-source", ignore_errors=True)
    site.package("linux-source", {}, version=f"{version}.1+1", depends=name, arch="all")
    site.publish()


def test_the_projects_own_is_built_once_and_says_what_the_source_lacks(site: FolderArchive, cache: Path) -> None:
    publish(site, "9.8")
    told: list[tuple[str, str]] = []
    made = kernel_build.supply("own", "x86_64", lambda what, far, _fraction: told.append((what, far)))
    assert (made.release, made.modules, made.lacks) == ("9.8.1", None, ("CONFIG_CXL_ACPI=y",))
    assert made.source == cache / "source" / "9.8_9.8.1-1"
    assert [far.split(", ")[0] for what, far in told if what == "compiling the kernel"] == ["1 objects", "2 objects"]
    assert "built by dmaproof for x86" in (made.path.parent / "build.log").read_text()
    assert sorted(one.name for one in made.path.parent.iterdir()) == [
        *("build.log", "config", "fragment", "lacks", "source", "vmlinuz"),
    ]
    shutil.rmtree(site.folder)
    assert kernel_build.supply("own", "x86_64") == made == kernel.choose("own", "x86_64")


def test_a_newer_source_is_built_when_asked_for(site: FolderArchive) -> None:
    publish(site, "9.8")
    kernel_build.supply("own", "x86_64")
    publish(site, "9.9")
    assert kernel_build.supply("own", "x86_64").release == "9.8.1"
    assert kernel_build.supply("own", "x86_64", anew=True).release == "9.9.1"
    assert kernel.choose("own", "x86_64").release == "9.9.1"


def test_a_build_that_fails_tells_the_last_lines_and_leaves_nothing_but_its_log(
    site: FolderArchive, cache: Path
) -> None:
    publish(site, "9.8", "echo main.c:7: error: what is this; exit 1")
    with pytest.raises(DmaproofError) as caught:
        kernel_build.supply("own", "x86_64")
    assert "main.c:7: error: what is this" in str(caught.value)
    log = Path(str(caught.value).rpartition("see ")[2])
    assert "CC      init/main.o" in log.read_text()
    assert log.parent == cache / "logs"
    assert list((cache / "kernel").iterdir()) == []


@pytest.mark.skipif(stock.depmod() is None or shutil.which("busybox") is None, reason="no kmod, no busybox")
def test_a_stock_kernel_is_unpacked_beside_its_modules(
    site: FolderArchive, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By anybody: depmod lies where only root's PATH leads."""
    folders = (one for one in os.environ["PATH"].split(os.pathsep) if not one.endswith("sbin"))
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    release = "9.8+deb-cloud-amd64"
    modules = f"usr/lib/modules/{release}"
    site.package(f"linux-binary-{release}", {f"{modules}/vmlinuz": bzimage(release)})
    site.package(f"linux-modules-{release}", {f"{modules}/modules.order": "", f"{modules}/modules.builtin": ""})
    site.package("initramfs-tools", {"usr/sbin/update-initramfs": "not wanted"})
    both = f"linux-binary-{release}, linux-modules-{release}, initramfs-tools"
    site.package(f"linux-image-{release}", {}, depends=both)
    site.package("linux-image-cloud-amd64", {}, depends=f"linux-image-{release}")
    site.publish()
    made = stock.supply("x86_64")
    assert (made.release, made.path.name) == (release, "vmlinuz")
    assert made.modules == made.path.parent
    assert (made.modules / "modules.dep").exists()
    assert not list((cache / "kernel").glob("*/usr/sbin"))
