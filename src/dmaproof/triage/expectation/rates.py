"""What links can carry at most, GB/s = 1e9 bytes/s per direction, from what they are.

PCIe: symbol rate x lanes x encoding, less the header that each packet (TLP) has around its payload. From generation 3
on 128 of 130 bits are data, and a TLP costs 4 bytes of framing with its sequence number, a header of 12 bytes (a
completion) or 16 (a write to a 64-bit address), and 4 of LCRC: 20 or 24 (PCI Express Base Specification 3.0, 3.4 and
4.2.2). Generations 1 and 2: 8 of 10 bits, and framing 1 + 2 + 1: 20 or 24 as well. Generation 6 and later: a flit of
256 bytes has 236 for TLPs (specification 6.0, 4.2.3), headers are as before, framing and LCRC are the flit's.
"""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.rig.hardware import Gpu

_GT_PER_S = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0, 7: 128.0}
_FLITS_FROM = 6
_FLIT_SHARE = 236 / 256
_COMPLETION_NBYTES, _WRITE_NBYTES = 20, 24
_FRAMING_NBYTES = 8
_LEAST_PAYLOAD, _MOST_PAYLOAD = 128, 4096
"""Max_Payload_Size may be set from 128 to 4096 bytes; what it is set to is not always known."""
_ACKNOWLEDGED = 0.95
"""What is left beside acknowledgements and flow control of the other direction's traffic: a DLLP of 8 bytes every few
TLPs. An estimate, and so for the lower bound alone."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``most`` is what the link can carry of payload, ``usual`` what it carries at least when nothing else holds the
    transfer up (None: nothing is claimed), ``raw`` its rate before headers; ``why`` says what they are made from."""

    raw: float
    most: float
    usual: float | None
    why: str


def pcie(generation: int, width: int, payload_nbytes: int | None = None) -> Rate | None:
    """None for a generation that is not known. ``payload_nbytes`` is Max_Payload_Size, where it is known."""
    if generation not in _GT_PER_S or width < 1:
        return None
    raw = _GT_PER_S[generation] * width / 8 * _encoding(generation)
    most, least = payload_nbytes or _MOST_PAYLOAD, payload_nbytes or _LEAST_PAYLOAD
    return Rate(
        raw=raw,
        most=raw * payload_share(generation, most, _COMPLETION_NBYTES),
        usual=raw * payload_share(generation, least, _WRITE_NBYTES) * _ACKNOWLEDGED,
        why=f"PCIe generation {generation} x{width}",
    )


def payload_share(generation: int, payload_nbytes: int, overhead_nbytes: int = _WRITE_NBYTES) -> float:
    """What part of a packet is payload."""
    if generation >= _FLITS_FROM:
        overhead_nbytes -= _FRAMING_NBYTES
    return payload_nbytes / (payload_nbytes + overhead_nbytes)


def _encoding(generation: int) -> float:
    if generation >= _FLITS_FROM:
        return _FLIT_SHARE
    return 8 / 10 if generation <= 2 else 128 / 130


_NVLINK_GBps = {"6.0": 20.0, "7.0": 25.0, "8.0": 25.0, "8.6": 14.0625, "9.0": 25.0, "10.0": 50.0, "10.3": 50.0}
"""Of one link, each direction, by compute capability of the GPUs that have them: P100 4 x 20, V100 6 x 25, A100
12 x 25, RTX A6000 4 x 14.0625, H100 18 x 25, B200 and B300 18 x 50 (data sheets give both directions together)."""
_USUAL_NVLINK = 0.75
"""H100 397 of 450, B300 770 of 900: 86 to 88 % with copy engines. Kernels' copies may reach less. What headers take is
not published for every generation, so the raw rate is the bound above."""


def nvlink(gpu: Gpu, links: int | None) -> Rate | None:
    """Of ``links`` NVLinks of ``gpu`` together; None where number or generation are not known."""
    each = _NVLINK_GBps.get(gpu.compute_capability or "")
    if each is None or not links:
        return None
    raw = each * links
    return Rate(raw, raw, raw * _USUAL_NVLINK, f"{links} NVLinks of {each:g} GB/s")


_C2C_GBps = 450.0


def c2c() -> Rate:
    """NVLink-C2C is 900 GB/s of both directions together for a superchip: 450 is what one GPU has at most, and what two
    on one Grace share (GB300 takes 211 from the host)."""
    return Rate(_C2C_GBps, _C2C_GBps, None, "NVLink-C2C of 450 GB/s")


_MEMORY_GBps = {
    "A100-SXM4-40GB": 1555.0, "A100-PCIE-40GB": 1555.0, "A100-SXM4-80GB": 2039.0, "A100 80GB PCIe": 1935.0,
    "RTX A6000": 768.0, "H100 80GB HBM3": 3352.0, "H100 PCIe": 2039.0, "H100 NVL": 3938.0,
    "H200": 4917.0, "GH200 480GB": 4023.0, "GH200 120GB": 4023.0, "GH200 144G HBM3e": 4917.0,
    "B200": 8000.0, "GB200": 8000.0, "B300": 8000.0, "GB300": 8000.0,
}  # fmt: skip
"""Memory clock x 2 x bus width / 8, as nvmlDeviceGetMaxClockInfo and nvmlDeviceGetMemoryBusWidth have them (H200: 3201
MHz, 6144 bits), or the data sheet's. By the product's name without ``NVIDIA``."""
_CACHED = 1.10
"""A buffer of many times the L2 cache's size still finds a part of it there."""
LEAST_LOCAL_NBYTES = 256 << 20
"""Below, a copy within a GPU may be the cache's work."""


def local_copy(gpu: Gpu) -> Rate | None:
    """Of a copy within ``gpu``'s memory, bytes counted once: each is read and written, so half of what memory carries.
    None for a product whose memory is not known."""
    raw = _MEMORY_GBps.get((gpu.product or "").removeprefix("NVIDIA "))
    return Rate(raw, raw * _CACHED / 2, None, f"memory of {raw:g} GB/s, read and written") if raw else None
