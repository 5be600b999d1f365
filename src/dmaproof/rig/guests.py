"""Guests as a rig has them: what may be claimed of one, and which of another node's functions it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dmaproof.nearest import did_you_mean
from dmaproof.rig.hardware import Function, Guest, Qemu

if TYPE_CHECKING:  # the model asks this module about itself
    from dmaproof.rig.model import Node, Rig


def lent(rig: Rig, node: Node) -> dict[str, Function]:
    """The functions that guest ``node`` is given, as the node has them that it is a guest on, by name; none if it is
    none."""
    if node.guest is None:
        return {}
    theirs = {one.name: one for one in rig.node[node.guest.on].functions}
    return {one.name: theirs[one.name] for one in node.functions}


def assigned(rig: Rig, node: Node) -> Iterator[tuple[Function, str]]:
    """The functions of guest ``node``, each with its address on the node that it is a guest on; none if it is none."""
    there = lent(rig, node)
    yield from ((one, there[one.name].bdf) for one in node.functions if there)


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
    for gpu in node.gpus:
        if gpu.name not in host.gpu:
            yield f"gpu.{gpu.name}: {host.name} has none of that name to assign"
    for one in node.endpoints:
        if one.name not in host.endpoint:
            yield f"endpoint.{one.name}: {host.name} has none of that name to assign"
        elif host.endpoint[one.name].kind != one.kind:
            yield f"endpoint.{one.name}.kind = {one.kind!r}: on {host.name} it is {host.endpoint[one.name].kind!r}"
    given = [one.name for one in node.functions]
    for name in node.guest.no_mmap:
        if name not in given:
            yield f"guest.no_mmap: {did_you_mean(name, given)}" if given else f"guest.no_mmap: no {name}"
    yield from _of_disk(node, node.guest)
    yield from _of_memory(node, node.guest)


def _of_disk(node: Node, guest: Guest) -> Iterator[str]:
    if guest.fill != "image":
        if guest.disk is not None:
            yield f"guest.disk: only fill = 'image' boots from a disk, and guest.fill = {guest.fill!r}"
        return
    if guest.disk is None:
        yield "guest.disk is missing: fill = 'image' boots from one, so give it a table with path, format and key"
    if node.made_by.kernel != Qemu().kernel:
        yield f"qemu.kernel = {node.made_by.kernel!r}: the image's boot loader starts its own; else use arguments"
    if node.parameters:
        yield f"parameters: the image's boot loader has the kernel's words: add {node.parameters[0]!r} on the image"


def _of_memory(node: Node, guest: Guest) -> Iterator[str]:
    page_nbytes, memory_nbytes = guest.hugepage_nbytes, node.made_by.memory_nbytes
    if page_nbytes is not None and memory_nbytes % page_nbytes:
        more = memory_nbytes + -memory_nbytes % page_nbytes
        yield f"guest.hugepage_nbytes = {page_nbytes}: qemu.memory_nbytes = {memory_nbytes} is no multiple, {more} is"
    if page_nbytes is not None and memory_nbytes // page_nbytes < node.numa_nodes:
        least = node.numa_nodes * page_nbytes
        yield f"qemu.memory_nbytes = {memory_nbytes}: {node.numa_nodes} NUMA nodes of such pages take {least} at least"
