"""A cache folder of the test's own, and an archive to fill it from."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
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
def debian(tmp_path: Path) -> Iterator[FolderArchive]:
    if not all(shutil.which(one) for one in ("apt-get", "dpkg-deb", "gpg")):
        pytest.skip("making an archive takes apt, dpkg and gpg")
    folder = tmp_path / "archive"
    folder.mkdir()
    made = archives.made(folder)
    yield made
    subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, timeout=20)
