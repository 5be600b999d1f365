"""Guests as a rig has them: what may be claimed of one, and which of another node's functions it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dmaproof.nearest import did_you_mean

if TYPE_CHECKING:  # the model asks this module about itself
    from dmaproof.rig.hardware import Endpoint
    from dmaproof.rig.model import Node, Rig


def assigned(rig: Rig, node: Node) -> Iterator[tuple[Endpoint, str]]:
    """The endpoints of ``node``, each with its address on the node that this one is a guest on; none if it is none."""
    if node.guest is not None:
        host = rig.node[node.guest.on]
        yield from ((one, host.endpoint[one.name].bdf) for one in node.endpoints)


def complaint(node: Node, nodes: Mapping[str, Node]) -> str | None:
    """The first claim of guest ``node`` that the rig's other ``nodes`` do not support; None where there is none."""
    return next(_complaints(node, nodes), None)


def _complaints(node: Node, nodes: Mapping[str, Node]) -> Iterator[str]:
    assert node.guest is not None  # noqa: S101 - whoever asks has looked
    host = nodes.get(node.guest.on)
    if host is None:
        others = [name for name, one in nodes.items() if one.guest is None]
        yield f"guest.on = {node.guest.on!r} is no node of this rig: {did_you_mean(node.guest.on, others)}"
        return
    if host.guest is not None:
        yield f"guest.on = {node.guest.on!r} is a guest itself: a guest is made on a node that is none"
    if node.role != "guest":
        yield f"role = {node.role!r}: a node with a guest table has role 'guest'"
    for one in node.endpoints:
        if one.name not in host.endpoint:
            yield f"endpoint.{one.name}: {host.name} has none of that name to assign"
        elif host.endpoint[one.name].kind != one.kind:
            yield f"endpoint.{one.name}.kind = {one.kind!r}: on {host.name} it is {host.endpoint[one.name].kind!r}"
    for name in node.guest.no_mmap:
        if name not in node.endpoint:
            yield (
                f"guest.no_mmap: {did_you_mean(name, node.endpoint)}" if node.endpoint else f"guest.no_mmap: no {name}"
            )
