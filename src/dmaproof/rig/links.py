"""What a PCIe link can train to, by what its ends offer."""

from __future__ import annotations

from dmaproof.pci.sysfs import PciFunction


def trainable(function: PciFunction, above: PciFunction | None) -> dict[str, int] | None:
    """The link that ``function`` and the port ``above`` it can train to at most; None where either end is unknown.

    A function on a root bus, as some hypervisors show GPUs, has no other end to ask.
    """
    ends = [one.link for one in (function, above) if one is not None]
    generations = [link.max_generation if link is not None else None for link in ends]
    widths = [link.max_width if link is not None else None for link in ends]
    if None in generations or not all(widths):
        return None
    now = function.link  # an emulated port may understate what a passed-through GPU has trained
    generation = max(min(filter(None, generations)), (now.current_generation if now else None) or 0)
    return {
        "generation": generation,
        "width": max(min(filter(None, widths)), (now.current_width if now else None) or 0),
    }
