"""Two archives, one for each processor, and a wheel in a folder: the whole way to a userland, with this very Python
behind the loader of the unpacked one.
"""

from __future__ import annotations

import platform
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dmaproof.guest import packages, userland
from dmaproof.guest.bytecode import compiled
from dmaproof.guest.packages import Site
from tests.guest.archives import FolderArchive
from tests.guest.test_cpio import read

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="its archive is amd64's")
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
LIBRARY, PACKAGES = f"usr/lib/python{VERSION}", "usr/lib/python3/dist-packages"
LOADER = f'#!/bin/sh\nshift 3\nexec {sys.executable} "$@"\n'  # --library-path FOLDERS PROGRAM


def fill(archive: FolderArchive, arch: str) -> None:
    minimal = f"python{VERSION}-minimal"
    archive.package("python3-minimal", {"usr/share/x": "x"}, depends=f"{minimal}, libssl3", arch=arch)
    archive.package(
        minimal, {f"usr/bin/python{VERSION}": f"ELF of {arch}"}, version="3.99.1-2", depends="libc6", arch=arch
    )
    library = {f"{LIBRARY}/os.py": "NAME = 'posix'\n", f"{LIBRARY}/idlelib/window.py": "pass\n"}
    archive.package("libpython3-stdlib", library, depends=minimal, arch=arch)
    loader = {"usr/lib64/ld-linux-x86-64.so.2": LOADER, "usr/lib/x86_64-linux-gnu/libc.so.6": "libc"}
    archive.package("libc6", loader if arch == "amd64" else {"usr/lib/libc.so.6": "libc"}, arch=arch)
    archive.package("libssl3", {"usr/lib/libssl.so.3": "large"}, arch=arch)
    archive.package("busybox-static", {"usr/bin/busybox": f"ELF of {arch}"}, arch=arch)
    archive.publish(arch)


def wheel(folder: Path) -> None:
    info = "pydantic-2.99.0.dist-info"
    with zipfile.ZipFile(folder / "pydantic-2.99.0-py3-none-any.whl", "w") as file:
        file.writestr("pydantic/__init__.py", "VERSION = '2.99.0'\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: pydantic\nVersion: 2.99.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def sites(
    tmp_path: Path,
    cache: Path,
    debian: FolderArchive,
    archive_named: Callable[[str], FolderArchive],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arm = archive_named("arm")
    fill(debian, "amd64")
    fill(arm, "arm64")
    by_log = {"amd64": debian.site, "arm64": arm.site}

    def own(log: Path) -> Site:
        return by_log[log.parent.name]

    monkeypatch.setattr(packages, "systems_own", own)
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels")
    for name, value in {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "wheels")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


def test_a_userland_is_of_the_other_processor_and_compiled_by_this_one(
    sites: None, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = userland.supply("aarch64")
    found = read(made.archive.read_bytes())
    assert found[f"usr/bin/python{VERSION}"].content == b"ELF of arm64"
    assert found["usr/bin/busybox"].content == b"ELF of arm64"
    assert found[f"{PACKAGES}/pydantic/__init__.py"].content == b"VERSION = '2.99.0'\n"
    for place in (LIBRARY + "/{}os", PACKAGES + "/pydantic/{}__init__"):
        assert f"{place.format('__pycache__/')}.{made.compiler.tag}.pyc" in found
    assert not [name for name in found if "idlelib" in name or "libssl" in name]

    source = tmp_path / "module.py"
    source.write_text("ANSWER = 42\n")
    assert compiled(made.compiler, {"/module.py": source})["/module.py"].stat().st_size > 0
    assert userland.find("aarch64") == made
    monkeypatch.setattr(packages, "systems_own", lambda _log: pytest.fail("what is there was fetched again"))
    assert userland.supply("aarch64") == made
    assert not list(cache.glob("userland/partial-*"))
