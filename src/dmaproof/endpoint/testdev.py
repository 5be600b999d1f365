"""QEMU's ``iommu-testdev``: a function that does one DMA the moment it is asked, and says whether it was refused
(include/hw/misc/iommu-testdev.h and hw/misc/iommu-testdev.c of QEMU, since 11.0).

It writes one known word, over and over, through the IOMMU, then reads it back past the IOMMU at a *physical* address.
It needs no bus mastering: that its DMA was refused is the IOMMU's doing alone.
"""

from __future__ import annotations

from dmaproof.endpoint.mmio import Registers
from dmaproof.errors import EndpointError

VENDOR, DEVICE = 0x1B36, 0x0005
WORD = 0x12345678
_TRIGGER, _TARGET, _LENGTH, _RESULT, _DOORBELL, _CHECK = 0x00, 0x04, 0x0C, 0x10, 0x14, 0x1C
_PROBE = 0x5AA5_C33C_0FF0_6996
_ARM, _BUSY = 0x1, 0xFFFFFFFE
_DONE, _REFUSED, _UNREADABLE, _MISMATCH = 0x0, 0xDEAD0002, 0xDEAD0003, 0xDEAD0004


class TestDevice:
    """An iommu-testdev whose BAR0 is ``registers``; ``name`` stands in messages."""

    __test__ = False  # no test class, whatever pytest may think of its name

    def __init__(self, registers: Registers, name: str = "iommu-testdev") -> None:
        self.registers, self.name = registers, name

    def aim(self, address: int, nbytes: int = 4, physical: int | None = None) -> None:
        """Let later writes be ``nbytes`` at DMA ``address``, and be read back at ``physical`` (left out: there)."""
        self._set_long(_TARGET, address)
        self._set_long(_CHECK, address if physical is None else physical)
        self.registers.write32(_LENGTH, nbytes)

    def check(self) -> None:
        """That its registers hold what is written to them. Raises EndpointError."""
        self.aim(_PROBE)
        found = self.registers.read32(_TARGET) | self.registers.read32(_TARGET + 4) << 32
        if found != _PROBE:
            raise EndpointError(f"{self.name}: its target register reads {found:#x} after {_PROBE:#x} was written")

    def write(self) -> bool:
        """Write once; True where the IOMMU let it pass, False where the device was told no. Raises EndpointError."""
        self.registers.write32(_DOORBELL, _ARM)
        self.registers.read32(_TRIGGER)
        result = self.registers.read32(_RESULT)
        if result in (_DONE, _UNREADABLE, _MISMATCH):  # past the write: what is read there later is another matter
            return True
        if result == _REFUSED:
            return False
        told = "it never ran" if result == _BUSY else "memory decode is off, or this is another device"
        raise EndpointError(f"{self.name}: result register reads {result:#010x}: {told}")

    def _set_long(self, register: int, value: int) -> None:
        self.registers.write32(register, value & 0xFFFFFFFF)
        self.registers.write32(register + 4, value >> 32)
