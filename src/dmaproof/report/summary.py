"""The end of a run on a terminal: what it proved, what failed and why, where the reports lie."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from dmaproof.report import findings, judged, modes, notes
from dmaproof.report.loaded import Record
from dmaproof.report.text import alike, clipped, counted, duration, printable

_CAUSES, _SUMMARIES, _LINES, _TESTS, _SLOWEST, _CHARS = 10, 6, 4, 5, 3, 400
_REMEDY_CHARS = 1500  # what to do is read to its end: it is told once for a cause
_STYLES = {"passed": "green", "failed": "bold red", "error": "bold red", "skipped": "yellow"}
_STATES = {"pass": "green", "fail": "bold red", "not run": "yellow"}
_REPORTS = ("report.html", "junit.xml", "record.jsonl", "evidence")


def print_summary(record: Record, console: Console) -> None:
    """Print what ``record`` says; no text of a log can steer the terminal.

    Lines are wrapped to the width of a terminal. Anywhere else they stay whole, so that paths and addresses are found
    by grep.
    """
    for text, indent in _lines(record):
        margin = Text(" " * indent)
        width = max(1, console.width - indent)
        for line in text.wrap(console, width) if console.is_terminal else text.split("\n"):
            line.rstrip()
            console.print(margin + line, soft_wrap=True)


def _lines(record: Record) -> Iterator[tuple[Text, int]]:
    """Lines and their indentation."""
    yield from _banners(record)
    yield _head(record), 0
    yield from _modes(record)
    yield from _causes(record)
    yield from _unjudged(record)
    yield from _figures(record)
    for device, _ in findings.devices(record):
        if device.state == "poisoned":
            yield _text(f"poisoned: {device.bdf}: {device.reason}", "red"), 0
    yield from _slowest(record)
    yield from _reports(record)


def _text(words: str, style: str = "", length: int = _CHARS) -> Text:
    return Text(clipped(printable(words), length), style=style, overflow="fold")


def _banners(record: Record) -> Iterator[tuple[Text, int]]:
    if (kind := record.start.rig_kind) in notes.PROVES:
        yield _text(f"{kind.capitalize()} rig: {notes.PROVES[kind]}.", "bold yellow"), 0
    if record.start.planted:
        yield _text(f"Planted: {', '.join(record.start.planted)}. Failures are meant to happen.", "yellow"), 0
    for one in notes.unmet(record):
        yield _text(f"planted defect {one} was not met by any test of this run", "bold yellow"), 0
    for sentence in (notes.cut_short(record), notes.interrupted(record)):
        if sentence:
            yield _text(sentence, "bold red"), 0
    for note in notes.notes(record):
        yield _text(f"note: {note}", "bold yellow"), 0


def _head(record: Record) -> Text:
    loud = "INTERRUPTED: " if notes.interrupted(record) else "CUT SHORT: " if notes.cut_short(record) else ""
    head = Text(loud, "bold red", overflow="fold") + _text(f"{record.start.rig}: ", "bold")
    told = [(outcome, number) for outcome, number in findings.counts(record).items() if number]
    for at, (outcome, number) in enumerate(told):
        head.append(", " if at else "", "not bold").append(f"{number} {outcome}", f"not bold {_STYLES[outcome]}")
    return head.append(f"{'' if told else 'no tests'} in {notes.lasted(record)}", "not bold")


def _modes(record: Record) -> Iterator[tuple[Text, int]]:
    """What differs between modes, then the table; nothing for a rig of one node."""
    rig = findings.declared(record)
    found = modes.of_record(record, rig) if rig is not None and len(rig.nodes) > 1 else None
    if found is None:
        return
    for one in found.differences[:_LINES]:
        yield _text(f"{one.text}: {one.test.rpartition('::')[2]}", "red"), 0
    if len(found.differences) > _LINES:
        yield _text(f"and {counted(len(found.differences) - _LINES, 'more difference')} between modes"), 0
    widths = [max(len(mode), len("not run")) for mode in found.modes]
    first = max(map(len, found.rows), default=0)
    yield (
        _text("  ".join([" " * first, *(f"{mode:<{width}}" for mode, width in zip(found.modes, widths, strict=True))])),
        2,
    )
    for suite, cells in found.rows.items():
        row = Text(f"{suite:<{first}}")
        for cell, width in zip(cells, widths, strict=True):
            row.append(f"  {cell.state:<{width}}", _STATES[cell.state])
        yield row, 2


def _causes(record: Record) -> Iterator[tuple[Text, int]]:
    causes = findings.causes(record)
    for cause in causes[:_CAUSES]:
        head = _text(cause.signature, "bold red")
        sure = printable(cause.confidences[0][0])
        yield head.append(f" ({sure}), {counted(len(cause.tests), 'test')}", "not bold"), 0
        yield from _summaries(cause)
        for seen in cause.findings[0].seen[:_LINES]:
            yield _text(f"{seen.after(3)} {seen.text}".lstrip(), "dim"), 4
        for remedy in cause.remedies[:1]:
            yield _text(f"remedy: {remedy}", length=_REMEDY_CHARS), 2
        for spot in cause.blind_spots[:_LINES]:
            yield _text(f"not seen: {spot.text}").append(spot.more), 2
    if len(causes) > _CAUSES:
        yield _text(f"and {counted(len(causes) - _CAUSES, 'more cause')}"), 0
    for spot in alike(notes.run_blind(record))[: _LINES if causes else 0]:
        yield _text(f"not seen in the whole run: {spot.text}").append(spot.more), 0


def _summaries(cause: findings.Cause) -> Iterator[tuple[Text, int]]:
    """One cause may have acted on several devices: each is named, with its tests where there are several."""
    several = cause.summaries
    for summary, number in several[:_SUMMARIES]:
        yield _text(f"{counted(number, 'test')}: {summary}" if len(several) > 1 else summary), 2
    if len(several) > _SUMMARIES:
        yield _text(f"and {len(several) - _SUMMARIES} more"), 2


def _unjudged(record: Record) -> Iterator[tuple[Text, int]]:
    for one in findings.refused(record):
        after = f" after {one.after}" if one.after else ""
        yield _text(f"{counted(len(one.tests), 'test')} not run: {one.device} poisoned{after}", "red"), 0
    tests = findings.unjudged(record)
    if not tests:
        return
    yield _text(f"{counted(len(tests), 'failed test')} without a verdict:", "red"), 0
    for test in tests[:_TESTS]:
        yield _text(test.id), 2
    if len(tests) > _TESTS:
        yield _text(f"and {len(tests) - _TESTS} more"), 2


def _figures(record: Record) -> Iterator[tuple[Text, int]]:
    """Figures that are not as they should be; each pair once, by whatever it was found."""
    lines = [one for one in judged.of_record(record) if one.standing != "fine"]
    if not lines:
        return
    failing = judged.failing(lines)
    told = f"{counted(len(lines), 'figure is not as it should be', 'figures are not as they should be')}"
    yield _text(told if failing else f"{told}, none of them for certain", "red" if failing else "yellow"), 0
    for one in lines[:_SUMMARIES]:
        yield _text(f"{one.reason or 'unexplained'} ({one.by}): {one.text}"), 2
    if len(lines) > _SUMMARIES:
        yield _text(f"and {len(lines) - _SUMMARIES} more"), 2


def _slowest(record: Record) -> Iterator[tuple[Text, int]]:
    slow = findings.slowest(record.tests, _SLOWEST)
    if slow:
        yield _text("slowest:"), 0
    for test in slow:
        yield _text(f"{duration(test.duration_s)}  {test.id.rpartition('::')[2]}"), 2


def _reports(record: Record) -> Iterator[tuple[Text, int]]:
    folder = record.path.parent
    there = [name for name in _REPORTS if (folder / name).exists()]
    yield _text(f"reports: {folder}" + (f" ({', '.join(there)})" if there else ""), "bold"), 0
