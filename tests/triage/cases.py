"""Cases for triage, built from real kernel lines and from the facts that sources bring."""

from __future__ import annotations

import dataclasses

from dmaproof.evidence.decode import decode
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import (
    AddressingSeen,
    BarConflict,
    CounterStep,
    Fact,
    GpuHealth,
    KernelThread,
    LinkState,
    Measured,
    NvlinkState,
    PeerReadSeen,
    PeerWriteSeen,
    RouteSeen,
    Stage2Finding,
    Storm,
)
from dmaproof.rig import load
from dmaproof.rig.model import Rig
from dmaproof.triage.judge import judge
from dmaproof.triage.verdict import Case, Verdict

KINDS: dict[type[Fact], str] = {
    CounterStep: "counter-step",
    LinkState: "link-state",
    NvlinkState: "nvlink-state",
    GpuHealth: "gpu-health",
    AddressingSeen: "addressing",
    KernelThread: "kernel-thread",
    PeerWriteSeen: "peer-write",
    PeerReadSeen: "peer-read",
    Measured: "measured",
    RouteSeen: "route",
    BarConflict: "bar-conflict",
    Stage2Finding: "stage2-audit",
}
OWN, OTHER = 4711, 990
"""A process of the test's, and somebody else's."""


def seen(text: str, time_s: float = 1.0, count: int | None = None, node: str = "host") -> Evidence:
    """One event of the kernel log; ``text`` may be several lines, ``count`` makes a storm of it."""
    (event,) = decode([text.encode() + b"\n"])
    storm = None if count is None else Storm(count=count, first_s=time_s, last_s=time_s + 1)
    return Evidence(source="kmsg", node=node, time_s=time_s, kind=event.kind, text=event.text, event=event, fact=storm)


def xid(bdf: str, text: str, time_s: float = 1.0) -> Evidence:
    """``xid("0000:04:00.0", "79, GPU has fallen off the bus.")``."""
    return seen(f"NVRM: Xid (PCI:{bdf.rpartition('.')[0]}): {text}", time_s)


def nvml(bdf: str, number: int, time_s: float = 1.1) -> Evidence:
    """The same Xid as NVML tells it."""
    text = f"NVML: Xid {number} on {bdf}"
    data = {"bdf": bdf, "event_type": "xid", "event_data": number}
    return Evidence(source="nvml", node="host", time_s=time_s, kind="xid-event", text=text, data=data)


def fact(one: Fact, time_s: float = 2.0) -> Evidence:
    return Evidence(source="test", node="host", time_s=time_s, kind=KINDS[type(one)], text=f"{one}", fact=one)


def observed(kind: str, time_s: float = 2.0, **data: object) -> Evidence:
    return Evidence(source="test", node="host", time_s=time_s, kind=kind, text=f"{kind} {data}", data=data)


HANG = observed("hang", ended="SIGKILL")
UNKILLABLE = observed("hang", ended="unkillable")


def case(rig: str | Rig, *evidence: Evidence, **more: object) -> Case:
    """A test that uses every GPU of ``rig`` and failed with ``evidence`` in its window."""
    declared = load.load(rig) if isinstance(rig, str) else rig
    node = declared.nodes[0]
    given = Case(
        test="t",
        error="e",
        rig=declared,
        node=node,
        endpoints=tuple(gpu.bdf for gpu in node.gpus),
        evidence=evidence,
        pids=frozenset({OWN}),
    )
    return dataclasses.replace(given, **more)  # type: ignore[arg-type]


def named(one: Case) -> list[tuple[str, str]]:
    return [(verdict.signature, verdict.confidence) for verdict in judge(one)]


def only(one: Case) -> Verdict:
    (verdict,) = judge(one)
    return verdict


def rate(source: str, target: str, value: float, declared: float | None, *, peer: bool | None = None) -> Evidence:
    return fact(
        Measured(
            name="bandwidth_GBps", unit="GB/s", value=value, source=source, target=target, engine="ce", peer=peer,
            direction="one", declared=declared,
        )
    )  # fmt: skip


def wrote(writer: str, owner: str, *, wrong: int, old: int, writer_wrong: int | None, nwords: int = 256) -> Evidence:
    return fact(
        PeerWriteSeen(
            writer=writer, owner=owner, engine="sm", nbytes=8 * nwords, nwords=nwords, wrong_words=wrong,
            old_words=old, writer_wrong_words=writer_wrong,
        )
    )  # fmt: skip


def stack(state: str, wchan: str, tid: int = OWN) -> Evidence:
    return observed("stack", tid=tid, comm="python3", state=state, wchan=wchan, stack="")
