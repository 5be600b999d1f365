"""A function is enabled for as long as its registers are used, and then as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.endpoint import mmio
from dmaproof.errors import DmaproofError, EndpointError
from tests.endpoint.machine import BAR_ADDRESS, BDF, command_of, function


def test_decode_and_bus_mastering_are_on_meanwhile_and_put_back(tmp_path: Path) -> None:
    folder = function(tmp_path, command=0x0100)
    with mmio.enabled(BDF, tmp_path):
        assert command_of(folder) == 0x0106
        assert (folder / "enable").read_text() == "1"
    assert command_of(folder) == 0x0100
    assert (folder / "enable").read_text() == "0"


def test_what_was_on_before_stays_on_and_an_error_puts_back_too(tmp_path: Path) -> None:
    folder = function(tmp_path, command=0x0002)

    def fail() -> None:
        with mmio.enabled(BDF, tmp_path):
            assert command_of(folder) == 0x0006
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert command_of(folder) == 0x0002


def test_registers_are_the_files_bytes(tmp_path: Path) -> None:
    folder = function(tmp_path)
    with mmio.registers(BDF, root=tmp_path) as mapped:
        mapped.write32(0x10, 0x01020304)
        mapped.write64(0x18, 0x1112131415161718)
        assert mapped.read32(0x18) == 0x15161718
        with pytest.raises(DmaproofError, match=f"BAR0 of {BDF}"):
            mapped.read32(0x1000)
    assert (folder / "resource0").read_bytes()[0x10:0x14] == bytes.fromhex("04030201")
    assert command_of(folder) == 0x0100


def test_a_drivers_function_is_refused_with_the_way_out(tmp_path: Path) -> None:
    function(tmp_path, driver="nvme")
    with pytest.raises(EndpointError, match=r"belongs to driver nvme: echo 0000:01:00\.0 > .*/driver/unbind"):
        mmio.enabled(BDF, tmp_path).__enter__()


def test_bars_are_found_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    function(tmp_path)
    assert (mmio.bar_of(BDF, 0, tmp_path).address, mmio.bar_of(BDF, 0, tmp_path).nbytes) == (BAR_ADDRESS, 4096)
    with pytest.raises(EndpointError, match="it has no BAR2"):
        mmio.bar_of(BDF, 2, tmp_path)
    with pytest.raises(EndpointError, match=r"0000:09:00\.0: no such PCI function"):
        mmio.bar_of("0000:09:00.0", 0, tmp_path)
    with pytest.raises(EndpointError, match="no such PCI function"):
        mmio.enabled("0000:09:00.0", tmp_path).__enter__()
