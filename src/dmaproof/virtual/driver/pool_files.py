"""What stands for pools and their memory in other processes: files (dmaproof.virtual.driver.shared_files)."""

from __future__ import annotations

import os

from dmaproof.virtual.driver import shared_files
from dmaproof.virtual.driver.pools import Pool
from dmaproof.virtual.driver.shared_files import Label
from dmaproof.virtual.wire import HOST


def file_of(pool: Pool) -> int:
    """The pool's own file, of which only the inode counts."""
    if pool.fd is None:
        pool.fd = shared_files.create(_label("pool", pool, 1))
    return pool.fd


def label_of(pool: Pool, nbytes: int) -> Label:
    """For the file of ``nbytes`` that the pool gave out."""
    return _label("pooled", pool, nbytes, os.fstat(file_of(pool)).st_ino)


def _label(kind: str, pool: Pool, nbytes: int, inode: int = 0) -> Label:
    place, number = (HOST, pool.place.number) if pool.device is None else (pool.device.bdf, 0)
    return Label(kind, place, nbytes, number, pool.handle_types, inode)
