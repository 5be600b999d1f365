"""What the kernel driver says of kernels that give themselves up, and of those whose process is killed."""

from __future__ import annotations

import time
from dataclasses import asdict

from dmaproof.evidence.decode import decode
from dmaproof.virtual.wire import Kernel

GPU = "0000:04:00.0"


def tell(client, event: str) -> None:
    assert client.ask(asdict(Kernel(gpu=GPU, event=event))) == {}


def xids(node, log) -> list[tuple[int | None, int | None]]:
    """Number and pid of each Xid, as the project's own decoder reads the log."""
    time.sleep(0.2)  # a process that goes is noticed when its connection ends
    events = decode(f"{line}\n".encode() for line in log(node))
    return [(one.xid, one.pid) for one in events if one.kind == "xid"]


def test_a_trap_is_xid_43_of_its_own_process(boot, dial, log) -> None:
    node = boot("virtual:pcie-pair")
    tell(dial(node, pid=77, process="giver"), "traps")
    assert xids(node, log) == [(43, 77)]


def test_a_process_that_is_killed_in_its_kernel_leaves_xid_45(boot, dial, log) -> None:
    node = boot("virtual:pcie-pair")
    busy, idle, bystander = (dial(node, pid=pid, process="worker") for pid in (77, 78, 79))
    for client in (busy, bystander):
        tell(client, "begins")
    for event in ("begins", "ends"):
        tell(idle, event)
    idle.close()
    assert xids(node, log) == [], "its kernel had ended"
    busy.close()
    assert xids(node, log) == [(45, 77)]
    assert bystander.fault(GPU, space="managed")["effect"] == "served"
