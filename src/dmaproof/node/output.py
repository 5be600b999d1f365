"""Where a worker's output and stacks go: plain files, which can be read whatever state the worker is in."""

from __future__ import annotations

from pathlib import Path

_TAIL_NBYTES = 4096


class Output:
    """Two files in ``folder``: ``NAME.out`` with what the worker prints, ``NAME.stacks`` with its Python stacks."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = (folder / f"{name}.out").absolute()
        self.stacks_path = (folder / f"{name}.stacks").absolute()
        self._begin = 0

    def begin(self) -> None:
        """A run begins: what is there already belongs to earlier ones."""
        self._begin = size(self.path)

    def tail(self) -> str:
        """The end of what the run has printed, at most 4 KiB."""
        return read_from(self.path, max(self._begin, size(self.path) - _TAIL_NBYTES))


def size(path: Path) -> int:
    """Bytes in ``path``, 0 where it is not there yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def read_from(path: Path, offset: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
