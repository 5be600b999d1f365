"""Packages of a signed archive, unpacked by whoever runs this; nothing is installed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.guest import packages, store, unpacked
from dmaproof.guest.packages import Package, Site
from dmaproof.guest.telling import quietly
from tests.guest import archives
from tests.guest.archives import FolderArchive

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="its archive is amd64's")


def unpack(debian: FolderArchive, folder: Path, *names: str, site: Site | None = None) -> None:
    with store.locked() as lock:
        archive = packages.archive("x86_64", lock, quietly, site or debian.site)
        packages.unpack(archive, packages.closure(archive, names), folder)


def test_a_package_comes_with_all_that_it_depends_on_also_what_this_system_has(
    cache: Path, debian: FolderArchive, tmp_path: Path
) -> None:
    debian.package("libc6", {"usr/lib/x": "the library"}, version="1:9.9+b1")
    debian.package("tool", {"usr/bin/tool": "the tool", "usr/share/doc/tool/notes": "n"}, depends="libc6 (>= 1:9)")
    debian.package("other", {"usr/bin/other": "o"})
    debian.publish()
    unpack(debian, tmp_path / "tree", "tool")
    found = {str(one.relative_to(tmp_path / "tree")) for one in (tmp_path / "tree").rglob("*") if one.is_file()}
    assert found == {"usr/lib/x", "usr/bin/tool"}


def test_a_package_that_was_changed_on_its_way_is_refused(cache: Path, debian: FolderArchive, tmp_path: Path) -> None:
    deb = debian.package("tool", {"usr/bin/tool": "good"})
    debian.publish()
    debian.package("tool", {"usr/bin/tool": "evil"})
    assert deb.exists()
    with pytest.raises(DmaproofError, match="apt-get"):
        unpack(debian, tmp_path / "tree", "tool")
    assert not (tmp_path / "tree/usr").exists()


def test_lists_that_another_key_signed_are_refused(
    cache: Path, debian: FolderArchive, archive_named: Callable[[str], FolderArchive], tmp_path: Path
) -> None:
    debian.package("tool", {"usr/bin/tool": "good"})
    debian.publish()
    other = archive_named("other")
    with pytest.raises(DmaproofError, match=r"NO_PUBKEY|not signed|can't be verified"):
        unpack(debian, tmp_path / "tree", "tool", site=Site(debian.site.url, "debian", other.site.keyring))


def test_an_unknown_package_is_named(cache: Path, debian: FolderArchive) -> None:
    debian.package("tool", {"usr/bin/tool": "good"})
    debian.publish()
    with store.locked() as lock:
        archive = packages.archive("x86_64", lock, quietly, debian.site)
        assert packages.candidate(archive, "tool") == Package("tool", "1.0")
        with pytest.raises(UsageError, match="no package missing"):
            packages.candidate(archive, "missing")


def test_a_site_that_is_not_there_says_so(cache: Path, tmp_path: Path) -> None:
    with store.locked() as lock, pytest.raises(DmaproofError, match=f"{tmp_path}/nowhere"):
        packages.archive("x86_64", lock, quietly, Site(f"file://{tmp_path}/nowhere", "debian", None))


def test_the_systems_own_site_is_asked_of_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.freedesktop_os_release().get("ID") not in ("debian", "ubuntu"):
        pytest.skip("no apt here")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    lists = tmp_path / "sources.list"
    lists.write_text(
        f"deb http://updates.example.org/d {release}-updates main\ndeb http://site.example.org/debian {release} main\n"
    )
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::Etc::SourceList "{lists}";\nDir::Etc::SourceParts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    assert packages.systems_own(tmp_path / "log").url == "http://site.example.org/debian"


@pytest.mark.parametrize(
    ("site", "line"),
    [
        (
            Site("http://s.example.org/d", "debian", Path("/k.gpg")),
            "deb [target=Packages signed-by=/k.gpg] http://s.example.org/d sid main",
        ),
        (
            Site("http://s.example.org/u", "ubuntu", None),
            "deb [target=Packages] http://s.example.org/u devel main universe",
        ),
    ],
)
def test_the_suite_is_the_newest(site: Site, line: str) -> None:
    assert packages.sources_line(site) == line


def test_what_is_unpacked_runs_by_its_own_loader_wherever_it_is_moved(tmp_path: Path) -> None:
    """The tree's C library is this system's, by the names that a package has it under."""
    tree = tmp_path / "first place"
    libraries, loader = tree / "usr/lib/x86_64-linux-gnu", tree / "usr/lib64"
    for folder in (libraries, loader, tree / "usr/bin"):
        folder.mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", loader)
    shutil.copy("/lib/x86_64-linux-gnu/libc.so.6", libraries)
    for name in ("cat", "env"):
        shutil.copy(shutil.which(name) or "", tree / "usr/bin")
        needed = archives.call("ldd", tree / "usr/bin" / name)
        for line in needed.splitlines():
            if "=> /" in line and "libc.so" not in line:
                shutil.copy(line.split()[2], libraries)
    unpacked.wrap(tree, "usr/bin/cat", ["{}/it's here", "/proc/self/maps"])
    unpacked.wrap(tree, "usr/bin/env", variables={"MODULES": "{}/modules"})
    moved = tree.rename(tmp_path / "second place")
    (moved / "it's here").write_text("found\n")
    said = subprocess.run([moved / "programs/cat"], check=True, capture_output=True, text=True, timeout=20).stdout
    assert said.startswith("found\n")
    assert str(moved / "usr/lib/x86_64-linux-gnu/libc.so.6") in said
    assert " /lib/x86_64-linux-gnu/libc" not in said
    said = subprocess.run([moved / "programs/env"], check=True, capture_output=True, text=True, timeout=20).stdout
    assert f"MODULES={moved}/modules" in said
    assert os.access(moved / "programs/env", os.X_OK)
