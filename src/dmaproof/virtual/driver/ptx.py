"""What a module's PTX text says about its kernels: entry names and parameters (PTX ISA, ``.entry`` and ``.param``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$%]+)\s*(?:\((?P<parameters>[^)]*)\))?")
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(?P<kind>[busf])(?P<bits>8|16|32|64)"
    r"(?P<pointer>\s+\.ptr\b(?:\s+\.(?:global|const|local|shared))?(?:\s+\.align\s+\d+)?)?"
    r"\s+(?P<name>[\w$%]+)(?:\[(?P<count>\d+)\])?\s*$"
)


class PtxError(Exception):
    """The text is not PTX as this reader knows it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """``kind`` is ``pointer``, ``u32``, ``f64`` .. as PTX says, ``bytes`` for a structure; ``offset`` in the block."""

    kind: str
    nbytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    parameters: tuple[Parameter, ...]


def entries(text: str) -> tuple[Entry, ...]:
    """All kernels of ``text``. Raises PtxError where it is no PTX, or a parameter cannot be read."""
    plain = _COMMENT.sub("", text)
    if not re.search(r"\.version\s+\d+\.\d+", plain) or not re.search(r"\.target\s+\w+", plain):
        raise PtxError("no .version and .target directive: this is not PTX text")
    return tuple(Entry(found["name"], _parameters(found)) for found in _ENTRY.finditer(plain))


def _parameters(entry: re.Match[str]) -> tuple[Parameter, ...]:
    parameters: list[Parameter] = []
    offset = 0
    for text in filter(str.strip, (entry["parameters"] or "").split(",")):
        found = _PARAMETER.match(text.strip())
        if found is None:
            raise PtxError(f"kernel {entry['name']}: cannot read parameter {text.strip()!r}")
        size = _SIZES[found["bits"]]
        offset = -(-offset // size) * size
        nbytes = size * int(found["count"] or 1)
        parameters.append(Parameter(_kind(found), nbytes, offset))
        offset += nbytes
    return tuple(parameters)


def _kind(found: re.Match[str]) -> str:
    if found["count"]:
        return "bytes"
    return "pointer" if found["pointer"] else f"{found['kind']}{found['bits']}"
