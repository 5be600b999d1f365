"""What a rig may claim of guests."""

from __future__ import annotations

import pytest

from dmaproof.errors import RigError
from dmaproof.rig import load

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
