"""Where the guest has its BARs: real answers of query-pci, wounded ones, and the trace's own account."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.guest.audit import bars
from dmaproof.guest.audit.bars import Bar, Function
from dmaproof.guest.audit.pairing import paired
from tests.guest.audit.traces import EDU, FOLDER, MSIX, functions, parsed, text

REAL = json.loads((FOLDER / MSIX).read_text())
IGB = (Bar("03:00.0", 0, 0xFDE00000, 0x20000), Bar("03:00.0", 1, 0xFDE20000, 0x20000),
       Bar("03:00.0", 2, 0xC000, 0x20, memory=False), Bar("03:00.0", 3, 0xFDE40000, 0x4000))  # fmt: skip


def test_functions_behind_bridges_are_found() -> None:
    found = {one.guest: one for one in functions(MSIX)}
    assert {"00:00.0", "00:10.0", "01:00.0", "02:00.0", "03:00.0", "00:1f.2"} <= found.keys()
    assert found["03:00.0"] == Function("03:00.0", IGB, "igb0")


def test_the_answer_may_be_whole_or_its_return_alone() -> None:
    assert bars.of_query({"return": REAL, "id": 3}) == bars.of_query(REAL)


@pytest.mark.parametrize("address", [-1, (1 << 64) - 1])
def test_a_bar_without_an_address_has_none(address: int) -> None:
    region = {"bar": 0, "type": "memory", "address": address, "size": 4096}
    device = {"bus": 1, "slot": 2, "function": 3, "regions": [region]}
    assert bars.of_query([{"bus": 0, "devices": [device]}])[0].bars == (Bar("01:02.3", 0, None, 4096),)


def test_the_trace_places_the_same_bars_as_query_pci() -> None:
    """Two accounts of the same real guests."""
    for name, pci in (("edu-iommufd", EDU), ("edu-type1", EDU), ("msix-type1", MSIX), ("msix-iommufd", MSIX)):
        theirs = {(bar.guest, bar.index, bar.address, bar.nbytes) for one in functions(pci) for bar in one.bars}
        ours = bars.of_trace(parsed(text(name)).state)
        assert {(bar.guest, bar.index, bar.address, bar.nbytes) for one in ours for bar in one.bars} == theirs


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["devices", "regions", "bus"]), inner),
    max_leaves=6,
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container of ``node`` with each of its keys."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


@settings(deadline=None)
@given(st.data(), ANY)
def test_a_wounded_answer_is_read_or_refused_in_a_sentence(data: st.DataObject, instead: Any) -> None:
    whole = json.loads(json.dumps(REAL))
    node, key = data.draw(st.sampled_from(places(whole)))
    node[key] = instead
    found, said = tuple[Function, ...](), "FILE is not what query-pci answers: "
    try:
        found = bars.of_query(whole, "FILE")
    except UsageError as error:
        said = str(error)
    assert said.startswith("FILE is not what query-pci answers: ")
    assert "\n" not in said
    assert all(bar.nbytes > 0 for one in found for bar in one.bars)


def test_an_emulated_device_of_the_same_size_is_not_taken_for_the_assigned_one() -> None:
    """A second edu that QEMU emulates itself: the trace says whose model it is."""
    place = "pci_update_mappings_add edu 00:05.0 0,0xfe700000+0x100000\n"
    state = parsed(place + text("edu-type1")).state
    emulated = Function("00:05.0", (Bar("00:05.0", 0, 0xFE700000, 0x100000),))
    pairing = paired(state, [emulated, *functions(EDU)])
    assert dict(pairing.hosts) == {"01:00.0": "0000:01:00.0", "02:00.0": "0000:02:00.0"}


def test_without_registers_the_models_name_tells() -> None:
    lines = "".join(one for one in text("edu-type1").splitlines(keepends=True) if "write_config" not in one)
    emulated = Function("00:05.0", (Bar("00:05.0", 0, 0xFE700000, 0x100000),))
    state = parsed("pci_update_mappings_add edu 00:05.0 0,0xfe700000+0x100000\n" + lines).state
    pairing = paired(state, [emulated, *functions(EDU)])
    assert dict(pairing.hosts) == {"01:00.0": "0000:01:00.0", "02:00.0": "0000:02:00.0"}
    assert pairing.assumed == {"01:00.0", "02:00.0"}


def test_a_device_with_only_some_of_the_bars_is_another_one() -> None:
    """By query-pci, which tells of all BARs; what the trace places may be a part of them."""
    lines = "".join(one for one in text("msix-type1").splitlines(keepends=True) if "write_config" not in one)
    some = Function("00:05.0", IGB[:1])
    assert "00:05.0" not in paired(parsed(lines).state, [some]).hosts
    part = Function("00:05.0", IGB[:1], whole=False)
    assert paired(parsed(lines).state, [part]).hosts == {"00:05.0": "0000:05:00.0"}
