"""What logs put before a kernel message, taken off piece by piece.

Known are the prefixes of ``dmesg`` (plain, ``-T``, ``-d``, ``-e``, ``-x``, ``--time-format iso``, with
CONFIG_PRINTK_CALLER), syslog files (RFC 3164 and 5424), ``journalctl`` (all short forms) and serial consoles. Real logs
stack them (``Okt 06 17:59:27 host kernel: [   51.69] ..``).
"""

from __future__ import annotations

import re

_MOST = 8
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DAY = r"\d{4}-\d\d-\d\d"
_KERNEL = r"(?:kernel|[\w./-]{1,40}(?:\[\d{1,10}\])?):"
_STAMP = r"\[\s*(?P<time>\d{1,10}\.\d{1,9})(?:\s*<\s*[\d.+]+>)?\s*\]"
_PREFIXES = tuple(
    re.compile(form)
    for form in (
        r"\s+",
        r"<\d{1,4}>",  # console and syslog priority
        _STAMP,  # dmesg, dmesg -d
        r"\[\s*[TC]\d{1,7}\s*\]",  # CONFIG_PRINTK_CALLER: thread or CPU
        rf"\[\s*\w{{1,5}}\.? \w{{1,5}}\.?\s+\d{{1,2}} {_CLOCK} \d{{4}}\]",  # dmesg -T: wall clock, not the kernel's
        r"\[(?:\w{1,5}\d{1,2} \d\d:\d\d|\s*\+\d{1,10}\.\d{1,9})\]",  # dmesg -e: a day, then the time since
        rf"\S{{1,6}}\s+\d{{1,2}} {_CLOCK} \S{{1,64}} {_KERNEL}",  # syslog, journalctl; month names of any language
        rf"1 {_DAY}T{_CLOCK}\S{{0,6}} \S{{1,64}} \S{{1,48}} \S{{1,64}} \S{{1,32}}"  # RFC 5424: host, name, pid, id
        r" (?:-|(?:\[[^\]]{0,200}\])+)(?: \ufeff)?",
        # journalctl -o short-iso and short-full
        rf"(?:\w{{1,5}} )?{_DAY}[T ]{_CLOCK}(?:\S{{0,6}}| \w{{1,5}}) \S{{1,64}} {_KERNEL}",
        rf"{_DAY}T{_CLOCK}\S{{0,6}}(?= )",  # dmesg --time-format iso
        rf"\d{{9,11}}\.\d{{6}} \S{{1,64}} {_KERNEL}",  # journalctl -o short-unix
        r"(?:kern|user|daemon|syslog)\s*:\s*(?:emerg|alert|crit|err|warn|notice|info|debug)\s*:",  # dmesg -x
        r"(?:\S{1,64} )?kernel:",  # the time came first: journalctl -o short-monotonic
    )
)
_USUAL = re.compile(rf"(?:<\d{{1,4}}>)?{_STAMP}(?:\[\s*[TC]\d{{1,7}}\s*\])? (?=[^\s\[<])(?!\S{{1,64}} kernel:|kernel:)")
# Where another message begins inside a line: two printers wrote to one console. No message holds these further in.
_INSIDE = re.compile(
    r"(?<=.)(?=\[ {0,4}\d{1,8}\.\d{6}\](?:\[ *[TC]\d{1,7}\])? )"
    r"|(?<=[^ ])(?=(?:NVRM: (?:Xid \(|GPU )|DMAR: |arm-smmu-v3 [\w.:@-]{1,64}: |virtio_iommu virtio\d"
    r"|pcieport [0-9a-f]{4}:|INFO: task ))"
    r"|(?<=[^\]] )(?=(?:NVRM: Xid \(|DMAR: (?:\[|DRHD)))"
)
_NAMES = ("NVRM: ", "DMAR: ", "arm-smmu-v3 ", "virtio_iommu ", "pcieport ", "INFO: task ")
_STAMPED = re.compile(r"\[ {0,4}\d{1,8}\.\d{6}\]")


def peel(text: str) -> tuple[str, float | None]:
    """``text`` without its prefixes, and the kernel's time stamp in seconds where they have one."""
    usual = _USUAL.match(text)
    if usual is not None and not text.startswith(("kern", "user", "daemon", "syslog"), usual.end()):
        return text[usual.end() :], float(usual["time"])
    time: float | None = None
    for _ in range(_MOST):
        match = next((found for form in _PREFIXES if (found := form.match(text))), None)
        if match is None:
            break
        if time is None and match.groupdict().get("time"):
            time = float(match["time"])
        text = text[match.end() :]
    return text, time


def messages(text: str) -> list[str]:
    """``text``, one line of a console, as the messages that were written into it; most often one."""
    if not any(text.find(name, 1) >= 0 for name in _NAMES) and not _STAMPED.search(text, 1):
        return [text]  # what the long search would say of nearly all, at a tenth of its time
    return [piece for piece in _INSIDE.split(text) if piece.strip()]
