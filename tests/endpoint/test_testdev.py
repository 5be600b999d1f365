"""The test device's driver against the register layout of its header."""

from __future__ import annotations

import pytest

from dmaproof.endpoint.testdev import WORD, TestDevice
from dmaproof.errors import EndpointError


class Model:
    """One iommu-testdev behind an IOMMU that lets only ``mapped`` addresses pass."""

    def __init__(self, mapped: set[int]) -> None:
        self.mapped, self.written = mapped, dict[int, int]()
        self.registers = dict.fromkeys(range(0, 0x24, 4), 0)

    def read32(self, offset: int) -> int:
        if offset == 0x00 and self.registers[0x14] & 1:
            target = self.registers[0x04] | self.registers[0x08] << 32
            self.registers[0x14], self.registers[0x10] = 0, 0 if target in self.mapped else 0xDEAD0002
            if target in self.mapped:
                self.written[target] = WORD
        return self.registers.get(offset, 0)

    def write32(self, offset: int, value: int) -> None:
        self.registers[offset] = value
        if offset == 0x14 and value & 1:
            self.registers[0x10] = 0xFFFFFFFE

    def read64(self, offset: int) -> int:
        raise AssertionError(f"8 bytes at {offset}: the device takes accesses of 4 bytes only")

    def write64(self, offset: int, value: int) -> None:
        raise AssertionError(f"{value} at {offset}: the device takes accesses of 4 bytes only")


def test_it_says_whether_its_write_was_refused() -> None:
    model = Model({0x1_8000_0000})
    device = TestDevice(model)
    device.aim(0x1_8000_0000, nbytes=8, physical=0x4000)
    assert device.write()
    assert model.written == {0x1_8000_0000: WORD}
    assert (model.registers[0x0C], model.registers[0x1C], model.registers[0x20]) == (8, 0x4000, 0)
    device.aim(0x9000)
    assert (model.registers[0x1C], model.registers[0x0C]) == (0x9000, 4)
    assert not device.write()


def test_a_write_that_passed_but_reads_back_otherwise_has_passed() -> None:
    model = Model({0x9000})
    device = TestDevice(model)
    device.aim(0x9000)
    for result in (0xDEAD0003, 0xDEAD0004):
        model.read32 = lambda _, result=result: result  # type: ignore[method-assign, misc]
        assert device.write()


@pytest.mark.parametrize(("result", "told"), [(0xFFFFFFFE, "it never ran"), (0xFFFFFFFF, "memory decode is off")])
def test_another_result_is_an_error(result: int, told: str) -> None:
    model = Model(set())
    model.read32 = lambda _: result  # type: ignore[method-assign, assignment]
    with pytest.raises(EndpointError, match=told):
        TestDevice(model, "itd0").write()


def test_its_registers_are_tried() -> None:
    TestDevice(Model(set())).check()
    stuck = Model(set())
    stuck.write32 = lambda *_: None  # type: ignore[method-assign, assignment]
    with pytest.raises(EndpointError, match="target register reads 0x0"):
        TestDevice(stuck).check()
