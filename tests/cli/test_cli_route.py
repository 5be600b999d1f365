"""``dmaproof route`` and ``doctor --save``, on trees of real files and archives of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dmaproof.rig.archive import save
from tests.pci.machine_tree import MachineTree, express, gpu_config, header, port_config
from tests.support.console import dmaproof

WANTED = 0x1D
ROOT_PORT, UP, DOWN = "0000:16:01.0", "0000:17:00.0", ("0000:18:00.0", "0000:18:01.0")
GPUS, FAR = ("0000:19:00.0", "0000:1a:00.0"), "0000:82:00.0"
INTEL = "vendor_id\t: GenuineIntel\ncpu family\t: 6\n"


def machine(root: Path, *, acs: int = 0) -> MachineTree:
    """Two GPUs under one switch, a third under another host bridge, both bridges whitelisted."""
    root.mkdir()
    tree = MachineTree(root)
    (root / "proc/cpuinfo").write_text(INTEL)
    for bus in ("0000:16", "0000:81"):
        ids = {"vendor": "0x8086", "device": "0x09a2", "class": "0x088000"}
        tree.function(f"{bus}:00.0", config=bytes(header(first_capability=0)[:256]), **ids)
        tree.port(f"{bus}:01.0", config=port_config(acs_control=WANTED))
    tree.port(UP, under=ROOT_PORT, config=bytes(express(header(), port=5)))
    for port, gpu in zip(DOWN, GPUS, strict=True):
        tree.port(port, under=UP, config=port_config(acs_control=acs))
        tree.function(gpu, under=port, config=gpu_config())
    tree.function(FAR, under="0000:81:01.0", config=gpu_config())
    return tree


@pytest.fixture
def straight(tmp_path: Path) -> Path:
    return machine(tmp_path / "straight").root


@pytest.fixture
def redirected(tmp_path: Path) -> Path:
    return machine(tmp_path / "redirected", acs=WANTED).root


def test_a_direct_route(straight: Path) -> None:
    said = dmaproof("route", "gpu0", "1a:00.0", "--sysfs", straight)
    assert (said.status, said.err) == (0, "")
    head, reason, _, *way = said.out.splitlines()
    assert head == f"gpu0 ({GPUS[0]}) <-> gpu1 ({GPUS[1]}): straight, below the root complex (distance 4)"
    assert UP in reason
    assert [line.split()[0] for line in way] == [GPUS[0], DOWN[0], UP, ROOT_PORT, DOWN[1], GPUS[1]]
    assert "not asked" in way[3]


def test_a_redirected_route_names_port_bits_and_parameter(redirected: Path) -> None:
    said = dmaproof("route", *GPUS, "--sysfs", redirected)
    assert said.status == 1
    assert f"{DOWN[0]} redirects peer requests to the root complex (ACS RR CR on)" in said.out
    assert "pci=disable_acs_redir=0000:18:00.0;0000:18:01.0" in said.out
    assert "pci=config_acs=xxx00xx@0000:18:00.0;xxx00xx@0000:18:01.0" in said.out


def test_json_of_a_pair(redirected: Path) -> None:
    said = dmaproof("route", *GPUS, "--sysfs", redirected, "--json")
    found = json.loads(said.out)
    assert (found["outcome"], found["decided_by"], found["acs"], found["distance"]) == (
        "host-bridge", DOWN[0], ["RR", "CR"], 4,
    )  # fmt: skip
    assert found["changes"][0]["what"] == "pci=disable_acs_redir=0000:18:00.0;0000:18:01.0"
    assert found["steps"][1]["acs"] == {"capability": found["steps"][1]["acs"]["capability"], "control": [
        "SV", "RR", "CR", "UF"]}  # fmt: skip


def test_the_matrix_of_all_gpus(redirected: Path) -> None:
    said = dmaproof("route", "--sysfs", redirected)
    assert said.status == 1
    table = [line.split() for line in said.out.splitlines()]
    assert table[0] == ["gpu0", "gpu1", "gpu2"]
    assert [row[2:] for row in table[1:4]] == [["-", "acs", "host"], ["acs", "-", "host"], ["host", "host", "-"]]
    assert "ACS redirects 1 pair that could go straight" in said.out
    straightened = json.loads(dmaproof("route", "--sysfs", redirected, "--json").out)
    assert [one["outcome"] for one in straightened["routes"]] == ["host-bridge"] * 3
    assert straightened["ends"][2] == {"bdf": FAR, "name": "gpu2"}


def test_all_endpoints(straight: Path) -> None:
    ends = json.loads(dmaproof("route", "--sysfs", straight, "--all", "--json").out)["ends"]
    assert {"0000:16:00.0", *GPUS, FAR} <= {one["bdf"] for one in ends}
    assert not {UP, *DOWN, ROOT_PORT} & {one["bdf"] for one in ends}


def test_an_archive_says_the_same(redirected: Path, tmp_path: Path) -> None:
    save(redirected, tmp_path / "bench.tar.gz", "0")
    for arguments in (["gpu0", "gpu1"], ["gpu0", "gpu2", "--json"], []):
        here, there = (
            dmaproof("route", *arguments, "--sysfs", where) for where in (redirected, tmp_path / "bench.tar.gz")
        )
        assert (here.status, here.out) == (there.status, there.out)


def test_names_of_a_rig(straight: Path, tmp_path: Path) -> None:
    gpus = "\n".join(f'[node.host.gpu.{name}]\nbdf = "{bdf}"' for name, bdf in (("left", GPUS[0]), ("right", FAR)))
    (tmp_path / "bench.toml").write_text(f'name = "bench"\nkind = "host"\n{gpus}\n')
    said = dmaproof("route", "left", "right", "--rig", tmp_path / "bench.toml", "--sysfs", straight)
    assert said.out.startswith(f"left ({GPUS[0]}) <-> right ({FAR}): through the host bridge")


def test_an_unreadable_machine_is_unknown(straight: Path) -> None:
    for path in (straight / "sys/bus/pci/devices").glob("*/config"):
        path.write_bytes(path.read_bytes()[:64])
    said = dmaproof("route", "gpu0", "gpu1", "--sysfs", straight)
    assert said.status == 1
    assert "run as root" in said.out
    assert "?" in dmaproof("route", "--sysfs", straight).out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gpu9", "gpu1"], "'gpu9' is neither a PCI address, such as 0000:17:00.0, nor a GPU's name"),
        (["0000:ff:00.0", "gpu1"], "no PCI function 0000:ff:00.0"),
        (["gpu1", "gpu1"], "are the same function"),
        (["gpu0"], "one end alone has no route: name two, as in `dmaproof route gpu0 gpu1`"),
        (["a", "b", "c"], "unexpected argument 'c'"),
    ],
)
def test_wrong_ends(arguments: list[str], complaint: str, straight: Path) -> None:
    assert complaint in dmaproof("route", *arguments, "--sysfs", straight).complaint


def test_wrong_places(tmp_path: Path) -> None:
    assert "no machine's root" in dmaproof("route", "--sysfs", tmp_path).complaint
    assert "No such file" in dmaproof("route", "--sysfs", tmp_path / "none.tar.gz").complaint
    (tmp_path / "empty").mkdir()
    MachineTree(tmp_path / "empty")
    assert "no pair to show" in dmaproof("route", "--sysfs", tmp_path / "empty").complaint


def test_a_command_line_cannot_command_the_terminal(redirected: Path) -> None:
    (redirected / "proc/cmdline").write_text(f"pci=disable_acs_redir={DOWN[0]}\x1b[31m\n")
    for arguments in (["gpu0", "gpu1"], []):
        said = dmaproof("route", *arguments, "--sysfs", redirected)
        assert "note: the kernel was started with pci=disable_acs_redir" in said.out
        assert "\x1b" not in said.out


def test_this_machine_saved_and_read_again(tmp_path: Path) -> None:
    """The real thing: whatever runs the tests is packed, and the archive answers in its place."""
    file = tmp_path / "here.tar.gz"
    said = dmaproof("doctor", "--save", file)
    assert said.status == 0, said.err
    assert said.out.startswith(f"saved {file}: ")
    here, there = (dmaproof("route", "--all", "--json", "--sysfs", where) for where in ("/", file))
    assert (here.status, here.out, here.err) == (there.status, there.out, there.err)
    rows = {row["subject"]: row for row in json.loads(dmaproof("doctor", "--archive", file, "--json").out)}
    assert rows["Machine"]["detail"].startswith("Linux version")
    assert [path.name for path in tmp_path.iterdir()] == ["here.tar.gz"]


def test_saving_a_saved_machine(straight: Path, tmp_path: Path) -> None:
    said = dmaproof("doctor", "--archive", straight, "--save", tmp_path / "again.tar.gz", "--json")
    told = json.loads(said.out)
    assert (told["functions"], said.status) == (10, 0)
    assert told["left_out"] == [one for one in told["left_out"] if one.startswith("kernel log")]


def test_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    assert "No such file or directory" in dmaproof("doctor", "--save", tmp_path / "no/where.tar.gz").complaint


def test_every_command_takes_the_archive(straight: Path, tmp_path: Path) -> None:
    """One file in place of the machine: its log is decoded, its GPUs are a rig, and the rig names addresses."""
    (straight / "dev").mkdir()
    fault = (
        "DMAR: [DMA Write NO_PASID] Request device [19:00.0] fault addr 0xf8139000 [fault reason 0x05] PTE Write access"
    )
    (straight / "dev/kmsg").write_text(f"3,1,100,-;{fault} is not set\n")
    resource = "0x00000000f8000000 0x00000000f8ffffff 0x0000000000040200\n"
    (straight / "sys/bus/pci/devices" / GPUS[1] / "resource").write_text(resource)
    file = tmp_path / "bench.tar.gz"
    save(straight, file, "0")
    said = dmaproof("decode", "--json", file)
    assert (said.status, said.err) == (1, "")
    assert json.loads(said.out)["address"] == 0xF8139000
    rig = json.loads(dmaproof("rigs", "--json", file).out)
    assert rig["name"] == "saved"
    assert rig["node"]["host"]["gpu"]["gpu1"]["bars"] == [{"index": 0, "address": 0xF8000000, "nbytes": 1 << 24}]


def test_an_archive_without_a_log(straight: Path, tmp_path: Path) -> None:
    save(straight, tmp_path / "bench.tar.gz", "0")
    file = tmp_path / "bench.tar.gz"
    for arguments in (["decode"], ["triage"], ["triage", "--archive"]):
        assert f"cannot read {file}: there is no kernel log in it" in dmaproof(*arguments, file).complaint


@pytest.mark.parametrize("word", ["host", "auto"])
def test_names_of_the_rig_that_this_machine_is(word: str, straight: Path) -> None:
    said = dmaproof("route", "--sysfs", straight, "--rig", word, "gpuX", "gpu1").complaint
    assert "'gpuX' is neither a PCI address" in said


def test_the_worked_example_is_what_the_command_prints(tmp_path: Path) -> None:
    tree = machine(tmp_path / "bench", acs=WANTED)
    tree.group(12, "DMA-FQ", GPUS[1])
    save(tree.root, tmp_path / "bench.tar.gz", "0")
    page = (Path(__file__).parents[2] / "docs/routes.md").read_text()
    examples = re.findall(r"^```console\n\$ dmaproof (.*)\n([^`]*)```$", page, re.MULTILINE)
    assert len(examples) == 2
    for command, printed in examples:
        assert dmaproof(*command.split(), cwd=tmp_path).out == printed
