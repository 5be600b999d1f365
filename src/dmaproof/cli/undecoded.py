"""Lines that are somebody's fault report but that no decoder knows yet: passed over in silence, they would read as
health. And input that is no kernel log at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import click

from dmaproof.evidence.decode import LogDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line, lines

# Word for word what the kernel prints: drivers/iommu/amd/iommu.c, drivers/iommu/arm/, drivers/iommu/virtio-iommu.c,
# drivers/pci/pcie/aer.c. Lines of the same drivers that only tell of their start are not meant.
_FAMILIES = {
    "AMD-Vi faults": re.compile(
        r"AMD-Vi:.*(?:Event logged|_FAULT|_TIMEOUT|_ERROR|timed out)|\bamd_iommu_report\w*: \d+ callbacks suppressed"
    ),
    "arm-smmu faults": re.compile(
        r"\barm-smmu\b.*(?:event 0x[0-9a-f]+ received|event: [FC]_|[Uu]nhandled context fault|global (?:fault|error)"
        r"|timeout|callbacks suppressed)"
    ),
    "virtio_iommu faults": re.compile(r"\bvirtio_iommu\b.* fault from EP"),
    "PCIe AER errors": re.compile(r"PCIe Bus Error:|\bAER:.* error\b"),
}
_SUBSYSTEM = re.compile(r"[A-Za-z][\w .:/-]{1,40}: \S", re.ASCII)  # how nearly every kernel message begins


class LogReader:
    """Decodes one log, and counts what was seen of it besides events; counts are of what was read so far."""

    def __init__(self) -> None:
        self.decoder = LogDecoder()
        self.undecoded = Counter[str]()
        self.recognised = False

    def run(self, stream: Iterable[bytes]) -> Iterator[Event]:
        for line in lines(stream):
            events = self.decoder.feed(line)
            if events is None:
                self._unknown(line)
            else:
                self.recognised = True
                yield from events
        yield from self.decoder.finish()

    def _unknown(self, line: Line) -> None:
        family = next((name for name, pattern in _FAMILIES.items() if pattern.search(line.text)), None)
        if family is not None:
            self.undecoded[family] += 1
        self.recognised = self.recognised or _is_kernels(line)

    def notes(self) -> list[str]:
        """``not seen: 3 lines look like AMD-Vi faults, which this version does not decode``, one a family."""
        return [
            f"not seen: {f'{count} lines look' if count > 1 else '1 line looks'} like {family}, "
            "which this version does not decode"
            for family, count in self.undecoded.items()
        ]

    def warn_if_no_log(self, log: str) -> None:
        """Says on stderr that ``log`` may be the wrong file; it is no error, for a log may be empty."""
        if not self.recognised:
            click.echo(f"dmaproof: no kernel log line recognised in {log}: is it a kernel log?", err=True)


def _is_kernels(line: Line) -> bool:
    """A prefix that some pipe of kernel messages writes, or the name that the message itself begins with."""
    return line.text != line.raw.strip() or _SUBSYSTEM.match(line.text) is not None
