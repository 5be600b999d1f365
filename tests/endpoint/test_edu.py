"""The edu's driver against its manual: transfers both ways, bounds, deadlines, and what is no edu."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.endpoint import edu
from dmaproof.endpoint.edu import Edu
from dmaproof.errors import EndpointError
from tests.endpoint.machine import EduModel

PAGE, OTHER = 0x10000, 0x20000


@given(data=st.binary(min_size=1, max_size=edu.NBYTES), offset=st.integers(0, edu.NBYTES))
def test_what_is_read_is_what_is_written(data: bytes, offset: int) -> None:
    memory = {PAGE: bytearray(data.ljust(edu.NBYTES, b"\0"))}
    engine = Edu(EduModel(memory, polls=0))
    if offset + len(data) > edu.NBYTES:
        with pytest.raises(EndpointError, match="do not fit a buffer of 4096"):
            engine.from_memory(PAGE, len(data), offset)
        return
    engine.from_memory(PAGE, len(data), offset)
    engine.to_memory(OTHER, len(data), offset)
    assert memory[OTHER][: len(data)] == data


def test_it_waits_until_the_engine_is_done() -> None:
    model = EduModel({PAGE: bytearray(b"\x5a" * edu.NBYTES)}, polls=4)
    seconds = Edu(model).from_memory(PAGE, edu.NBYTES)
    assert model.buffer == b"\x5a" * edu.NBYTES
    assert seconds > 0.03


def test_an_engine_that_never_finishes_is_given_up_at_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(EndpointError, match=r"edu0: a transfer is not done after 0\.1 s"):
        Edu(EduModel({}, polls=10**9), "edu0").to_memory(PAGE, 8, deadline_s=0.1)
    assert time.monotonic() - began < 2


def test_scratch_registers_hold_what_they_are_given() -> None:
    engine = Edu(EduModel({}))
    words = (1, 0xFFFFFFFF, 3, 0x80000000, 5, 6)
    engine.set_scratch(words)
    assert engine.scratch() == words


def test_a_live_edu_passes_and_another_device_does_not() -> None:
    model = EduModel({})
    Edu(model).check()
    model.words[0x00] = 0x020100ED  # a later version is an edu still
    Edu(model).check()
    model.words[0x00] = 0x12345678
    with pytest.raises(EndpointError, match="0x12345678 in place of 0x010000ed: this is another device"):
        Edu(model).check()
    model.words[0x00] = 0xFFFFFFFF
    with pytest.raises(EndpointError, match="memory decode is off"):
        Edu(model).check()


def test_an_edu_whose_liveness_register_is_stuck_is_told() -> None:
    class Stuck(EduModel):
        def write32(self, offset: int, value: int) -> None:
            self.words[offset] = value

    with pytest.raises(EndpointError, match="liveness register reads"):
        Edu(Stuck({})).check()
