"""Access Control Services as the kernel sets them: on with an IOMMU, less what the command line turns off.

pci_enable_acs in drivers/pci/pci.c; ``pci=disable_acs_redir=`` in Documentation/admin-guide/kernel-parameters.txt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dmaproof.bdf import parse
from dmaproof.errors import UsageError
from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import Node
from dmaproof.virtual.machine import products
from dmaproof.virtual.machine.products import Identity

CAPABILITY = 0x1F  # SV | TB | RR | CR | UF
KERNEL = 0x1D  # SV | RR | CR | UF
REDIRECT = 0x2C  # RR | CR | EC
_PARAMETER = "disable_acs_redir="


def has_iommu(node: Node) -> bool:
    """Whether an IOMMU stands over the node's devices and is on."""
    return node.iommu.family != "none" and node.iommu.domain != "none"


def control(node: Node, kind: str, bdf: str, identity: Identity) -> int | None:
    """The ACS control register of a function; None where it has no such capability."""
    if kind not in ("root-port", "downstream-port"):
        return None
    kernel = KERNEL if has_iommu(node) else 0
    return kernel & ~REDIRECT if any(means(word, bdf, identity) for word in redirect_off(node)) else kernel


def isolates(control: int | None) -> bool:
    """REQ_ACS_FLAGS of drivers/iommu/iommu.c are all on."""
    return control is not None and control & KERNEL == KERNEL


def redirect_off(node: Node) -> Iterator[str]:
    """The devices that ``pci=disable_acs_redir=`` names."""
    for word in node.parameters:
        for option in word.removeprefix("pci=").split(",") if word.startswith("pci=") else ():
            if option.startswith(_PARAMETER):
                yield from option.removeprefix(_PARAMETER).split(";")


def redirect_on(parameters: tuple[str, ...], devices: Collection[str]) -> tuple[str, ...]:
    """``parameters`` without the words for ``devices`` in ``pci=disable_acs_redir=``; empty options go."""
    kept = (_without(word, devices) if word.startswith("pci=") else word for word in parameters)
    return tuple(word for word in kept if word)


def _without(word: str, devices: Collection[str]) -> str:
    options = []
    for option in word.removeprefix("pci=").split(","):
        if option.startswith(_PARAMETER):
            left = [one for one in option.removeprefix(_PARAMETER).split(";") if one not in devices]
            option = _PARAMETER + ";".join(left) if left else ""
        options += [option] if option else []
    return f"pci={','.join(options)}" if options else ""


def means(word: str, bdf: str, identity: Identity) -> bool:
    """Whether the command line's ``word`` names a device: by its place, or as ``pci:vendor:device``."""
    if word.startswith("pci:"):
        return word == f"pci:{identity.vendor:04x}:{identity.device:04x}"
    try:
        return parse(word) == bdf
    except UsageError:
        return False


def goes_straight(node: Node, one: Gpu, other: Gpu) -> bool:
    """Whether the switch over both GPUs hands requests and completions from one to the other itself."""
    switch = node.switch_above(one)
    if switch is None or switch is not node.switch_above(other):
        return False
    ports = (control(node, "downstream-port", gpu.port or "", products.SWITCH_PORT) for gpu in (one, other))
    return not any((port or 0) & REDIRECT for port in ports)
