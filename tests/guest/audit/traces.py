"""Traces to audit: the real ones in tests/guest/traces, and lines in the words of QEMU's trace-events files."""

from __future__ import annotations

from pathlib import Path

from dmaproof.guest.audit import bars
from dmaproof.guest.audit.bars import Function
from dmaproof.guest.audit.trace import Trace, of_chunks

FOLDER = Path(__file__).parents[1] / "traces"
EDU, MSIX = "edu.pci.json", "msix.pci.json"


def text(name: str) -> str:
    return (FOLDER / f"{name}.trace").read_text()


def parsed(lines: str | bytes) -> Trace:
    return of_chunks([lines.encode() if isinstance(lines, str) else lines])


def functions(name: str) -> tuple[Function, ...]:
    return bars.read(FOLDER / name)


def without(lines: str, *words: str) -> str:
    """The lines that do not hold all of ``words``."""
    return "".join(one for one in lines.splitlines(keepends=True) if not all(word in one for word in words))


def swapped(lines: str, old: str, new: str) -> str:
    """Raises AssertionError where there is nothing to swap: a test that changes nothing proves nothing."""
    assert old in lines
    return lines.replace(old, new)


def ram(first: int, last: int, at: int = 0x7F0000000000) -> str:
    return f"vfio_listener_region_add_ram region_add [ram] {first:#x} - {last:#x} [{at:#x}]\n"


def gone(first: int, last: int) -> str:
    return f"vfio_listener_region_del region_del {first:#x} - {last:#x}\n"


def mapped(first: int, nbytes: int, code: int = 0, ioas: int = 2, readonly: int = 0) -> str:
    where = f"iommufd=13 ioas={ioas} iova={first:#x} size={nbytes:#x}"
    return f"iommufd_backend_map_dma  {where} addr=0x7f113ec00000 readonly={readonly} ({code})\n"


def unmapped(first: int, nbytes: int, code: int = 0, ioas: int = 2) -> str:
    return f"iommufd_backend_unmap_dma  iommufd=13 ioas={ioas} iova={first:#x} size={nbytes:#x} ({code})\n"
