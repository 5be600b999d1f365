"""A cache folder of the test's own, and an archive to fill it from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest import archives
from tests.guest.archives import FolderArchive


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lab's things go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dmaproof" / "lab"


@pytest.fixture
def archive_named(tmp_path: Path) -> Iterator[Callable[[str], FolderArchive]]:
    """Makes an archive in a folder of that name."""
    if not all(shutil.which(one) for one in ("apt-get", "dpkg-deb", "gpg")):
        pytest.skip("making an archive takes apt, dpkg and gpg")

    def make(name: str) -> FolderArchive:
        (tmp_path / name).mkdir()
        return several.enter_context(archives.made(tmp_path / name))

    with ExitStack() as several:
        yield make


@pytest.fixture
def debian(archive_named: Callable[[str], FolderArchive]) -> FolderArchive:
    return archive_named("archive")
