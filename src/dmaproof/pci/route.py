"""Where Linux sends peer traffic between two PCI functions, by the kernel's own rule, and what decided it.

The rule is calc_map_type_and_dist of drivers/pci/p2pdma.c: up from the provider (whose memory it is) to the first
bridge that is above the client (who does the DMA) as well, and down to the client. Where no port on that way redirects
by ACS, peers reach each other below that bridge (``bus``); else, and where there is no such bridge, the way leads
through the host bridge, if the kernel trusts it. It is the same both ways. NVIDIA's driver has a policy of its own;
the switches' hardware has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmaproof.errors import UsageError
from dmaproof.pci import config, iommu, root_complex, sysfs, tree
from dmaproof.pci.capability import Acs, Missing
from dmaproof.pci.config import ConfigSpace
from dmaproof.pci.root_complex import Cpu, Passage
from dmaproof.pci.sysfs import PciFunction

Outcome = Literal["bus", "host-bridge", "unsupported", "unknown"]
Ways = tuple[tuple[str, ...], tuple[str, ...]]
"""Provider's and client's: the function itself, then the bridges above, the root port last."""
REDIRECTS = ("RR", "CR", "EC")


@dataclass(frozen=True, slots=True)
class Topology:
    """What the rule looks at. ``domains`` is the default domain type of each function's IOMMU group."""

    functions: tuple[PciFunction, ...]
    spaces: Mapping[str, ConfigSpace]
    cpu: Cpu
    domains: Mapping[str, str | None]
    command_line: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One function on the way. ``redirects`` is None where its ACS control could not be read; ``counts`` says whether
    the rule asks it: above the common bridge, and where there is none, it does not."""

    bdf: str
    side: Literal["provider", "common", "client"]
    acs: Acs | Missing
    redirects: bool | None
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``distance`` is the kernel's: bridges and functions passed. ``decided_by`` is the function whose ACS control, or
    whose place at the head of a root bus, decided; ``acs`` the redirecting bits that are on there (RR, CR, EC);
    ``redirecting`` all that redirect. ``reason`` is one sentence.
    """

    provider: str
    client: str
    outcome: Outcome
    distance: int
    common: str | None
    decided_by: str | None
    acs: tuple[str, ...]
    redirecting: tuple[str, ...]
    steps: tuple[Step, ...]
    passage: Passage | None
    reason: str


def look(root: Path) -> Topology:
    """The topology of the node under ``root``."""
    functions = sysfs.functions(root)
    types = {bdf: group.type for group in iommu.groups(root) for bdf in group.members}
    spaces = {one.bdf: config.parse(config.read(root, one.bdf) or b"") for one in functions}
    words = (sysfs.text(root / "proc/cmdline") or "").split()
    return Topology(functions, spaces, root_complex.cpu(root), types, tuple(words))


def predict(where: Path | Topology, provider: str, client: str) -> Route:
    """The route between two functions of the node under ``where``. Raises UsageError for a BDF that is not there."""
    topology = look(where) if isinstance(where, Path) else where
    known = {one.bdf for one in topology.functions}
    for end in (provider, client):
        if end not in known:
            there = f"the {len(known)} that are there (`lspci -D`, or `dmaproof route --all`, shows them)"
            raise UsageError(f"no PCI function {end}: it is not among {there}")
    ways = _way_up(topology, provider), _way_up(topology, client)
    common = next((bdf for bdf in ways[0] if bdf in ways[1]), None)
    steps = _steps(topology.spaces, ways[0], ways[1], common)
    if common is None:
        return _through_root(topology, ways, steps)
    return _below(topology, ways, steps, common)


def _way_up(topology: Topology, bdf: str) -> tuple[str, ...]:
    return (bdf, *tree.upstream(topology.functions, bdf))


def _steps(
    spaces: Mapping[str, ConfigSpace], provider: Sequence[str], client: Sequence[str], common: str | None
) -> tuple[Step, ...]:
    """Every function once, in the order of travel: up from the provider, down to the client."""
    up = provider[: provider.index(common)] if common else provider
    down = client[: client.index(common)] if common else client
    above = provider[provider.index(common) + 1 :] if common else ()
    return (
        *(_step(spaces, bdf, "provider", counts=common is not None) for bdf in up),
        *(_step(spaces, bdf, "common", counts=True) for bdf in (common,) if bdf is not None),
        *(_step(spaces, bdf, "common", counts=False) for bdf in above),
        *(_step(spaces, bdf, "client", counts=common is not None) for bdf in reversed(down)),
    )


def _step(
    spaces: Mapping[str, ConfigSpace], bdf: str, side: Literal["provider", "common", "client"], *, counts: bool
) -> Step:
    acs = spaces[bdf].acs if bdf in spaces else "unknown"
    redirects = acs.redirects if isinstance(acs, Acs) else False if acs == "absent" else None
    return Step(bdf, side, acs, redirects, counts)


def _below(topology: Topology, ways: Ways, steps: tuple[Step, ...], common: str) -> Route:
    asked = [step for step in steps if step.counts]
    redirecting = [step for step in asked if step.redirects]
    unseen = [step.bdf for step in asked if step.redirects is None]
    first = redirecting[0] if redirecting else None
    acs = redirecting_bits(first.acs) if first else ()
    passage = _passage(topology, ways) if redirecting else None
    if first is not None and passage is not None:
        outcome = _outcome(passage)
        reason = f"{first.bdf} redirects peer requests to the root complex (ACS {' '.join(acs)} on); {passage.reason}"
    elif unseen:
        outcome = "unknown"
        reason = f"ACS of {', '.join(unseen)} is unknown: {_why_unseen(topology.spaces, unseen[0])}"
    else:
        outcome = "bus"
        reason = f"no port up to {common}, which is above both, redirects: peers reach each other there"
    return Route(
        provider=ways[0][0], client=ways[1][0], outcome=outcome, common=common,
        distance=ways[0].index(common) + ways[1].index(common),
        decided_by=first.bdf if first else None, acs=acs, redirecting=tuple(step.bdf for step in redirecting),
        steps=steps, passage=passage, reason=reason,
    )  # fmt: skip


def _through_root(topology: Topology, ways: Ways, steps: tuple[Step, ...]) -> Route:
    passage = _passage(topology, ways)
    outcome = _outcome(passage)
    return Route(
        provider=ways[0][0], client=ways[1][0], outcome=outcome, common=None,
        distance=len(ways[0]) + len(ways[1]),
        decided_by=passage.root if outcome in ("unsupported", "unknown") else None, acs=(), redirecting=(),
        steps=steps, passage=passage, reason=f"no bridge is above both; {passage.reason}",
    )  # fmt: skip


def _passage(topology: Topology, ways: Ways) -> Passage:
    return root_complex.passage(topology.functions, topology.spaces, topology.cpu, (ways[0][-1], ways[1][-1]))


def _outcome(passage: Passage) -> Outcome:
    return "unknown" if passage.allowed is None else "host-bridge" if passage.allowed else "unsupported"


def redirecting_bits(acs: Acs | Missing) -> tuple[str, ...]:
    return tuple(bit for bit in acs.control if bit in REDIRECTS) if isinstance(acs, Acs) else ()


def _why_unseen(spaces: Mapping[str, ConfigSpace], bdf: str) -> str:
    space = spaces.get(bdf)
    if space is not None and space.lost:
        return "the device does not answer"
    nbytes = space.nbytes if space is not None else 0
    return f"only {nbytes} bytes of its config space are readable here; run as root"
