"""QEMU's ``edu``: a function with a DMA engine and a buffer of 4 KiB (docs/specs/edu.rst, hw/misc/edu.c of QEMU).

The engine starts 100 ms of the machine's time after it was told to, and refuses to be told anything else until then.
It does not say whether its transfer reached anything: nobody on PCIe does, for writes are posted.
"""

from __future__ import annotations

import time

from dmaproof.endpoint.mmio import Registers
from dmaproof.errors import EndpointError

NBYTES = 4096
"""Of the engine's buffer, which only the engine itself can reach."""
SCRATCH, SCRATCH_NBYTES = 0x80, 24
"""Where an idle engine keeps three 64-bit registers that mean nothing until it is started: room for a peer's words."""
_ID, _LIVENESS, _COUNT, _COMMAND = 0x00, 0x04, 0x90, 0x98
_SOURCE, _DESTINATION = 0x80, 0x88
_BUFFER = 0x40000
_START, _TO_MEMORY = 0x1, 0x2
_IDENTITY, _VERSION = 0x010000ED, 0xFFFF0000
_PROBE = 0x5AA5C33C
_ALL = 0xFFFFFFFF
_POLL_S = 0.01


class Edu:
    """An edu whose BAR0 is ``registers``; ``name`` stands in messages. Any mapping of the BAR will do."""

    def __init__(self, registers: Registers, name: str = "edu") -> None:
        self.registers, self.name = registers, name

    def check(self) -> None:
        """That it is an edu, and alive: its liveness register holds the complement of what was written. Raises
        EndpointError."""
        identity = self.registers.read32(_ID)
        if identity & ~_VERSION != _IDENTITY & ~_VERSION:
            told = "memory decode is off, or the device is gone" if identity == _ALL else "this is another device"
            raise EndpointError(f"{self.name}: identification {identity:#010x} in place of {_IDENTITY:#010x}: {told}")
        self.registers.write32(_LIVENESS, _PROBE)
        answer = self.registers.read32(_LIVENESS)
        if answer != _PROBE ^ _ALL:
            raise EndpointError(f"{self.name}: liveness register reads {answer:#010x} after {_PROBE:#010x} was written")

    def from_memory(self, address: int, nbytes: int, buffer_offset: int = 0, deadline_s: float = 5.0) -> float:
        """Read ``nbytes`` of memory at DMA ``address`` into the buffer; how long it took, in seconds."""
        return self._transfer(address, _BUFFER + buffer_offset, nbytes, _START, deadline_s)

    def to_memory(self, address: int, nbytes: int, buffer_offset: int = 0, deadline_s: float = 5.0) -> float:
        """Write ``nbytes`` of the buffer to memory at DMA ``address``; how long it took, in seconds.

        Raises EndpointError where the engine is not done by ``deadline_s``, as ``from_memory`` does.
        """
        return self._transfer(_BUFFER + buffer_offset, address, nbytes, _START | _TO_MEMORY, deadline_s)

    def scratch(self) -> tuple[int, ...]:
        """The words at SCRATCH, 32 bits each, as the device itself holds them."""
        longs = (self.registers.read64(SCRATCH + at) for at in range(0, SCRATCH_NBYTES, 8))
        return tuple(word for long in longs for word in (long & _ALL, long >> 32))

    def set_scratch(self, words: tuple[int, ...]) -> None:
        for at, (low, high) in enumerate(zip(words[::2], words[1::2], strict=True)):
            self.registers.write64(SCRATCH + 8 * at, low | high << 32)

    def _transfer(self, source: int, destination: int, nbytes: int, command: int, deadline_s: float) -> float:
        inside = source if command & _TO_MEMORY else destination
        if not (0 < nbytes <= NBYTES and _BUFFER <= inside <= _BUFFER + NBYTES - nbytes):
            raise EndpointError(f"{self.name}: {nbytes} bytes at {inside - _BUFFER:#x} do not fit a buffer of {NBYTES}")
        began = time.monotonic()
        self._wait(began + deadline_s, deadline_s)  # a busy engine ignores what it is told
        for register, value in ((_SOURCE, source), (_DESTINATION, destination), (_COUNT, nbytes), (_COMMAND, command)):
            self.registers.write64(register, value)
        self._wait(began + deadline_s, deadline_s)
        return time.monotonic() - began

    def _wait(self, until: float, seconds: float) -> None:
        while (command := self.registers.read64(_COMMAND)) & _START:
            if command == _ALL << 32 | _ALL:
                raise EndpointError(f"{self.name} reads all ones: memory decode is off, or the device is gone")
            if time.monotonic() >= until:
                raise EndpointError(f"{self.name}: a transfer is not done after {seconds:g} s (command {command:#x})")
            time.sleep(_POLL_S)
