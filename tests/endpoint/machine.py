"""A function as sysfs shows it, in real files, and an edu after its manual, for what no machine without QEMU has."""

from __future__ import annotations

from pathlib import Path

from dmaproof.endpoint import edu

BDF = "0000:01:00.0"
BAR_ADDRESS = 0xFE600000


def function(root: Path, *, command: int = 0x0100, driver: str | None = None) -> Path:
    """``root`` with one function at BDF: a BAR0 of 4 KiB, and 64 bytes of configuration space."""
    folder = root / "sys/bus/pci/devices" / BDF
    folder.mkdir(parents=True)
    config = bytearray(64)
    config[0:4] = bytes.fromhex("3412e811")
    config[4:6] = command.to_bytes(2, "little")
    (folder / "config").write_bytes(config)
    for name, content in (("vendor", "0x1234"), ("device", "0x11e8"), ("class", "0x00ff00"), ("enable", "0")):
        (folder / name).write_text(content)
    (folder / "resource").write_text(f"{BAR_ADDRESS:#x} {BAR_ADDRESS + 0xFFF:#x} 0x40200\n")
    (folder / "resource0").write_bytes(bytes(4096))
    if driver is not None:
        (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
        (folder / "enable").unlink()  # so that it cannot be written, as the kernel's -EBUSY has it
        (folder / "enable").mkdir()
    return folder


def command_of(folder: Path) -> int:
    return int.from_bytes((folder / "config").read_bytes()[4:6], "little")


class EduModel:
    """The registers of one edu over ``memory`` (address to bytes): a transfer is done after ``polls`` looks at it."""

    def __init__(self, memory: dict[int, bytearray], polls: int = 3) -> None:
        self.memory, self.polls = memory, polls
        self.words = {0x00: 0x010000ED}
        self.longs = dict.fromkeys((0x80, 0x88, 0x90, 0x98), 0)
        self.buffer = bytearray(edu.NBYTES)
        self._left = 0

    def read32(self, offset: int) -> int:
        return self.words.get(offset, 0xFFFFFFFF)

    def write32(self, offset: int, value: int) -> None:
        if offset == 0x04:
            self.words[0x04] = value ^ 0xFFFFFFFF

    def read64(self, offset: int) -> int:
        if offset == 0x98 and self.longs[0x98] & 1:
            self._left -= 1
            if self._left < 0:
                self._move()
        return self.longs[offset]

    def write64(self, offset: int, value: int) -> None:
        if self.longs[0x98] & 1:
            return  # a busy engine hears nothing
        self.longs[offset] = value
        if offset == 0x98:
            self._left = self.polls

    def _move(self) -> None:
        source, target, count = (self.longs[at] for at in (0x80, 0x88, 0x90))
        if self.longs[0x98] & 2:
            at = source - 0x40000
            self.memory.setdefault(target, bytearray(edu.NBYTES))[:count] = self.buffer[at : at + count]
        else:
            at = target - 0x40000
            self.buffer[at : at + count] = self.memory[source][:count]
        self.longs[0x98] &= ~1
