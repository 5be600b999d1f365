"""What a process has changed in sysfs and has to put back, on disk before it is done.

One file a process, under an exclusive flock for as long as the process lives: a file that nobody has locked is what a
crash left behind, and the next start puts its entries back (dmaproof.vfio.restore). Bindings do not outlive a reboot,
so the folder is in ``/run``, and entries of another boot are void wherever they are found.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dmaproof.errors import DmaproofError

FOLDER = Path(os.environ.get("DMAPROOF_BINDINGS", "/run/dmaproof/bindings"))
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LOCK = "lock"
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Binding:
    """A function that had ``driver`` and ``override`` (None: none) and was given to the VFIO driver ``ours``."""

    bdf: str
    driver: str | None
    override: str | None
    ours: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A file that said ``was`` and was made to say ``ours``."""

    path: str
    was: str
    ours: str


@dataclass(frozen=True, slots=True)
class Raised:
    """A file whose number is asked to be ``by`` more than it was: a kernel that has not as much goes part of the way,
    and so does one whose writer is killed meanwhile. ``was`` is what it was before the first raised it of the runs that
    have it raised now: they end in whatever order, and the last one leaves that."""

    path: str
    was: int
    by: int


Entry = Binding | Setting | Raised
_KINDS: dict[str, type[Binding] | type[Setting] | type[Raised]] = {
    "binding": Binding,
    "setting": Setting,
    "raised": Raised,
}


class Journal:
    """This process's own, made in ``folder``. Raises DmaproofError where that cannot be written."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.entries: list[Entry] = []
        self.folder = folder
        _make(folder)
        try:
            self.path, self._fd = _create(folder)
            self._append({"boot": _boot(), "pid": os.getpid()})
            _sync(folder)
        except OSError as error:
            raise DmaproofError(f"cannot keep a journal of bindings in {folder}: {error.strerror}") from None

    def write(self, entry: Entry) -> None:
        """Before the act: once this returns, a crash at any moment is followed by a start that puts it back."""
        self._append(to_json(entry))
        self.entries.append(entry)

    def forget(self, entry: Entry) -> None:
        """After ``entry`` has been put back."""
        self.entries.remove(entry)

    def close(self) -> None:
        """Everything put back leaves no file; what could not be stays in it for the next start."""
        if not self.entries:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _append(self, line: dict[str, object]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")
        os.fsync(self._fd)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DmaproofError(f"cannot make {folder} for the journal of bindings: {error.strerror}") from None


def _create(folder: Path) -> tuple[Path, int]:
    """A new file under our lock. One that looks abandoned, which it does for a moment, may be taken away by another."""
    while True:
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        if _try_lock(fd) and path.exists():
            return path, fd
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _boot() -> str:
    return _BOOT.read_text(encoding="ascii").strip()


def to_json(entry: Entry) -> dict[str, object]:
    return {"kind": type(entry).__name__.lower(), **asdict(entry)}


def parse(content: str, boot: str) -> tuple[Entry, ...]:
    """The entries in a journal's ``content``, in order; none if it was written in another boot.

    A line cut short ends it: what is written before the act and not whole was never acted on.
    """
    entries: list[Entry] = []
    for number, line in enumerate(content.splitlines()):
        try:
            told = json.loads(line)
            if number == 0 and told["boot"] != boot:
                return ()
            if number:
                entries.append(_KINDS[told.pop("kind")](**told))
        except (ValueError, KeyError, TypeError, AttributeError):
            break
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class Kept:
    """A journal file found in the folder."""

    path: Path
    alive: bool
    entries: tuple[Entry, ...]


@contextlib.contextmanager
def found(folder: Path = FOLDER) -> Iterator[tuple[Kept, ...]]:
    """All journals in ``folder`` but this process's own; those of dead processes are locked by us meanwhile."""
    with contextlib.ExitStack() as opened:
        boot, kept = _boot(), []
        for path in sorted(folder.glob("*.jsonl")):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            opened.callback(os.close, fd)
            alive = not _try_lock(fd)
            kept.append(Kept(path, alive, parse(path.read_text("utf-8", "replace") if path.exists() else "", boot)))
        yield tuple(kept)


def raised(kept: Iterable[Kept], but: Path | None = None) -> tuple[Raised, ...]:
    """What those of ``kept`` have raised who live; the one whose journal is ``but`` left out."""
    living = [one for one in kept if one.alive and one.path != but]
    return tuple(entry for one in living for entry in one.entries if isinstance(entry, Raised))


def raised_by_others(path: Path, folder: Path, ours: Path | None = None) -> tuple[Raised, ...]:
    """What living processes have raised the number in file ``path`` by, but for the one whose journal is ``ours``."""
    with found(folder) as kept:
        return tuple(one for one in raised(kept, ours) if one.path == str(path))


@contextlib.contextmanager
def alone(folder: Path = FOLDER, patience_s: float = 30.0) -> Iterator[None]:
    """Look and act with nobody in between. Raises DmaproofError where another process does so for too long."""
    _make(folder)
    fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    until = time.monotonic() + patience_s
    try:
        while not _try_lock(fd):
            if time.monotonic() >= until:
                raise DmaproofError(f"another process has been binding devices for {patience_s:g} s ({folder}/{_LOCK})")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)
