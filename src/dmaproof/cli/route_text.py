"""Routes for people: one in every step, many as a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dmaproof.pci.capability import Express
from dmaproof.pci.route import Route, Step, Topology
from dmaproof.pci.route_changes import already_asked, changes
from dmaproof.report.text import counted

_SAYS = {
    "bus": "straight, below the root complex",
    "host-bridge": "through the host bridge",
    "unsupported": "not supported: Linux lets no peer traffic take this way",
    "unknown": "unknown",
}
_CELLS = {"bus": "bus", "host-bridge": "host", "unsupported": "no", "unknown": "?"}
_REDIRECTED, _SAYS_REDIRECTED = "acs", "through the host bridge, only because a port below redirects by ACS"
_TRANSLATED = ("DMA", "DMA-FQ")
_MOST_COLUMNS = 24


def route_text(route: Route, topology: Topology, names: Mapping[str, str]) -> str:
    """Everything that is known of one route."""
    ends = f"{_name(route.provider, names)} <-> {_name(route.client, names)}"
    parts = [
        f"{ends}: {_SAYS[route.outcome]} (distance {route.distance})",
        f"  {route.reason}",
        "the way:",
        *_way(route, topology),
        *_domains(route, topology),
        *_what_changes(route, topology),
    ]
    return "\n".join(parts)


def _name(bdf: str, names: Mapping[str, str]) -> str:
    return next((f"{name} ({bdf})" for name, where in names.items() if where == bdf), bdf)


def _way(route: Route, topology: Topology) -> Iterator[str]:
    rows = [(step.bdf, _port(step.bdf, topology), _acs(step), _role(step, route)) for step in route.steps]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        yield f"  {cells}  {row[3]}".rstrip()


def _port(bdf: str, topology: Topology) -> str:
    express = topology.spaces[bdf].express
    return express.port if isinstance(express, Express) else "not PCIe" if express == "absent" else "unknown"


def _acs(step: Step) -> str:
    return f"ACS {step.acs if isinstance(step.acs, str) else ' '.join(step.acs.control) or 'off'}"


def _role(step: Step, route: Route) -> str:
    if not step.counts:
        return "above the turn: not asked" if route.common is not None else "no bridge in common: not asked"
    words = ["peers turn round here"] if step.bdf == route.common else []
    if step.redirects:
        words.append(f"redirects{', and decides' if step.bdf == route.decided_by else ''}")
    if step.redirects is None:
        words.append("unknown: it may redirect")
    return "; ".join(words)


def _domains(route: Route, topology: Topology) -> Iterator[str]:
    kind = topology.domains.get(route.client)
    if route.outcome == "host-bridge" and kind is not None:
        translated = kind in _TRANSLATED
        effect = "are translated: the peer must be mapped" if translated else "pass untranslated"
        yield f"IOMMU: default domain {kind} of {route.client}: its requests through the host bridge {effect}"


def _what_changes(route: Route, topology: Topology) -> Iterator[str]:
    told = changes(route, topology)
    if told:
        yield "what would change it:"
    for one in told:
        yield f"  {one.what}"
        yield f"      {one.effect}"
    for word in already_asked(topology, route):
        yield f"note: the kernel was started with {word}, and these ports redirect all the same"


def matrix_text(routes: Sequence[Route], topology: Topology, names: Mapping[str, str], ends: Sequence[str]) -> str:
    """A table of all pairs, then every different reason once."""
    shown = ends[:_MOST_COLUMNS]
    short = {bdf: next((name for name, where in names.items() if where == bdf), bdf) for bdf in ends}
    cells = {frozenset((one.provider, one.client)): _cell(one)[0] for one in routes}
    width = max(4, *(len(short[bdf]) for bdf in shown))
    side = max(len(_name(bdf, names)) for bdf in shown)
    lines = [" " * side + "".join(f"  {short[bdf]:>{width}}" for bdf in shown)]
    for row in shown:
        marks = ("-" if row == column else cells[frozenset((row, column))] for column in shown)
        lines.append(f"{_name(row, names):<{side}}" + "".join(f"  {mark:>{width}}" for mark in marks))
    if len(ends) > len(shown):
        lines.append(f"and {len(ends) - len(shown)} more ends (--json has all)")
    return "\n".join([*lines, "", *_legend(routes), *_reasons(routes, topology)])


def _legend(routes: Sequence[Route]) -> Iterator[str]:
    for cell, says in dict.fromkeys(_cell(one) for one in routes):
        yield f"{cell:>4}: {says}"


def _cell(route: Route) -> tuple[str, str]:
    if route.outcome == "host-bridge" and route.redirecting:
        return _REDIRECTED, _SAYS_REDIRECTED
    return _CELLS[route.outcome], _SAYS[route.outcome]


def _reasons(routes: Sequence[Route], topology: Topology) -> Iterator[str]:
    """What keeps peers from the straight way, with the one parameter that would change all of it."""
    asked = sorted({bdf for one in routes for bdf in one.redirecting})
    if asked:
        number = sum(bool(one.redirecting) for one in routes)
        yield f"ACS redirects {counted(number, 'pair')} that could go straight; what stops it:"
        yield f"  pci=disable_acs_redir={';'.join(asked)}"
    others = {one.reason for one in routes if one.outcome in ("unsupported", "unknown") and not one.redirecting}
    yield from sorted(others)[:8]
    for word in dict.fromkeys(word for one in routes for word in already_asked(topology, one)):
        yield f"note: the kernel was started with {word}, and ports that it names redirect all the same"
