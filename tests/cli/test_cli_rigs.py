"""``dmaproof rigs``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmaproof.rig import load
from tests.support.console import dmaproof


def test_the_list_has_every_profile_and_this_machine() -> None:
    said = dmaproof("rigs")
    words = [line.split()[0] for line in said.out.splitlines()]
    assert said.status == 0
    assert words == [*load.profile_ids(), "host", "auto", "FILE.toml"]


def test_the_list_as_json() -> None:
    rigs = {rig["id"]: rig for rig in json.loads(dmaproof("rigs", "--json").out)}
    assert list(rigs) == load.profile_ids()
    assert (rigs["virtual:hgx-h100"]["gpus"], rigs["virtual:hgx-h100"]["endpoints"]) == (8, 0)
    assert (rigs["lab:vtd"]["gpus"], rigs["lab:vtd"]["endpoints"]) == (0, 3)
    assert rigs["virtual:guest-pair"]["nodes"] == ["guest"]


@pytest.mark.parametrize("word", load.profile_ids())
def test_a_declaration_printed_is_a_rig_file(word: str, tmp_path: Path) -> None:
    said = dmaproof("rigs", word)
    assert said.status == 0
    file = tmp_path / "copy.toml"
    file.write_text(said.out)
    assert load.load(str(file)) == load.load(word)


def test_this_machine_printed_is_a_rig_file() -> None:
    said = dmaproof("rigs", "host")
    assert (said.status, said.err) == (0, "")
    rig = load.parse(said.out, "printed")
    assert rig.id == "host"
    assert list(rig.node) == ["host"]
    as_json = json.loads(dmaproof("rigs", "host", "--json").out)
    assert as_json["node"]["host"]["role"] == rig.node["host"].role


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "name is missing"),
        (b'name = "\xe9"\n', "is not UTF-8 text"),
        (b'name = "x"\nkind = "virtual"\n[node.a.gpu.g0]\nbdf = "gpu:0"\n', "node.a.gpu.g0.bdf: 'gpu:0' is not a PCI"),
        (
            b'name = "x"\nkind = "virtual"\n[node.a.gpu.g0]\nbdf = "01:00.0"\n[node.a.gpu.g1]\nbdf = "0:1:0.0"\n',
            "g1 and g0 both claim 0000:01:00.0",
        ),
        (b'name = "x"\nkind = "virtual"\n[node.a]\nadressing = "ats"\n', "did you mean 'addressing'?"),
    ],
)
def test_a_wrong_file_gets_one_line_that_names_it(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bench.toml"
    file.write_bytes(content)
    complaint = dmaproof("rigs", file).complaint
    assert str(file) in complaint
    assert said in complaint


def test_a_mark_that_editors_on_windows_put_first(tmp_path: Path) -> None:
    rig = tmp_path / "rig.toml"
    rig.write_text('\ufeffname = "bench"\nkind = "host"\n[node.host]\n', encoding="utf-8")
    assert (said := dmaproof("rigs", rig)).status == 0, said


def test_a_file_too_large_for_a_rig(tmp_path: Path) -> None:
    rig = tmp_path / "rig.toml"
    rig.write_bytes(b"#" * (5 << 20))
    assert f"cannot read {rig}: it has more than 4194304 bytes" in dmaproof("rigs", rig).complaint
