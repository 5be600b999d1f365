"""Properties of merging, extending and writing out rigs, for whatever a file may say."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmaproof.errors import RigError
from dmaproof.rig import load
from dmaproof.rig.model import Rig

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no defect
KEYS = st.sampled_from(["name", "kind", "node", "gpu", "gpu_defaults", "bdf", "path", "deadline", "extends", "x", ""])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["virtual:gh200"])
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)
TABLES = st.dictionaries(KEYS, ANYTHING, max_size=5)
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}", fullmatch=True).filter(lambda word: word != "host")


@UNHURRIED
@given(TABLES)
def test_nothing_laid_over_or_under_a_table_leaves_it_as_it_is(table: dict[str, Any]) -> None:
    table = without_nan(table)
    assert load.merge(table, {}) == table
    assert load.merge({}, table) == table
    assert load.merge(table, table) == table


@UNHURRIED
@given(TABLES, TABLES, TABLES)
def test_merging_is_associative_where_tables_lie_over_tables(a: Any, b: Any, c: Any) -> None:
    a, b, c = (only_tables(without_nan(one)) for one in (a, b, c))
    assert load.merge(load.merge(a, b), c) == load.merge(a, load.merge(b, c))


@UNHURRIED
@given(TABLES, TABLES)
def test_what_lies_on_top_wins_and_the_inputs_stay_whole(base: dict[str, Any], over: dict[str, Any]) -> None:
    base, over = without_nan(base), without_nan(over)
    before = copy.deepcopy((base, over))
    merged = load.merge(base, over)
    assert set(merged) == set(base) | set(over)
    assert all(merged[key] == value for key, value in over.items() if not isinstance(value, dict))
    assert (base, over) == before


@UNHURRIED
@given(TABLES)
def test_expanding_refuses_or_leaves_no_shorthand_and_a_second_time_changes_nothing(table: dict[str, Any]) -> None:
    table = without_nan(table)
    before = copy.deepcopy(table)
    try:
        once = load.expand(table, "t")
    except RigError:
        return
    finally:
        assert table == before
    assert "extends" not in once
    nodes = once.get("node")
    if isinstance(nodes, dict):
        assert not any("gpu_defaults" in node for node in nodes.values() if isinstance(node, dict))
    assert load.expand(once, "t") == once


@UNHURRIED
@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace")))
def test_any_text_is_a_rig_or_one_clear_line(text: str) -> None:
    try:
        said = load.parse(text, "any.toml").id
    except RigError as error:
        said = str(error)
    assert said.startswith("any.toml") or ":" in said or said == "host"


@st.composite
def rigs(draw: st.DrawFn) -> Rig:
    bdfs = draw(st.lists(st.integers(0, 0xFFFF), unique=True, max_size=4))
    gpus = {
        name: draw(gpu(rid)) for name, rid in zip(draw(st.lists(WORDS, unique=True, min_size=4)), bdfs, strict=False)
    }
    ends = st.sampled_from([*gpus, "host", "*"])
    rate = st.none() | st.floats(min_value=1e-9, max_value=1e6)
    path = st.fixed_dictionaries(
        {
            "source": ends,
            "target": ends,
            "kind": st.sampled_from(["nvlink", "pcie", "c2c", "local", "unknown"]),
            "bandwidth_GBps": rate,
            "latency_ns": rate,
            "peer": st.booleans(),
        }
    )
    node = {
        "role": draw(st.sampled_from(["host", "guest"])),
        "addressing": draw(st.sampled_from(["none", "hmm", "ats", "unknown"])),
        "iommu": {
            "family": draw(st.sampled_from(["vtd", "none"])),
            "domain": draw(st.sampled_from(["translated", "none"])),
        },
        "gpu": gpus,
        "path": draw(st.lists(path, max_size=4)),
    }
    return Rig.model_validate(
        {
            "name": draw(WORDS),
            "kind": draw(st.sampled_from(["host", "virtual"])),
            "description": draw(st.text()),
            "deadline": {"workload_s": draw(st.floats(min_value=0.01, max_value=86400))},
            "node": {draw(WORDS): node},
        }
    )


def gpu(requester: int) -> st.SearchStrategy[dict[str, Any]]:
    bar = st.fixed_dictionaries(
        {"index": st.integers(0, 5), "address": st.integers(0, 2**64 - 1), "nbytes": st.integers(1, 2**48)}
    )
    return st.fixed_dictionaries(
        {
            "bdf": st.just(f"{requester >> 8:02x}:{requester >> 3 & 31:02x}.{requester & 7}"),
            "uuid": st.none() | st.text(),
            "product": st.none() | st.text(),
            "compute_capability": st.none() | st.just("9.0"),
            "memory_nbytes": st.none() | st.integers(1, 2**60),
            "port": st.none() | st.just("00:01.0"),
            "numa_node": st.none() | st.integers(-1, 100),
            "pcie": st.none() | st.just({"generation": 5, "width": 16}),
            "nvlinks": st.none() | st.integers(0, 36),
            "bars": st.lists(bar, max_size=3),
            "clique": st.none() | st.integers(0, 15),
        }
    )


@UNHURRIED
@given(rigs())
def test_a_rig_written_out_reads_back_equal(rig: Rig) -> None:
    assert load.parse(load.dump(rig), "dumped") == rig


def without_nan(value: Any) -> Any:
    """``value`` with NaN, the one leaf that differs from itself, replaced."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return 0.0 if value != value else value


def only_tables(value: dict[str, Any]) -> dict[str, Any]:
    """Tables all the way down: a leaf may hide a table below it, and then the order of merging matters."""
    return {key: only_tables(inner) for key, inner in value.items() if isinstance(inner, dict)}
