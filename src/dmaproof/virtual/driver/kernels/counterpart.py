"""The table of host counterparts by kernel name, and the check that one is of the kernel that was compiled."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from dmaproof.virtual.driver.access import Operation
from dmaproof.virtual.driver.ptx import Entry

Body = Callable[..., "Generator[None, None, float] | None"]
B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a counterpart works with. ``ready_ns`` is the modelled start of its kernel."""

    operation: Operation
    ready_ns: float
    queued_ns: float
    nthreads: int


@dataclass(frozen=True, slots=True)
class Counterpart:
    """``parameters``: ``pointer``, ``u32`` or ``u64`` each, as the .cu file declares them."""

    name: str
    parameters: tuple[str, ...]
    body: Body


_counterparts: dict[str, Counterpart] = {}


def counterpart(name: str, *parameters: str) -> Callable[[B], B]:
    """Register the decorated function as what kernel ``name`` does: ``body(launch, *arguments)``.

    A plain function does its work at once; a generator is polled between yields and returns its modelled end.
    """

    def register(body: B) -> B:
        _counterparts[name] = Counterpart(name, parameters, body)
        return body

    return register


def find(name: str) -> Counterpart | None:
    return _counterparts.get(name)


def difference(entry: Entry) -> str | None:
    """How the compiled kernel's parameters differ from its counterpart's; None where they agree or it has none."""
    known = find(entry.name)
    if known is None:
        return None
    compiled = tuple(parameter.kind for parameter in entry.parameters)
    if len(compiled) == len(known.parameters) and all(map(_agree, known.parameters, compiled)):
        return None
    return (
        f"kernel {entry.name}: the PTX takes ({', '.join(compiled)}), "
        f"its host counterpart ({', '.join(known.parameters)}); change dmaproof.virtual.driver.kernels too"
    )


def _agree(declared: str, compiled: str) -> bool:
    """Compilers may leave out what a 64-bit word is used for: an untyped one agrees with a pointer."""
    return compiled in (declared, "b" + declared[1:]) or (declared == "pointer" and compiled in ("u64", "b64"))
