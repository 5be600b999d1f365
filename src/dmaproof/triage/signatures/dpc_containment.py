"""Downstream port containment: a port met an uncorrectable error and took its link down, and the GPU with it.

``DPC: containment event, status:0x..`` (drivers/pci/pcie/dpc.c). The GPU's driver then finds it gone (Xid 79): that is
what follows, not the cause.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import about
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.signatures import gpu_lost
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Read the AER lines just before the containment (`dmesg | grep -E 'AER|DPC|pcieport'`): they name the error and "
    "the device that sent it ({port}; status and source id are in the DPC line). SurpDn, DLP and MalfTLP point at the"
    " link: reseat or exchange GPU, riser, cable; CmpltTO, UnsupReq and PoisonedTLP at what was addressed: GPU or "
    "driver. Bring the GPU back by a full power cycle; pcie_ports=native and `lspci -vvs {port}` (DpcCtl, DpcSta) "
    "show whether firmware or the kernel owns DPC."
)


def _match(case: Case) -> Finding | None:
    """A link stays down: what the run saw before counts where the test uses a GPU below that port."""
    ports = {_port(one): one for one in (*case.session, *case.evidence) if _is_above(case, one)}
    if not ports:
        return None
    below = [gpu for port in ports for gpu in about.gpus_at(case.node, port) if case.concerns(gpu)]
    lines = [one for one in (*case.session, *case.evidence) if one.kind == "dpc" and _port(one) in ports]
    errors = _errors(case, {*ports, *below})
    lost = [one for one in (*case.session, *case.evidence) if one.kind == "config-space" and about.device(one) in below]
    explained = tuple(one for gpu in below for one in gpu_lost.aftermath(case, gpu, lines[0]))
    sure = errors or [one for one in explained if one.kind in ("xid", "xid-event", "config-space", "device-lost")]
    gone = f", and {about.named(below)} with it" if below else ""
    return Finding(
        confidence="certain" if sure else "probable",
        summary=f"port {about.named(ports)} contained an uncorrectable error and took its link down{gone}",
        evidence=(*lines, *errors, *lost),
        explains=(*explained, *errors),
        remedy=_REMEDY.format(port=about.named(ports)),
    )


def _port(one: Evidence) -> str | None:
    return about.device(one)


def _is_above(case: Case, one: Evidence) -> bool:
    """A port above a GPU of the test's. Where the rig knows no ports, any port may be."""
    if one.kind != "dpc":
        return False
    if _port(one) is None or not any(gpu.port for gpu in case.node.gpus):
        return True
    return any(case.concerns(gpu) for gpu in about.gpus_at(case.node, _port(one)))


def _errors(case: Case, ends: set[str | None]) -> tuple[Evidence, ...]:
    """Uncorrectable errors that AER told of at either end."""
    return tuple(
        one
        for one in (*case.session, *case.evidence)
        if one.kind == "aer"
        and one.event is not None
        and one.event.severity in ("nonfatal", "fatal")
        and one.event.bdf in ends
    )


SIGNATURE = Signature(
    id="dpc-containment",
    title="A port contained an uncorrectable PCIe error and took its link down: the GPU below it is gone.",
    needs="The kernel's containment line of a port above a GPU of the test's; certain with AER's errors or the loss.",
    excludes="Ports above other devices.",
    remedy=_REMEDY.format(port="<port>"),
    references=("Linux drivers/pci/pcie/dpc.c: dpc_process_error", "Linux Documentation/PCI/pci-error-recovery.rst"),
    match=_match,
)
