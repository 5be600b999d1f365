"""The driver API, one subject a module. Importing this package registers every call (abi.call)."""

from __future__ import annotations

from dmaproof.virtual.driver.calls import (
    advice,
    attributes,
    capture,
    context,
    copying,
    device,
    event,
    general,
    graph,
    graph_nodes,
    host_memory,
    ipc,
    launch,
    memory,
    module,
    pointer,
    pool,
    stream,
    user_object,
    vmm,
)

__all__ = [
    "advice",
    "attributes",
    "capture",
    "context",
    "copying",
    "device",
    "event",
    "general",
    "graph",
    "graph_nodes",
    "host_memory",
    "ipc",
    "launch",
    "memory",
    "module",
    "pointer",
    "pool",
    "stream",
    "user_object",
    "vmm",
]
