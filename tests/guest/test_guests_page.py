"""The examples of docs/guests.md are what they claim to be."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from dmaproof.guest.memory import Pages, pages
from dmaproof.guest.topology import arguments
from dmaproof.rig import load
from dmaproof.rig.guests import assigned, lent
from dmaproof.rig.hardware import Disk
from dmaproof.rig.model import Rig

PAGE = Path(__file__).parents[2] / "docs/guests.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## On a GPU host")[2].partition("\n## ")[0]
IMAGE = PAGE.read_text(encoding="utf-8").partition("## A guest from a disk image")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"```toml\n(.*?)```", SECTION, flags=re.DOTALL)


def test_the_rig_of_two_gpus_is_one_and_gives_them_to_its_guest() -> None:
    rig = load.parse(EXAMPLES[0], "docs/guests.md")
    guest = rig.node["guest-iommufd"]
    assert [(one.bdf, there) for one, there in assigned(rig, guest)] == [
        ("0000:01:00.0", "0000:17:00.0"),
        ("0000:02:00.0", "0000:65:00.0"),
    ]
    said = " ".join(arguments(guest, lent(rig, guest)))
    assert said.count("x-nv-gpudirect-clique=0") == 2
    assert "hugetlbsize=1073741824,prealloc=on,host-nodes=0,policy=bind" in said
    assert "pci-hole64-size=320G" in said
    assert pages(guest) == Pages(1 << 30, 64, 0)


def test_the_ids_that_arguments_name_are_those_that_a_rig_has() -> None:
    """As the page says: the GPU is under port 0000:40:00.0."""
    words = [word for text in EXAMPLES[1:] for word in tomllib.loads(text)["arguments"]]
    table = load.expand(tomllib.loads(EXAMPLES[0]), "docs/guests.md")
    gpus = table["node"]["guest-iommufd"]["gpu"]
    gpus["gpu0"] |= {"bdf": "0000:41:00.0", "port": "0000:40:00.0"}
    gpus["gpu1"] |= {"bdf": "0000:01:00.0"}  # the first behind bus 0 now
    rig = Rig.model_validate(table)
    guest = rig.node["guest-iommufd"]
    said = " ".join(arguments(guest, lent(rig, guest)))
    named = re.findall(r"device\.([a-z0-9-]+)\.|pci-dev=([a-z0-9-]+)|targets\.0=([a-z0-9-]+)", " ".join(words))
    ids = {one for found in named for one in found if one}
    assert ids == {"root-40", "port-40-00", "endpoint-gpu0"}
    assert all(f"id={one}," in said for one in ids)


def test_every_key_of_the_tables_is_one_of_the_model() -> None:
    keys = set(re.findall(r"^\| `([a-z_]+)", SECTION, flags=re.MULTILINE))
    assert {"backend", "no_mmap", "hugepage_nbytes", "numa_node", "arguments", "clique", "port"} == keys


def test_the_rig_of_a_disk_image_says_all_that_can_be_said_of_one() -> None:
    whole, *others = re.findall(r"```toml\n(.*?)```", IMAGE, flags=re.DOTALL)
    guest = load.parse(whole, "docs/guests.md").node["guest-trixie"].guest
    assert guest is not None
    assert guest.disk is not None
    assert guest.disk.model_fields_set == Disk.model_fields.keys()
    assert all(tomllib.loads(one)["arguments"][0].startswith("-") for one in others)
