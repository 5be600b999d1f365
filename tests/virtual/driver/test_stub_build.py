"""The stub libraries: built once, placed for the loader, one clear line where they cannot be built."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.virtual.stub.build import build, build_cuda

SOURCE = "int answer(void) { return 42; }\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_parallel_builds_give_every_folder_a_whole_library(tmp_path: Path) -> None:
    folders = [tmp_path / f"machine{n}" for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda folder: build(SOURCE, "libanswer.so.1", folder), folders))
    assert [path.name for path in built] == ["libanswer.so.1"] * 4
    assert [ctypes.CDLL(str(path)).answer() for path in built] == [42] * 4
    assert not [entry for folder in folders for entry in folder.iterdir() if entry.name != "libanswer.so.1"]


def test_second_build_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_cuda(tmp_path / "first")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_cuda(tmp_path / "second").is_file()


def test_without_a_compiler_says_which_package_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"no C compiler.*apt-get install gcc libc6-dev"):
        build(SOURCE, "libanswer.so.1", tmp_path / "machine")


def test_a_source_that_does_not_compile_is_an_error_with_the_compilers_words(tmp_path: Path) -> None:
    with pytest.raises(DmaproofError, match=r"libbroken\.so\.1.*error"):
        build("int broken(\n", "libbroken.so.1", tmp_path)
