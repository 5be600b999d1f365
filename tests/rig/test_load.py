"""Rig files: what is read, and the one line a wrong file gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.errors import RigError, UsageError
from dmaproof.rig import load

GPU = '[node.host.gpu.gpu0]\nbdf = "0000:01:00.0"\n'
HEAD = 'name = "mine"\nkind = "virtual"\n'


def refusal(text: str) -> str:
    with pytest.raises(RigError) as caught:
        load.parse(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith("mine.toml")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("word", load.profile_ids())
def test_every_profile_loads_under_its_id_and_survives_being_written_out(word: str) -> None:
    rig = load.load(word)
    assert rig.id == word
    assert load.parse(load.dump(rig), "again") == rig


def test_profile_facts_arrive() -> None:
    rig = load.load("virtual:hgx-h100")
    (node,) = rig.nodes
    assert [gpu.name for gpu in node.gpus] == [f"gpu{i}" for i in range(8)]
    assert {gpu.product for gpu in node.gpus} == {"NVIDIA H100 80GB HBM3"}  # from gpu_defaults
    path = node.path_between("gpu3", "gpu5")
    assert path is not None
    assert (path.kind, path.peer) == ("nvlink", True)
    local = node.path_between("gpu3", "gpu3")
    assert local is not None
    assert local.kind == "local"


@pytest.mark.parametrize(
    ("body", "key", "nearest"),
    [
        ('knid = "virtual"\n', "'knid'", "'kind'"),
        ("[deadline]\nworkload = 3\n", "'deadline.workload'", "'workload_s'"),
        ('[node.host]\nadressing = "ats"\n', "'node.host.adressing'", "'addressing'"),
        ('[node.host]\niommu = { famly = "vtd" }\n', "'node.host.iommu.famly'", "'family'"),
        ("[node.host]\n" + GPU + "nvlink = 3\n", "'node.host.gpu.gpu0.nvlink'", "'nvlinks'"),
        (GPU + "pcie = { generatoin = 5, width = 16 }\n", "'node.host.gpu.gpu0.pcie.generatoin'", "'generation'"),
        (
            GPU + "bars = [{ index = 0, adress = 1, nbytes = 1 }]\n",
            "'node.host.gpu.gpu0.bars.0.adress'",
            "'address'",
        ),
        ('[node.host]\npath = [{ sorce = "host", target = "host" }]\n', "'node.host.path.0.sorce'", "'source'"),
        ('[node.host.gpu_defaults]\nprodukt = "x"\n', "'produkt'", "'product'"),
        ("[node.host]\ngpu_default = {}\n", "'node.host.gpu_default'", "'gpu_defaults'"),
    ],
)
def test_a_misspelt_key_at_any_level_names_itself_and_the_nearest_word(body: str, key: str, nearest: str) -> None:
    message = refusal(HEAD + body)
    assert f"unknown key {key}" in message
    assert f"did you mean {nearest}?" in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('[node.host]\niommu = { family = "vdt" }\n', "node.host.iommu.family = 'vdt': did you mean 'vtd'?"),
        ('[node.host]\naddressing = "at"\n', "node.host.addressing = 'at': did you mean 'ats'?"),
        ('extends = "virtual:pcie-par"\n', "unknown profile 'virtual:pcie-par': did you mean 'virtual:pcie-pair'?"),
    ],
)
def test_a_misspelt_value_names_the_nearest_word(body: str, said: str) -> None:
    assert said in refusal(HEAD + body)


@pytest.mark.parametrize("address", ["0:1:2:3", "", "gpu0", "00:1f.8", "00:20.0", "0000:100:00.0", "0000:01:00.0.0"])
def test_a_bdf_that_is_not_one(address: str) -> None:
    message = refusal(HEAD + f"[node.host.gpu.gpu0]\nbdf = {address!r}\n")
    assert "node.host.gpu.gpu0.bdf" in message
    assert f"{address!r} is not a PCI address" in message


def test_two_gpus_cannot_claim_one_bdf_in_whatever_form_it_is_written() -> None:
    message = refusal(HEAD + GPU + '[node.host.gpu.gpu1]\nbdf = "01:00.0"\n')
    assert "gpu1 and gpu0 both claim 0000:01:00.0" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name is missing"),
        (HEAD, "node is missing"),
        (HEAD + "[node]\n", "node: must not be empty"),
        (HEAD + "node = 3\n", "node = 3: must be a table"),
        (HEAD + "[node.host]\ngpu = 3\n", "node.host.gpu = 3: must be a table"),
        (HEAD + "[node.host]\ngpu_defaults = 3\n", "gpu_defaults = 3: must be a table"),
        (HEAD + '[node.host]\npath = "x"\n', "node.host.path = 'x': must be an array"),
        (HEAD + '[node.host]\nname = "other"\n', "'host' has name = 'other'"),
        (HEAD + '[node.host.gpu.host]\nbdf = "01:00.0"\n', "a GPU cannot be called 'host'"),
        (HEAD + '[node."a\\nb"]\n', "'a\\nb' cannot be a name"),
        ('name = "../up"\nkind = "virtual"\n[node.host]\n', "'../up' cannot be a name"),
        (HEAD + "deadline = { workload_s = inf }\n[node.host]\n", "deadline.workload_s = inf"),
        (HEAD + "deadline = { scale = nan }\n[node.host]\n", "deadline.scale = nan"),
        (HEAD + '[node.host]\npath = [{ source = "gpu7", target = "host", kind = "pcie" }]\n', "path end 'gpu7'"),
        ("[[[", "is not TOML"),
        ("x = " + "[" * 5000, "nested too deep"),
        ("x = " + "9" * 5000, "is not TOML"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, said: str) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("virtual:hgx-h10", "did you mean 'virtual:hgx-h100'?"),
        ("hgx-h100", "did you mean 'virtual:hgx-h100'?"),
        ("virtual:../../etc", "cannot read rig file virtual:../../etc"),
        ("", "unknown rig ''"),
        ("x" * 5000, "unknown rig"),
        ("nowhere.toml", "cannot read rig file nowhere.toml: No such file or directory"),
        ("/proc", "cannot read rig file /proc: Is a directory"),
    ],
)
def test_a_rig_that_is_not_there(word: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load.load(word)
    assert said in str(caught.value)


def test_a_rig_file_is_found_by_its_path_with_any_ending(tmp_path: Path) -> None:
    path = tmp_path / "bench"
    path.write_text(HEAD + GPU)
    assert load.load(str(path)).id == "virtual:mine"


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"\n')
    with pytest.raises(RigError, match=r"latin\.toml is not UTF-8 text: .* at byte 8"):
        load.load(str(path))


def test_an_extending_file_changes_only_what_it_says() -> None:
    base = load.load("virtual:pcie-pair")
    rig = load.parse(
        'extends = "virtual:pcie-pair"\nname = "mine"\n[node.host.gpu.gpu0]\nproduct = "NVIDIA L4"\n', "mine.toml"
    )
    gpu0, gpu1 = rig.nodes[0].gpus
    assert (rig.id, gpu0.product, gpu1.product) == ("virtual:mine", "NVIDIA L4", "NVIDIA RTX A6000")
    assert gpu0.bars == base.nodes[0].gpus[0].bars


def test_defaults_of_an_extending_file_reach_inherited_gpus_and_the_base_defaults_reach_new_ones() -> None:
    rig = load.parse(
        'extends = "virtual:pcie-pair"\nname = "mine"\n[node.host.gpu_defaults]\nproduct = "NVIDIA L4"\n'
        '[node.host.gpu.gpu2]\nbdf = "0000:90:00.0"\n',
        "mine.toml",
    )
    gpu0, _, gpu2 = rig.nodes[0].gpus
    assert gpu0.product == gpu2.product == "NVIDIA L4"
    assert gpu2.compute_capability == "8.6"
