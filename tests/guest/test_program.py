"""Which QEMU is taken: by what it says it has."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import capability, program, store

QEMU = """#!{python}
import json, sys
has = json.loads({has!r})
print(json.dumps({{"QMP": {{"version": {{"qemu": {{"major": 10, "minor": 0, "micro": 2}}}}}}}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["execute"] == "device-list-properties":
        model = asked["arguments"]["typename"]
        found = has.get(model)
        error = {{"error": {{"class": "DeviceNotFound", "desc": "Device '%s' not found" % model}}}}
        answer = error if found is None else {{"return": [{{"name": one, "type": "bool"}} for one in found]}}
    else:
        answer = {{"return": {{}}}}
    print(json.dumps({{"event": "NOISE"}}))
    print(json.dumps(answer), flush=True)
"""


def stand_in(path: Path, has: dict[str, list[str]]) -> Path:
    """A program that speaks QMP as QEMU does (docs/interop/qmp-spec.rst), and has these models and properties."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(QEMU.format(python=sys.executable, has=json.dumps(has)))
    path.chmod(0o755)
    return path


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """The folder of the system's programs, empty."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_the_systems_own_is_taken_where_it_has_all_that_is_asked(system: Path) -> None:
    qemu = stand_in(system / "qemu-system-x86_64", {"edu": ["dma_mask"], "intel-iommu": []})
    found = program.choose(program.AUTO, "x86_64", ["edu", "edu.dma_mask", "intel-iommu"])
    assert (found.argv, found.version, found.folder) == ((str(qemu),), "10.0.2", None)


def test_what_it_lacks_is_named_with_the_command_that_supplies_it(system: Path) -> None:
    qemu = stand_in(system / "qemu-system-x86_64", {"amd-iommu": ["intremap"]})
    with pytest.raises(UsageError) as caught:
        program.choose(program.AUTO, "x86_64", ["amd-iommu", "amd-iommu.dma-remap", "iommu-testdev"])
    assert f"{qemu} (10.0.2) has no amd-iommu.dma-remap, iommu-testdev: run `dmaproof lab qemu`" in str(caught.value)


def test_the_one_in_the_cache_comes_second(system: Path, cache: Path) -> None:
    stand_in(system / "qemu-system-aarch64", {"edu": []})
    newer = stand_in(cache / "qemu/aarch64-11.1/programs/qemu-system-aarch64", {"edu": [], "arm-smmuv3": []})
    stand_in(cache / "qemu/partial-aarch64-12/programs/qemu-system-aarch64", {"edu": [], "arm-smmuv3": []})
    assert program.choose(program.AUTO, "aarch64", ["edu"]).folder is None
    found = program.choose(program.AUTO, "aarch64", ["arm-smmuv3"])
    assert (found.argv, found.folder) == ((str(newer),), newer.parent)
    with pytest.raises(UsageError, match=r"no more: run `dmaproof lab qemu --arch aarch64`"):
        program.choose(program.AUTO, "aarch64", ["no more"])


def test_that_of_a_suite_is_kept_apart_from_the_newest(system: Path, cache: Path) -> None:
    newest = stand_in(cache / "qemu/x86_64-11.1/programs/qemu-system-x86_64", {"edu": []})
    older = stand_in(cache / "qemu-trixie/x86_64-10.0/programs/qemu-system-x86_64", {"edu": []})
    assert program.choose("trixie", "x86_64", ["edu"]).argv == (str(older),)
    assert program.choose(program.AUTO, "x86_64", ["edu"]).argv == (str(newest),)
    way_out = "no qemu-system-x86_64 of bookworm unpacked yet: run `dmaproof lab qemu --suite bookworm`"
    with pytest.raises(UsageError, match=way_out):
        program.choose("bookworm", "x86_64", ["edu"])


def test_a_build_of_ones_own_is_taken_by_its_path(system: Path, tmp_path: Path) -> None:
    built = stand_in(tmp_path / "build" / "qemu-system-x86_64", {"edu": []})
    assert program.choose(str(built), "x86_64", ["edu"]).argv == (str(built),)
    with pytest.raises(UsageError, match=r"has no igb: name another"):
        program.choose(str(built), "x86_64", ["igb"])
    with pytest.raises(UsageError, match=r"nowhere/qemu does not run: .*: name another"):
        program.choose(str(tmp_path / "nowhere/qemu"), "x86_64", [])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "#!/bin/sh\necho 'libfdt.so.1: cannot open' >&2\nexit 127\n",
            "does not answer by QMP: libfdt.so.1: cannot open",
        ),
        ("#!/bin/sh\nexit 1\n", "does not answer by QMP: exit status 1"),
        ("#!/nonexistent\n", "does not run: "),
        ("#!/bin/sh\necho nonsense\n", "does not answer by QMP"),
    ],
)
def test_a_broken_one_is_named_with_the_reason(script: str, reason: str, system: Path) -> None:
    system.mkdir()
    (system / "qemu-system-x86_64").write_text(script)
    (system / "qemu-system-x86_64").chmod(0o755)
    with pytest.raises(UsageError, match="qemu-system-x86_64") as caught:
        program.choose(program.AUTO, "x86_64", ["edu"])
    assert reason in str(caught.value)


def test_none_at_all(system: Path) -> None:
    with pytest.raises(UsageError, match="no qemu-system-x86_64 on PATH: run `dmaproof lab qemu`"):
        program.choose(program.AUTO, "x86_64")


def test_what_arguments_need_is_their_models_and_properties() -> None:
    words = (
        "-machine q35 -device intel-iommu,intremap=on,device-iotlb=on -m 2G -device edu,bus=rp1,dma_mask=0xff,addr=0x1"
    )
    assert capability.needed([*words.split(), "-device", "edu,id=b"]) == (
        *("intel-iommu", "intel-iommu.intremap", "intel-iommu.device-iotlb"),
        *("edu", "edu.dma_mask"),
    )


def test_a_real_one_says_what_it_has() -> None:
    tree = store.newest("qemu", f"{platform.machine()}-*")
    name = f"qemu-system-{platform.machine()}"
    qemu = shutil.which(name) or (str(tree / "programs" / name) if tree else None)
    if qemu is None:
        pytest.skip("no QEMU here: dmaproof lab qemu")
    version, lacking = capability.ask(
        [qemu], ["edu", "edu.dma_mask", "edu.no-such", "no-such-device", "pcie-root-port"]
    )
    assert lacking == ("edu.no-such", "no-such-device")
    assert version.count(".") == 2
