"""What an audit could not see: a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dmaproof.guest.audit.bars import Function
from dmaproof.guest.audit.gaps import AMD_RESERVED, Limits
from dmaproof.guest.audit.pairing import Pairing
from dmaproof.guest.audit.parts import Wanted
from dmaproof.guest.audit.trace import Trace

_TYPE1 = (
    "type1: QEMU does not trace its map calls; what its listener was told of is taken as mapped, unless the log holds "
    "QEMU's own message of a failure, which it prints once a run (leave the trace on stderr: no -D)"
)
_NO_ERRNO = (
    "iommufd: QEMU traces that a map failed, not why (of a BAR it is EFAULT as a rule: the kernel pins none); the "
    "first one's errno is on QEMU's stderr"
)


def spots(
    trace: Trace,
    functions: Sequence[Function],
    pairing: Pairing,
    wanted: Sequence[Wanted],
    limits: Limits,
    tables_seen: bool,
) -> tuple[str, ...]:
    maps = _of_maps(trace, wanted, limits, tables_seen)
    found = (*_of_log(trace), *maps, *_of_devices(trace, functions, pairing))
    return tuple(dict.fromkeys(found))


def _of_log(trace: Trace) -> Iterator[str]:
    if trace.runs > 1:
        yield f"the log holds {trace.runs} runs of QEMU: the last one is judged"
    if trace.odd:
        yield f"{trace.odd} lines of events could not be read: cut, or mixed with others"
    if trace.cut:
        yield "the last line has no end and was left out: the log goes on"


def _of_maps(trace: Trace, wanted: Sequence[Wanted], limits: Limits, tables_seen: bool) -> Iterator[str]:
    state = trace.state
    if state.translated:
        names = ", ".join(sorted({entry.origin or "an IOMMU" for entry in state.translated}))
        yield (
            f"the guest has an IOMMU of its own that translates ({names}): its tables, not its addresses, say what is "
            "mapped, and BARs were not looked for"
        )
    if not state.ioases and not tables_seen:
        yield _TYPE1
        in_range = [one for one in wanted if AMD_RESERVED.overlap(one.range)]
        if in_range and not limits.reserved:
            device = in_range[0].finding.device
            yield f"{device} lies in {AMD_RESERVED}: where the host is AMD's, it cannot be mapped there"
    if any(entry.code == -1 for ioas in state.ioases.values() for entry in ioas.failed):
        yield _NO_ERRNO
    if not trace.has("vfio_listener_region_"):
        yield "no vfio_listener_region_* event: what QEMU left out is not known"
    elif not any(map(len, (*(one.sections for one in state.layers), *(one.maps for one in state.ioases.values())))):
        yield "nothing is mapped at the end of the log: the guest was not up yet, or already gone"


def _of_devices(trace: Trace, functions: Sequence[Function], pairing: Pairing) -> Iterator[str]:
    regions = trace.state.regions
    if not trace.has("vfio_region_setup"):
        yield "no vfio_region_setup event: which devices are assigned, and what of them can be mapped, is not known"
    if not functions:
        yield (
            "where the guest has its BARs is not known (give the answer to query-pci, or trace pci_update_mappings_*): "
            "only what QEMU itself knew and did not map could be found, not a BAR that it does not know of"
        )
        return
    for host in dict.fromkeys(host for host, _ in regions):
        if host not in pairing.hosts.values():
            yield f"no function of the guest is known to be {host}: its BARs were not judged"
    if pairing.assumed:
        which = ", ".join(sorted(pairing.assumed))
        yield f"which of the host's functions {which} are is assumed: several of one kind are there"
