"""``dmaproof triage``: what kernel logs, with no test and no hardware at hand, say is to blame."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from math import nan
from pathlib import Path

import click

from dmaproof.cli import Command, findings, remark
from dmaproof.cli.judged import Judged, Read
from dmaproof.cli.logs import log_in, reading
from dmaproof.cli.triage_json import as_json as answer_json
from dmaproof.cli.triage_text import as_text
from dmaproof.cli.undecoded import LogReader
from dmaproof.errors import UsageError
from dmaproof.evidence.storm import Gatherer
from dmaproof.nearest import did_you_mean
from dmaproof.report.text import printable
from dmaproof.rig.archive import opened
from dmaproof.rig.host import resolve
from dmaproof.rig.model import Rig
from dmaproof.rig.saved import rig_of
from dmaproof.rig.unpack import is_archive
from dmaproof.triage.alignment import Clock, WallClock, align
from dmaproof.triage.offline import Log, case, conclude, strangers

_MOST_NAMES = 4
_MOST_OFFSET_S = 1e10  # 300 years


@click.command("triage", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with all evidence (docs/triage.md).")
@click.option(
    "--rig", "rig_word", metavar="RIG", help="The rig the logs are from: its BARs give fault addresses names."
)
@click.option("--archive", metavar="FILE", help="The saved machine the first log is from (`dmaproof doctor --save`).")
@click.option(
    "--clock-offset", "offsets", metavar="NAME=SECONDS", multiple=True, help="What to add to the times of log NAME."
)
@click.argument("logs", metavar="LOG|-...", nargs=-1)
def command(
    as_json: bool, rig_word: str | None, archive: str | None, offsets: tuple[str, ...], logs: tuple[str, ...]
) -> None:
    """Name what kernel logs say is to blame, and what they cannot show.

    LOG is a file, a saved machine, or - for standard input; with --archive alone the log that it holds is read. Several
    logs are of several nodes (a guest and its host): each is judged on its own, all are shown on one clock. A log is
    called what its file is called, without folder and ending; a node of RIG of that name is its node. Exit status:
    0 nothing found, 1 events or verdicts, or fault reports of a family that is not decoded, 2 LOG, RIG or FILE cannot
    be read.
    """
    if archive is None and len(logs) == 1 and logs[0] != "-" and is_archive(Path(logs[0])):
        archive, logs = logs[0], ()
    if not logs and archive is None:
        raise UsageError("say which LOG to read, - for standard input, or --archive FILE")
    if logs.count("-") > 1:
        raise UsageError("- is given twice, and standard input can be read once: name a file for the other")
    with _root(archive) as root:
        paths = logs or (str(log_in(root, archive)) if root is not None and archive is not None else "-",)
        names = _names(paths) if logs else ("archive",)
        rig = _rig(rig_word, root)
        given = _offsets(offsets, names)
        found = [_read(path, name) for path, name in zip(paths, names, strict=True)]
        judged = _judge(_aligned(found, given), rig, root)
    _tell(judged, rig, as_json=as_json)


@contextmanager
def _root(archive: str | None) -> Iterator[Path | None]:
    if archive is None:
        yield None
        return
    with opened(Path(archive)) as root:
        yield root


def _rig(word: str | None, root: Path | None) -> Rig | None:
    """RIG where one is asked for, else what the saved machine shows of itself."""
    if word is not None:
        return resolve(word).rig
    return rig_of(root).rig if root is not None else None


def _names(paths: Sequence[str]) -> tuple[str, ...]:
    """What each log is called; those of one name are told apart by a number that makes a name nobody has."""
    plain = ["stdin" if path == "-" else printable(Path(path).stem or path) for path in paths]
    names: list[str] = []
    for name in plain:
        numbered = (f"{name}-{number}" for number in count(1))
        fresh = (one for one in numbered if one not in plain and one not in names)
        names.append(name if plain.count(name) == 1 else next(fresh))
    return tuple(names)


def _offsets(words: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """``NAME=SECONDS`` each. Raises UsageError for a name that no log has or that is there twice, or seconds that are
    no number of seconds."""
    found: dict[str, float] = {}
    for word in words:
        name, _, seconds = printable(word).rpartition("=")
        if name not in names:
            raise UsageError(f"--clock-offset {word!r}: no log is called {name!r}: {did_you_mean(name, names)}")
        if name in found:
            raise UsageError(f"--clock-offset {word!r}: {name} has the offset {found[name]:g} already: give it once")
        found[name] = _seconds(word, name, seconds)
    return found


def _seconds(word: str, name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not abs(seconds) <= _MOST_OFFSET_S:  # nor is nan
        raise UsageError(f"--clock-offset {word!r}: seconds are a number up to {_MOST_OFFSET_S:g}, as in {name}=-12.5")
    return seconds


def _read(path: str, name: str) -> Read:
    """Memory does not grow with the log: a storm is one entry, however long."""
    reader, gatherer, wall = LogReader(), Gatherer(), WallClock()
    with reading(path) as stream:
        for event in reader.run(wall.watch(stream)):
            gatherer.add(event)
    reader.warn_if_no_log(path)
    return Read(Log(name=name, entries=gatherer.entries()), reader, wall.boot)


def _aligned(found: list[Read], given: dict[str, float]) -> list[Read]:
    offsets = align([Clock(one.log.name, one.boot, one.log.events) for one in found], given)
    return [replace(one, log=replace(one.log, offset=offset)) for one, offset in zip(found, offsets, strict=True)]


def _judge(found: list[Read], rig: Rig | None, root: Path | None) -> list[Judged]:
    """Each log by itself: what a guest calls 0000:01:00.0 is another device on its host. The archive is the first's."""
    judged = []
    for at, one in enumerate(found):
        others = [other.log for other in found if other is not one]
        own = case(one.log, rig, root if at == 0 else None, others)
        judged.append(Judged(one, own, conclude(own)))
    return judged


def _tell(judged: Sequence[Judged], rig: Rig | None, *, as_json: bool) -> None:
    for one in judged:
        if rig is not None and (names := strangers(one.read.log.events, rig)):
            remark(f"{_not_of(names, rig)}: is this the right rig?")
        if as_json:
            for note in one.read.reader.notes():
                remark(note)
    click.echo(json.dumps(answer_json(judged)) if as_json else as_text(judged))
    if any(one.verdicts or one.read.reader.undecoded for one in judged):
        findings()


def _not_of(names: tuple[str, ...], rig: Rig) -> str:
    if len(names) == 1:
        return f"{names[0]} is not a GPU of rig {rig.id}"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more} are not GPUs of rig {rig.id}"
