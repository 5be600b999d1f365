"""What lies where in a lab host's folder."""

from __future__ import annotations

AGENT = "agent"
"""The sockets of the agent, one for each process of a run; once the host is gone, the reason."""
ROOT = "root"
"""The copy of the host's files, and its kernel log as it grows."""
CONTROL = "control.sock"
"""The keeper's socket."""
CONSOLE, QEMU_LOG = "console.txt", "qemu.txt"
"""What the kernel wrote to its console, and QEMU to its standard output and error."""
TRACE = "trace.txt"
"""QEMU's trace of DMA that its IOMMU refused."""
