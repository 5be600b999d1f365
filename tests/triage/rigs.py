"""A rig that triage is tried on beside the profiles: four GPUs, room for two defects at once."""

from __future__ import annotations

from dmaproof.rig.load import parse
from dmaproof.rig.model import Rig

GPU0, GPU1, GPU2, GPU3 = GPUS = tuple(f"0000:{bus:02x}:00.0" for bus in (0x11, 0x22, 0x33, 0x44))
PORT0, PORT1, PORT2, PORT3 = PORTS = tuple(f"0000:00:{slot:02x}.0" for slot in (1, 2, 3, 4))
BAR0, BAR1 = 0xF0000000, 0x380000000000


def box(addressing: str = "hmm", family: str = "vtd", peers: str = "pcie") -> Rig:
    """Four GPUs, ``peers`` of each other; BAR0 of GPU n at BAR0 + n * 16 MiB, BAR1 at BAR1 + n * 1 TiB."""
    gpus = "".join(
        f"""
[node.host.gpu.gpu{n}]
bdf = "{bdf}"
uuid = "GPU-{n}"
port = "{PORTS[n]}"
pcie = {{ generation = 4, width = 16 }}
nvlinks = 12
bars = [{{ index = 0, address = {BAR0 + (n << 24)}, nbytes = {1 << 24} }},
        {{ index = 1, address = {BAR1 + (n << 40)}, nbytes = {1 << 36} }}]
"""
        for n, bdf in enumerate(GPUS)
    )
    return parse(
        f"""
name = "box"
kind = "virtual"
[node.host]
addressing = "{addressing}"
iommu = {{ family = "{family}", domain = "translated" }}
path = [
    {{ source = "gpu*", target = "gpu*", kind = "{peers}", bandwidth_GBps = 20.0, peer = true }},
    {{ source = "host", target = "gpu*", kind = "pcie", bandwidth_GBps = 26.0 }},
    {{ source = "gpu*", target = "host", kind = "pcie", bandwidth_GBps = 26.0 }},
]
{gpus}""",
        "box",
    )
