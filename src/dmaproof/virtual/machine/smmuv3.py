"""How the SMMUv3 driver reports a refused DMA: the event's raw words, and what it makes of them
(drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, arm_smmu_dump_event)."""

from __future__ import annotations

from collections.abc import Mapping

from dmaproof import bdf
from dmaproof.virtual.machine.iommu import Fault
from dmaproof.virtual.machine.kmsg import ERR, KernelLog
from dmaproof.virtual.machine.limited import Limited

_TRANSLATION = 0x10
_READ, _CLASS_INPUT = 1 << 35, 2 << 40


class FaultLog:
    """``units`` has the device name of the SMMU over each function. One rate limit is shared by all SMMUs, and one
    turn of it prints a whole event."""

    def __init__(self, log: KernelLog, units: Mapping[str, str]) -> None:
        self._log, self._units = log, units
        self._limited = Limited(log, "arm_smmu_dump_event")

    def report(self, fault: Fault, now_s: float) -> None:
        if not self._limited.admits(now_s):
            return
        unit = self._units[fault.requester]
        for line in (
            f"event 0x{_TRANSLATION:02x} received:",
            *(f"\t0x{word:016x}" for word in _words(fault)),
            f"event: F_TRANSLATION client: {fault.requester} sid: {stream_id(fault.requester):#x} ssid: 0x0"
            f" iova: {fault.address:#x} ipa: 0x0",
            f'unpriv data {fault.access} s1 "Input address caused fault" stag: 0x0',
        ):
            self._log.write(f"arm-smmu-v3 {unit}: {line}", ERR, device=("platform", unit))


def stream_id(requester: str) -> int:
    """The requester id, with the segment above it: how firmware numbers the streams of several root complexes."""
    return int(requester.partition(":")[0], 16) << 16 | bdf.requester_id(requester)


def _words(fault: Fault) -> tuple[int, int, int, int]:
    """An event record's four words (SMMUv3 architecture, 7.3.12 F_TRANSLATION)."""
    return (
        _TRANSLATION | stream_id(fault.requester) << 32,
        _CLASS_INPUT | (_READ if fault.access == "read" else 0),
        fault.address,
        0,
    )
