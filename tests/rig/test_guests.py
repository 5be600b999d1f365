"""What a rig may claim of guests."""

from __future__ import annotations

import re

import pytest

from dmaproof.errors import RigError
from dmaproof.rig import guests, load

HEAD = 'extends = "lab:vtd"\nname = "mine"\nkind = "lab"\n[node.one]\nrole = "guest"\n'
EDU = 'kind = "edu"\nbdf = "01:00.0"\nport = "00:10.0"\n'


def test_a_guest_is_a_node_with_its_hosts_functions() -> None:
    rig = load.parse(f'{HEAD}guest = {{ on = "host" }}\n[node.one.endpoint.edu0]\n{EDU}', "mine.toml")
    assert rig.first.name == "host"
    assert [one.name for one in rig.nodes] == ["host", "one"]
    assert load.parse(load.dump(rig), "again") == rig


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('guest = { on = "hots" }', "node.one.guest.on = 'hots' is no node of this rig: did you mean 'host'?"),
        ('guest = { on = "one" }', "node.one.guest.on = 'one' is a guest itself"),
        (f'guest.on = "host"\n[node.one.endpoint.edu7]\n{EDU}', "endpoint.edu7: host has none of that name to assign"),
        (f'guest.on = "host"\n[node.one.endpoint.itd0]\n{EDU}', "endpoint.itd0.kind = 'edu': on host it is"),
        ('guest = { on = "host", no_mmap = ["edu0"] }', "guest.no_mmap: no edu0"),
        ('guest = { on = "host", backend = "type2" }', "guest.backend"),
        ('guest = { on = "host" }\nqemu = { no_acs = ["00:05.0"] }', "no_acs"),
    ],
)
def test_what_cannot_be_is_refused(body: str, told: str) -> None:
    with pytest.raises(RigError) as caught:
        load.parse(f"{HEAD}{body}\n", "mine.toml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_with_a_guest_table_is_called_a_guest() -> None:
    with pytest.raises(RigError, match="a node with a guest table has role 'guest'"):
        load.parse(f'{HEAD}guest = {{ on = "host" }}\n'.replace('role = "guest"\n', ""), "mine.toml")


DISK = '{ path = "/d.img", format = "raw", key = "/k" }'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('guest = { on = "host", fill = "image" }', "node.one.guest.disk is missing: fill = 'image' boots from one"),
        (f'guest = {{ on = "host", disk = {DISK} }}', "node.one.guest.disk: only fill = 'image' boots from a disk"),
        ('guest = { on = "host", fill = "image", disk = { path = "/d", key = "/k" } }', "guest.disk.format"),
        (f'guest = {{ on = "host", fill = "image", disk = {DISK} }}\nqemu.kernel = "stock"', "node.one.qemu.kernel = "
         "'stock': the image's boot loader starts its own"),
        (f'guest = {{ on = "host", fill = "image", disk = {DISK} }}\nparameters = ["a=b"]', "node.one.parameters: the "
         "image's boot loader has the kernel's words: add 'a=b' on the image"),
        (f'guest = {{ on = "host", fill = "image", disk = {DISK[:-2]}, user = "-oX" }} }}', "'-oX' is no name"),
        (f'guest = {{ on = "host", fill = "image", disk = {DISK[:-2]}, python = "python3" }} }}', "'python3' is no"),
        (f'guest = {{ on = "host", fill = "image", disk = {DISK[:-2]}, port = 0 }} }}', "guest.disk.port = 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_of_a_disk_image_is_refused(body: str, told: str) -> None:
    with pytest.raises(RigError) as caught:
        load.parse(f"{HEAD}{body}\n", "mine.toml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_guest_with_a_disk_image_is_written_down_and_read_again() -> None:
    rig = load.parse(f'{HEAD}guest = {{ on = "host", fill = "image", disk = {DISK} }}\n', "mine.toml")
    guest = rig.node["one"].guest
    assert guest is not None
    assert guest.disk is not None
    assert (guest.disk.user, guest.disk.port, guest.disk.python) == ("root", 22, "/usr/bin/python3")
    assert load.parse(load.dump(rig), "again") == rig


HOST_WITH_GPUS = """
name = "mine"
kind = "host"
[node.host.gpu.gpu0]
bdf = "17:00.0"
[node.host.gpu.gpu1]
bdf = "65:00.0"
[node.one]
role = "guest"
guest = { on = "host", no_mmap = ["gpu1"] }
[node.one.gpu.gpu1]
bdf = "01:00.0"
port = "00:10.0"
clique = 3
[node.one.gpu.gpu0]
bdf = "02:00.0"
port = "00:11.0"
"""


def test_a_guest_is_given_gpus_as_it_is_given_endpoints() -> None:
    rig = load.parse(HOST_WITH_GPUS, "mine.toml")
    assert [(one.name, one.bdf, there) for one, there in guests.assigned(rig, rig.node["one"])] == [
        ("gpu1", "0000:01:00.0", "0000:65:00.0"),
        ("gpu0", "0000:02:00.0", "0000:17:00.0"),
    ]
    assert list(guests.assigned(rig, rig.node["host"])) == []


@pytest.mark.parametrize(
    ("was", "claim", "told"),
    [
        ('port = "00:10.0"\n', "", "node.one.gpu.gpu1.port is missing: name the port that is to be above it, such as"),
        ('"02:00.0"', '"03:00.0"', "node.one.gpu.gpu0.bdf = '0000:03:00.0': the bus behind 0000:00:11.0 gets"),
        ('port = "00:11.0"', 'port = "00:10.0"', "gpu1 and gpu0 are both under 0000:00:10.0, but a port has one link"),
        ("one.gpu.gpu0", "one.gpu.gpu7", "node.one.gpu.gpu7: host has none of that name to assign"),
        ('["gpu1"]', '["gpu2"]', "node.one.guest.no_mmap: did you mean 'gpu1'?"),
        ("clique = 3", "clique = 16", "gpu1.clique = 16: "),
        ("clique = 3", "numa_node = -1", "gpu1.numa_node = -1: nodes are 0 to 127; leave it out for none"),
        ("no_mmap", "hugepage_nbytes = 4096, no_mmap", "guest.hugepage_nbytes = 4096: no size of huge pages: it is"),
        ("no_mmap", "hugepage_nbytes = 3000000, no_mmap", "guest.hugepage_nbytes = 3000000: no size of huge pages"),
        ("no_mmap", "numa_node = -1, no_mmap", "guest.numa_node = -1: "),
    ],
)
def test_what_cannot_be_with_gpus_is_refused(was: str, claim: str, told: str) -> None:
    assert was in HOST_WITH_GPUS
    with pytest.raises(RigError) as caught:
        load.parse(HOST_WITH_GPUS.replace(was, claim), "mine.toml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("memory_nbytes", "numa_node", "told"),
    [
        (1 << 30, 0, None),
        (1 << 29, 0, "node.one.guest.hugepage_nbytes = 1073741824: qemu.memory_nbytes = 536870912 is no multiple, "
         "1073741824 is"),
        (1 << 30, 1, "node.one.qemu.memory_nbytes = 1073741824: 2 NUMA nodes of such pages take 2147483648 at least"),
        (2 << 30, 1, None),
    ],
)  # fmt: skip
def test_memory_is_a_number_of_its_pages(memory_nbytes: int, numa_node: int, told: str | None) -> None:
    place = 'bdf = "42:00.0"\nport = "41:00.0"' if numa_node else EDU.partition("\n")[2]
    text = f"""{HEAD}guest = {{ on = "host", hugepage_nbytes = 0x40000000 }}
qemu.memory_nbytes = {memory_nbytes}
[node.one.endpoint.edu0]
kind = "edu"
{place}
{f"numa_node = {numa_node}" if numa_node else ""}
"""
    if told is None:
        load.parse(text, "mine.toml")
    else:
        with pytest.raises(RigError, match=re.escape(told)):
            load.parse(text, "mine.toml")
