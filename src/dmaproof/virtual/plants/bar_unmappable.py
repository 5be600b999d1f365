"""A reserved region of the IOMMU lies over a GPU's memory BAR, as AMD's 0xfd00000000-0xffffffffff can
(cloud-hypervisor#8896): the driver cannot map it for the peers."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.peermap import aperture
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import over_root, why_untranslated

ID = "bar-unmappable"
applies = why_untranslated


def plant(machine: Machine, chance: Chance) -> None:
    owners = sorted({owner.bdf for _, owner in over_root(machine.node)})
    bar = aperture(machine.gpus[chance.pick(owners, owners[-1])].rig)
    machine.iommu.reserved.append(range(bar.address, bar.address + bar.nbytes))
