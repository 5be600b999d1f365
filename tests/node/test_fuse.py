"""The FUSE server that other tests rest on: scripted answers, and nothing left whatever happens to the test."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fuse import Answer, Read, Unavailable, serve
from tests.support.harness import eventually, line, program


@contextlib.contextmanager
def served(folder: Path, **files: Read) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(serve(folder, files))
        except Unavailable as reason:
            pytest.skip(str(reason))
        yield folder


def test_reads_get_what_the_script_says(tmp_path: Path) -> None:
    script: Iterator[Answer] = iter([b"one\n", errno.EPIPE, b"two\n", errno.EAGAIN, b""])
    with served(tmp_path / "mnt", kmsg=lambda _offset, _size: next(script)) as mountpoint:
        fd = os.open(mountpoint / "kmsg", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert os.read(fd, 8192) == b"one\n"
            with pytest.raises(BrokenPipeError):
                os.read(fd, 8192)
            assert os.read(fd, 8192) == b"two\n"
            with pytest.raises(BlockingIOError):
                os.read(fd, 8192)
            assert os.read(fd, 8192) == b""
        finally:
            os.close(fd)


def test_offsets_and_sizes_are_those_of_the_reads(tmp_path: Path) -> None:
    with served(tmp_path / "mnt", asked=lambda offset, size: f"{offset},{size};".encode()) as mountpoint:
        fd = os.open(mountpoint / "asked", os.O_RDONLY)
        try:
            assert os.read(fd, 100) == b"0,100;"
            assert os.pread(fd, 7, 5000) == b"5000,7;"
        finally:
            os.close(fd)


def test_only_the_files_named_are_there(tmp_path: Path) -> None:
    with served(tmp_path / "mnt", here=lambda _offset, _size: b"") as mountpoint:
        assert (mountpoint / "here").is_file()
        assert not (mountpoint / "there").exists()
    assert not (tmp_path / "mnt/here").exists()


KILLED = """
    import sys, time
    from pathlib import Path
    from tests.support.fuse import serve
    with serve(Path({folder!r}), {{"never": lambda offset, size: None}}):
        print("mounted", flush=True)
        time.sleep(60)
"""


def test_a_killed_test_leaves_no_mount(tmp_path: Path) -> None:
    with served(tmp_path / "probe"):
        pass
    folder = tmp_path / "mnt"
    folder.mkdir()
    with program(KILLED.format(folder=str(folder))) as test:
        assert line(test) == "mounted"
        assert os.path.ismount(folder)
        test.kill()
        assert eventually(lambda: str(folder) not in Path("/proc/mounts").read_text())
