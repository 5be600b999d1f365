"""Every lab profile as QEMU's and the kernel's arguments: ``python -m tests.guest.topologies`` writes them down anew.

What it writes is to be read before it is committed: the test only says that nothing has changed since.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dmaproof.guest.topology import arguments, kernel_parameters
from dmaproof.rig import guests, load

FILE = Path(__file__).with_name("topologies.txt")


def profiles() -> list[str]:
    return [word for word in load.profile_ids() if word.startswith("lab:")]


def text() -> str:
    return "\n".join(line for word in profiles() for line in _section(word))


def _section(word: str) -> Iterator[str]:
    rig = load.load(word)
    for node in rig.nodes:
        said = arguments(node, guests.lent(rig, node))
        yield f"[{word}]" if node.guest is None else f"[{word} {node.name}]"
        yield from (f"{option} {value}" for option, value in zip(said[::2], said[1::2], strict=True))
        yield f"kernel {' '.join(kernel_parameters(node))}".rstrip()
        yield ""


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
