"""Lines that are somebody's fault report but that no decoder knows: passed over in silence, they would read as health.
And input that is no kernel log at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from dmaproof.cli import remark
from dmaproof.evidence.decode import LogDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

# Word for word what the kernel prints: drivers/iommu/{apple-dart,exynos-iommu,rockchip-iommu}.c,
# arch/powerpc/kernel/eeh.c, arch/s390/pci/pci_event.c, drivers/firmware/efi/cper.c.
_FAMILIES = {
    "translation fault: status:": "Apple DART faults",
    " FAULT occurred at 0x": "Exynos IOMMU faults",
    "Page fault at 0x": "Rockchip IOMMU faults",
    "EEH: Frozen": "PowerPC EEH errors",
    "reports an error for PCI function": "s390 PCI errors",
    "section_type: PCIe error": "PCIe errors that firmware handled first",
}


class LogReader:
    """Decodes one log, and counts what was seen of it besides events; counts are of what was read so far."""

    def __init__(self) -> None:
        self.decoder = LogDecoder(also=_FAMILIES, unknown_to=self._unknown)
        self.undecoded = Counter[str]()

    def run(self, stream: Iterable[bytes]) -> Iterator[Event]:
        return self.decoder.run(stream)

    def _unknown(self, line: Line) -> None:
        family = next((name for words, name in _FAMILIES.items() if words in line.text), None)
        if family is not None:
            self.undecoded[family] += 1

    def notes(self) -> list[str]:
        """``not seen: 3 lines look like Apple DART faults, which this version does not decode``, one a family."""
        return [
            f"not seen: {f'{count} lines look' if count > 1 else '1 line looks'} like {family}, "
            "which this version does not decode"
            for family, count in self.undecoded.items()
        ]

    def warn_if_no_log(self, log: str) -> None:
        """Says on stderr that ``log`` may be the wrong file; it is no error, for a log may be empty."""
        if not self.decoder.recognised:
            remark(f"no kernel log line recognised in {log}: is it a kernel log?")
