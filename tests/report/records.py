"""Records of runs that never were, built from the real line classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dmaproof.report.record import (
    AnyLine,
    DeviceLine,
    EvidenceLine,
    JudgementLine,
    MeasurementLine,
    RigLine,
    RunLine,
    TestLine,
    VerdictLine,
)
from dmaproof.report.stream import RecordWriter
from dmaproof.rig.load import load, parse
from dmaproof.rig.model import Rig

START = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
HOSTILE = (
    "</script><b>bold</b> <!-- ]]> \x00\x07\x1b[31m\x7f\x9b \u202eevil\u2066 \udcff \ufffe & ' \" {{ 7*7 }} {% raw %}"
)

Unit = list[AnyLine]


def start(rig: Rig, planted: Sequence[str] = ()) -> RunLine:
    return RunLine(
        event="start",
        run=f"{START:%Y-%m-%dT%H-%M-%SZ}-{rig.id.replace(':', '-')}",
        time=START.isoformat().replace("+00:00", "Z"),
        rig=rig.id,
        rig_kind=rig.kind,
        dmaproof="0.1.0",
        command=("pytest", "suites", f"--rig={rig.id}", *(f"--plant={one}" for one in planted)),
        kernel="6.12.57-generic",
        driver="580.95.05",
        planted=tuple(planted),
    )


def end(rig: Rig, seconds: float = 83.4, exit_status: int = 0) -> RunLine:
    time = (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return start(rig).model_copy(update={"event": "end", "time": time, "exit_status": exit_status})


def measured(test: str, name: str, unit: str, median: float, **more: object) -> MeasurementLine:
    return MeasurementLine.model_validate(
        {
            "test": test,
            "node": "host",
            "name": name,
            "unit": unit,
            "median": median,
            "spread": median / 500,
            "count": 3,
            "samples": (median, median * 0.999, median * 1.001),
            "method": "64 MiB x 16 copies, events",
            **more,
        }
    )


def passed(
    id_: str, rig: Rig, *names: str, duration_s: float = 0.031, outcome: str = "passed", message: str = ""
) -> TestLine:
    gpus = rig.node["host"].gpu
    return TestLine.model_validate(
        {
            "id": id_,
            "outcome": outcome,
            "duration_s": duration_s,
            "message": message,
            "suite": id_.split("/")[1],
            "node": "host",
            "endpoints": tuple(gpus[name].bdf for name in names if name in gpus),
        }
    )


def jitter(source: str, target: str) -> float:
    """A few thousandths that depend on the pair alone, so that figures are not all alike."""
    return 1 + (hash_of(source) * 7 + hash_of(target) * 13) % 11 / 3000


def hash_of(name: str) -> int:
    return sum(map(ord, name))


def pairs(rig: Rig) -> Iterator[tuple[str, str]]:
    names = list(rig.node["host"].gpu)
    return ((one, other) for one in names for other in names if one != other)


def bandwidth(rig: Rig, source: str, target: str, path: str, rate: float, **more: object) -> Unit:
    peer, direction = bool(more.get("peer", True)), str(more.get("direction", "one"))
    way = f"{path}-{'on' if peer else 'off'}-{direction}"
    id_ = f"suites/p2p/test_bandwidth.py::test_peer_copy_bandwidth[host-{source}-{target}-{way}]"
    line = measured(
        id_,
        "bandwidth_GBps",
        "GB/s",
        rate * jitter(source, target),
        source=source,
        target=target,
        path=path,
        **{"peer": peer, "direction": direction},
    )
    return [line, passed(id_, rig, source, target, duration_s=0.03 * jitter(source, target))]


def latency(rig: Rig, source: str, target: str, ns: float) -> Unit:
    id_ = f"suites/p2p/test_latency.py::test_peer_read_latency[host-{source}-{target}-sm]"
    more = {"source": source, "target": target, "path": "sm", "peer": True, "direction": "one"}
    line = measured(id_, "latency_ns", "ns", ns * jitter(target, source), method="pointer chase, 2 MiB", **more)
    return [line, passed(id_, rig, source, target)]


def host_copies(rig: Rig, name: str) -> Iterator[Unit]:
    for source, target in (("host", name), (name, "host")):
        id_ = f"suites/p2p/test_host_copy.py::test_host_copy_bandwidth[host-{source}-{target}]"
        line = measured(id_, "bandwidth_GBps", "GB/s", 55.3, source=source, target=target, path="ce", direction="one")
        yield [line, passed(id_, rig, name)]
    id_ = f"suites/uvm/test_managed.py::test_prefetch[host-{name}]"
    more = {"source": "host", "target": name, "method": "cuMemPrefetchAsync, 256 MiB"}
    yield [measured(id_, "bandwidth_GBps", "GB/s", 48.1, **more), passed(id_, rig, name)]
    id_ = f"suites/uvm/test_managed.py::test_ping_pong[host-{name}]"
    more = {"source": "host", "target": name, "method": "fault per page, 4 KiB x 512"}
    yield [measured(id_, "latency_ns", "ns", 21300, **more), passed(id_, rig, name)]


def skipped(rig: Rig) -> Iterator[Unit]:
    for name in rig.node["host"].gpu:
        id_ = f"suites/uvm/test_system.py::test_ats_write[host-{name}]"
        yield [passed(id_, rig, name, outcome="skipped", message="the rig declares no ATS (addressing = hmm)")]
    id_ = "suites/vfio/test_guest.py::test_peer_in_guest"
    yield [passed(id_, rig, outcome="skipped", message="the rig declares no guest")]


def opening(rig: Rig, planted: Sequence[str] = ()) -> Unit:
    spot = EvidenceLine(
        test=None,
        source="iommu",
        node="host",
        time_s=100.0,
        what="blind-spot",
        text="config space beyond 64 bytes is unreadable without CAP_SYS_ADMIN: ACS and ATS state unknown",
    )
    return [start(rig, planted), RigLine(declared=rig.model_dump(mode="json")), spot]


def healthy(rig: Rig) -> list[Unit]:
    """A run in which all passed, with five matrices of figures."""
    units = [opening(rig)]
    for source, target in pairs(rig):
        for path, rate in (("ce", 396.8), ("sm", 371.2)):
            units.append(bandwidth(rig, source, target, path, rate))
        units.append(bandwidth(rig, source, target, "ce", 741.0, direction="both"))
        units.append(bandwidth(rig, source, target, "ce", 41.7, peer=False))
        units.append(latency(rig, source, target, 826))
    for name in rig.node["host"].gpu:
        units.extend(host_copies(rig, name))
    return [*units, *skipped(rig), [end(rig)]]


def mailbox(rig: Rig, source: str, target: str, at: float) -> Unit:
    """A peer copy that the IOMMU blocked."""
    id_ = f"suites/p2p/test_bandwidth.py::test_peer_copy_bandwidth[host-{source}-{target}-ce-on-one]"
    ends = rig.node["host"].gpu
    address = ends[target].bars[0].address + 0x139000
    fault = (
        f"DMAR: [DMA Write NO_PASID] Request device [{ends[source].bdf[5:]}] fault addr {address:#x} "
        "[fault reason 0x05] PTE Write access is not set"
    )
    hang = f"worker 4711 did not finish copy_bandwidth within 3.0 s; last note: allocation 64 MiB on {source}"
    return [
        EvidenceLine(
            test=id_,
            source="kmsg",
            node="host",
            time_s=at,
            what="kernel-line",
            text="pcieport 0000:00:02.0: AER: enabled",
        ),
        EvidenceLine(test=id_, source="kmsg", node="host", time_s=at + 0.0431, what="iommu-fault", text=fault),
        EvidenceLine(test=id_, source="node", node="host", time_s=at + 3.0002, what="hang", text=hang),
        VerdictLine(
            test=id_,
            signature="iommu-blocks-p2p-mailbox",
            confidence="certain",
            summary=f"{source} ({ends[source].bdf}) wrote to the mailbox in BAR0 of {target} "
            f"({ends[target].bdf}) at {address:#x}, and the IOMMU blocked it",
            evidence=(fault, hang),
            blind_spots=("VT-d suppresses faults after the first burst: how many writes were lost is not known",),
            remedy="Boot with iommu=pt (or intel_iommu=off), so that peers reach each other by bus address",
            references=("https://bugzilla.kernel.org/show_bug.cgi?id=188271", "vfio-users 2017-10"),
        ),
        DeviceLine(test=id_, bdf=ends[source].bdf, state="fit", reason="probe copied and verified 1 MiB in 12 ms"),
        passed(
            id_,
            rig,
            source,
            target,
            outcome="failed",
            duration_s=3.21,
            message=f"Hang: {hang}\nverdict: iommu-blocks-p2p-mailbox (certain)",
        ),
    ]


def failing(rig: Rig) -> list[Unit]:
    """A run on a rig with a planted defect: one row of pairs blocked, a lost GPU, a slow pair, one without verdict."""
    units = [opening(rig, ["iommu-blocks-p2p-mailbox", "gpu-lost"])]
    names = list(rig.node["host"].gpu)
    for at, (source, target) in enumerate(pairs(rig)):
        if source == names[-2]:
            units.append(mailbox(rig, source, target, 200.0 + 4 * at))
        elif names[-1] not in (source, target):
            slow = (source, target) == (names[0], names[1])
            units.append(bandwidth(rig, source, target, "ce", 211.4 if slow else 396.8))
            units.append(latency(rig, source, target, 1630 if slow else 826))
        elif target == names[-1]:
            id_ = f"suites/p2p/test_bandwidth.py::test_peer_copy_bandwidth[host-{source}-{target}-ce-on-one]"
            message = f"{rig.node['host'].gpu[target].bdf} is poisoned: its probe failed"
            units.append([passed(id_, rig, source, target, outcome="skipped", message=message)])
    units.append(lost(rig, names[-1]))
    units.append(
        [
            passed(
                "suites/topology/test_links.py::test_link[gpu0]",
                rig,
                "gpu0",
                outcome="error",
                message="RuntimeError: nvml went away",
            )
        ]
    )
    for name in names[:-1]:
        units.extend(host_copies(rig, name))
    return [*units, *skipped(rig), [end(rig, 131.9, 1)]]


def lost(rig: Rig, name: str) -> Unit:
    bdf = rig.node["host"].gpu[name].bdf
    id_ = f"suites/p2p/test_host_copy.py::test_host_copy_bandwidth[host-host-{name}]"
    xid = f"NVRM: Xid (PCI:{bdf[:-2]}): 79, GPU has fallen off the bus."
    space = f"config space of {bdf} reads all ones"
    return [
        EvidenceLine(test=id_, source="kmsg", node="host", time_s=500.1, what="xid", text=xid),
        EvidenceLine(test=id_, source="pci", node="host", time_s=500.4, what="config-space", text=space),
        VerdictLine(
            test=id_,
            signature="gpu-lost",
            confidence="probable",
            summary=f"{name} ({bdf}) fell off the bus",
            evidence=(xid, space),
            blind_spots=("the root port's AER registers are unreadable: what went wrong on the link is not known",),
            remedy="Power-cycle the machine; if it comes back, reseat or replace the GPU",
        ),
        DeviceLine(test=id_, bdf=bdf, state="poisoned", reason="probe failed: CUDA_ERROR_NO_DEVICE (100)"),
        passed(
            id_,
            rig,
            name,
            outcome="failed",
            duration_s=0.8,
            message="CudaError: cuMemcpyHtoDAsync failed: CUDA_ERROR_UNKNOWN (999)",
        ),
    ]


def hostile(rig: Rig) -> list[Unit]:
    """A run whose every text is out to break a report."""
    id_ = f"suites/p2p/test_x.py::test_x[{HOSTILE}]"
    more = {
        "source": HOSTILE,
        "target": f"2{HOSTILE}",
        "path": HOSTILE,
        "peer": True,
        "direction": "one",
        "node": HOSTILE,
    }
    return [
        [
            start(rig).model_copy(
                update=dict.fromkeys(("kernel", "driver", "note", "rig_kind", "rig", "run"), HOSTILE)
                | {"planted": (HOSTILE,), "command": (HOSTILE,)}
            ),
            RigLine(declared={HOSTILE: HOSTILE}),
        ],
        [
            measured(id_, HOSTILE, HOSTILE, float("nan"), method=HOSTILE, **more),
            measured(id_, "bandwidth_GBps", "GB/s", float("inf"), method=HOSTILE, **more),
            measured(id_, "latency_ns", "ns", 0.0, **more),
            EvidenceLine(
                test=id_,
                source=HOSTILE,
                node=HOSTILE,
                time_s=float("inf"),
                what=HOSTILE,
                text=HOSTILE,
                data={HOSTILE: b"\xff"},
            ),
            EvidenceLine(test=None, source=HOSTILE, node=HOSTILE, time_s=1, what="blind-spot", text=HOSTILE),
            VerdictLine(
                test=id_,
                signature=HOSTILE,
                confidence=HOSTILE,
                summary=HOSTILE,
                evidence=(HOSTILE, "x" * 20000),
                blind_spots=(HOSTILE,),
                remedy=HOSTILE,
                references=("javascript:alert(1)", f"https://example.org/{HOSTILE}"),
            ),
            JudgementLine(
                test=id_,
                node=HOSTILE,
                name=HOSTILE,
                unit=HOSTILE,
                value=float("nan"),
                source=HOSTILE,
                target=HOSTILE,
                by="peers",
                standing="low",
                certain=True,
                against=float("inf"),
                bound=0.0,
                share=float("nan"),
                among=56,
                topology=HOSTILE,
                reason=HOSTILE,
                text=HOSTILE,
                looked_at=(HOSTILE,),
            ),
            DeviceLine(test=id_, bdf=HOSTILE, state="poisoned", reason=HOSTILE),
            TestLine(
                id=id_,
                outcome="failed",
                duration_s=1,
                message=HOSTILE,
                suite=HOSTILE,
                node=HOSTILE,
                endpoints=(HOSTILE,),
            ),
            TestLine(id=HOSTILE, outcome="skipped", duration_s=0, message=HOSTILE),
        ],
        [end(rig)],
    ]


def hgx() -> Rig:
    return load("virtual:hgx-h100")


def wide(gpus: int = 72) -> Rig:
    """A rig of ``gpus`` GPUs in one NVLink domain."""
    tables = "\n".join(f'[node.host.gpu.gpu{at}]\nbdf = "{at // 4:04x}:{at % 4 + 1:02x}:00.0"' for at in range(gpus))
    paths = 'path = [{source = "gpu*", target = "gpu*", kind = "nvlink", bandwidth_GBps = 770.0, peer = true}]'
    return parse(f'name = "nvl{gpus}"\nkind = "virtual"\n[node.host]\n{paths}\n{tables}', "wide")


def write(path: Path, units: Sequence[Sequence[AnyLine]]) -> Path:
    with RecordWriter(path) as writer:
        for unit in units:
            writer.write(unit)
    return path
