"""Builds a stub library once a source, keeps it in the user's cache, and places it where a loader will look.

The loader goes by file name (``libcuda.so.1``), so every machine's folder gets its own link to the one built file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from platformdirs import user_cache_path

from dmaproof.errors import DmaproofError, UsageError

_ARGUMENTS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror")
_TIMEOUT_S = 60.0


def build(sources: str, soname: str, folder: Path) -> Path:
    """The C text ``sources`` as a shared library ``folder/soname``; compiled at most once a text and user.

    Safe to run from many processes at once: the cache and ``folder`` only ever see whole files, by rename.
    Raises UsageError where there is no C compiler or no cache folder, DmaproofError where the source does not compile.
    """
    cached = _cached(sources, soname)
    try:
        if not cached.exists():
            _compile(sources, soname, cached)
    except OSError as error:
        way_out = "set XDG_CACHE_HOME to a folder of yours"
        raise UsageError(f"cannot keep {soname} in {cached.parent}: {error.strerror}; {way_out}") from None
    folder.mkdir(parents=True, exist_ok=True)
    return _place(cached, folder / soname)


def build_cuda(folder: Path) -> Path:
    """``folder/libcuda.so.1``: the library that hands every CUDA call to dmaproof.virtual.driver."""
    source = (resources.files("dmaproof.virtual.stub") / "libcuda.c").read_text(encoding="utf-8")
    return build(source, "libcuda.so.1", folder)


def _cached(sources: str, soname: str) -> Path:
    text = "\0".join((sources, soname, os.uname().machine, *_ARGUMENTS))
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    return user_cache_path("dmaproof") / "stub" / key / soname


def _compile(sources: str, soname: str, cached: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise UsageError("no C compiler: a virtual rig builds its stub libraries; apt-get install gcc libc6-dev")
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as scratch:
        source, built = Path(scratch, "stub.c"), Path(scratch, soname)
        source.write_text(sources, encoding="utf-8")
        command = [compiler, *_ARGUMENTS, f"-Wl,-soname,{soname}", "-o", str(built), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise DmaproofError(f"cc could not build {soname} (exit status {done.returncode}): {done.stderr.strip()}")
        built.replace(cached)


def _place(cached: Path, target: Path) -> Path:
    """A hard link where the file system allows one, else a copy; replaces an older library under a running reader."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".stub-") as scratch:
        placed = Path(scratch, target.name)
        try:
            placed.hardlink_to(cached)
        except OSError:  # another file system, or one without links
            shutil.copyfile(cached, placed)
        placed.replace(target)
    return target
