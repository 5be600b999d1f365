"""Nothing is named on healthy evidence, whatever values it has."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import (
    AddressingSeen,
    CounterStep,
    GpuHealth,
    KernelThread,
    LinkState,
    NvlinkState,
    RouteSeen,
)
from tests.triage.cases import HANG, OTHER, case, fact, named, observed, rate, seen, stack, wrote, xid
from tests.triage.rigs import BAR0, GPUS, PORTS, box
from tests.triage.symptoms import steps, vtd

RIGS = (box(), box("ats", "smmuv3"), box(peers="nvlink"))
GPU = st.integers(0, 3)
NOISE = (
    "net_ratelimit: 40 callbacks suppressed",
    "INFO: task jbd2/sda1-8:333 blocked for more than 120 seconds.",
    "pcieport 0000:00:1d.0: AER: Correctable error message received from 0000:05:00.0",
    "nvme 0000:05:00.0: not ready 1023ms after FLR; giving up",
)


def other_process(n: int) -> Evidence:
    return xid(GPUS[n], f"13, pid={OTHER}, name=train, Graphics SM Warp Exception on (GPC 1, TPC 1, SM 0): Trap")


def killed(n: int) -> Evidence:
    """What ending a process leaves: its channels are removed, for no other cause."""
    return xid(GPUS[n], "45, pid=4711, name=python3, Ch 00000008")


HEALTHY = st.one_of(
    st.builds(
        lambda n, generation: fact(
            LinkState(
                bdf=GPUS[n], port=PORTS[n], generation=generation, width=16, offered_generation=4, offered_width=16
            )
        ),
        GPU,
        st.one_of(st.none(), st.integers(1, 4)),
    ),
    st.builds(lambda n: fact(NvlinkState(bdf=GPUS[n], active=12, declared=12)), GPU),
    st.builds(lambda n, up: fact(NvlinkState(bdf=GPUS[n], active=up, declared=None)), GPU, st.integers(0, 12)),
    st.builds(
        lambda n, action, pending, ecc: fact(
            GpuHealth(
                bdf=GPUS[n], recovery_action=action, remap_pending=pending, remap_failed=pending, ecc_uncorrectable=ecc
            )
        ),
        GPU,
        st.sampled_from(["none", None]),
        st.sampled_from([False, None]),
        st.sampled_from([0, None]),
    ),
    st.builds(
        lambda n, counter, step: fact(CounterStep(bdf=GPUS[n], counter=counter, before=7, after=7 + step)),
        GPU,
        st.sampled_from(["aer-correctable", "pcie-replay", "nvlink-crc", "nvlink-replay", "ecc-correctable"]),
        st.integers(1, 9),
    ),
    st.builds(
        lambda comm, cpu: fact(KernelThread(pid=900, comm=comm, state="S", wchan="_main_loop", cpu_s=cpu, apart_s=1.0)),
        st.sampled_from(["UVM GPU1 BH", "UVM GPU2 KC"]),
        st.floats(0, 0.5),
    ),
    st.builds(lambda n, extra: rate("host", GPUS[n], 26.0 * extra, 26.0), GPU, st.floats(0.91, 1.2)),
    st.builds(
        lambda n, extra, on: rate(GPUS[n], GPUS[n ^ 1], 20.0 * extra, 20.0, peer=on),
        GPU,
        st.floats(0.91, 1.01),
        st.booleans(),
    ),
    st.builds(
        lambda n, acs: fact(
            RouteSeen(
                provider=GPUS[n], client=GPUS[n ^ 1], outcome="host-bridge", distance=None, decided_by=None, acs=acs
            )
        ),
        GPU,
        st.sampled_from([(), ("RR", "CR")]),
    ),
    st.builds(lambda n: wrote(GPUS[n], GPUS[n ^ 1], wrong=0, old=0, writer_wrong=0), GPU),
    st.builds(lambda n: observed("config-space", bdf=GPUS[n], state="present"), GPU),
    st.builds(lambda n: observed("probe", bdf=GPUS[n], state="fit"), GPU),
    st.builds(lambda n: steps(n, faults=5, pages_in=9), GPU),
    st.builds(steps, GPU),
    st.builds(other_process, st.integers(0, 1)),  # elsewhere than the next, which would be its bystander
    st.builds(killed, st.integers(2, 3)),
    st.builds(lambda n: vtd(GPUS[n], BAR0 + (n << 24) + 0x139000), GPU),  # its own registers are no peer's
    st.builds(seen, st.sampled_from(NOISE)),
    st.sampled_from([HANG, stack("S", "futex_wait_queue"), stack("R", "0"), stack("D", "folio_wait_bit_common")]),
)


def counter(one: Evidence) -> object:
    """A counter's steps add up to a storm: it takes one."""
    return (one.fact.bdf, one.fact.counter) if isinstance(one.fact, CounterStep) else id(one)


@given(evidence=st.lists(HEALTHY, max_size=12, unique_by=counter), rig=st.sampled_from(RIGS))
@settings(max_examples=150, deadline=None)
def test_nothing_is_named(evidence: list[Evidence], rig: object) -> None:
    one = case(next(known for known in RIGS if known is rig), *evidence)
    assert {signature for signature, _ in named(one)} <= {"unattributed", "unattributed-hang"}


def test_ats_that_came_to_be_is_no_failure() -> None:
    line = seen("NVRM: GPU 0000:11:00.0: Enabling SMMU SVA feature failed! ret: -19")
    works = fact(AddressingSeen(bdf=GPUS[0], declared="ats", by_attributes="ats", by_nvml="ats"))
    assert named(case(RIGS[1], line, works)) == [("unattributed", "possible")]
    assert named(case(RIGS[1], works)) == [("unattributed", "possible")]
    assert named(case(RIGS[0], line)) == [("unattributed", "possible")]  # a rig that never claimed it
    assert named(case(RIGS[1], line)) == [("ats-setup-failed", "probable")]
