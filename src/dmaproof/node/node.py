"""A node: one running operating system where work can run."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dmaproof.errors import NodeError

LOCK_FOLDER = "dmaproof-locks"
_LOCK_FOLDER_MODE = 0o1777


@dataclass(frozen=True)
class Node:
    """One running operating system: ``root`` is where its sys/, proc/, dev/, run/ are; ``env`` goes to its workers.

    ``agent`` is the folder with the sockets of the agent that runs its workers (dmaproof.node.remote), where the system
    is another one than this process's; ``root`` is then a copy of what was there when it came up, but for dev/kmsg.
    ``notes`` say what it runs on, for reports.
    """

    name: str
    root: Path = Path("/")
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    agent: Path | None = None
    notes: tuple[str, ...] = ()


def kernel_release(node: Node) -> str:
    """What uname -r says on ``node``: this system's kernel, or, by its copy of /proc/version, the other one's."""
    if node.agent is None:
        return platform.release()
    words = (node.root / "proc/version").read_text(encoding="utf-8", errors="replace").split()
    return words[2] if len(words) > 2 else "unknown"


def lock_dir(node: Node) -> Path:
    """The folder of the node's device locks: under ``root/run/lock``, else under the temp folder.

    Open to all users (mode 1777), because a GPU is shared by them too. Raises NodeError where neither can be written.
    """
    if not node.root.is_dir():
        raise NodeError(f"node {node.name} is gone: its root {node.root} is no longer there")
    refusals = []
    for parent in (node.root / "run/lock", Path(tempfile.gettempdir())):
        try:
            return _writable(parent / LOCK_FOLDER)
        except OSError as error:
            refusals.append(f"{parent / LOCK_FOLDER} ({error.strerror})")
    raise NodeError(f"no folder for device locks on {node.name}: tried {', '.join(refusals)}; make one writable")


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir()  # not its parents: a node that is being taken down must not come back as a folder of locks
        folder.chmod(_LOCK_FOLDER_MODE)  # mkdir's mode is cut by the umask
    except FileExistsError:
        pass
    with tempfile.TemporaryFile(dir=folder):  # access(2) says yes on a read-only mount seen by root
        return folder
