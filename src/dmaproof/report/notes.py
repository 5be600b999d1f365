"""What a reader must know of a run before its results: how it ended, what it could not see, what was planted."""

from __future__ import annotations

from datetime import UTC, datetime

from dmaproof.report.loaded import Record
from dmaproof.report.text import Alike, alike, counted, duration

PROVES = {
    "virtual": "this run proves the suite, never a machine",
    "lab": "this run proves kernel, QEMU and suite, never hardware",
}
"""What a run on a rig of that kind is good for; of a host nothing need be said."""
_INTERRUPTED = "interrupted"
_PYTEST_INTERRUPTED = 2  # pytest.ExitCode.INTERRUPTED


def cut_short(record: Record) -> str:
    """One sentence if the record is not whole, else nothing."""
    if record.whole:
        return ""
    what = "The last line of the record is cut" if record.truncated else "The record has no end line"
    return (
        f"{what}: the run did not come to its end, and what came after {len(record.tests)} recorded tests is not known."
    )


def interrupted(record: Record) -> str:
    """One sentence if the run was stopped before it had run every test, else nothing."""
    end = record.end
    if end is None or not (end.note.startswith(_INTERRUPTED) or end.exit_status == _PYTEST_INTERRUPTED):
        return ""
    done = counted(len(record.tests), "test")
    return f"The run was stopped after {done}: those that it had not reached are neither passed nor failed."


def notes(record: Record) -> tuple[str, ...]:
    """Every other note that the run left of itself."""
    lines = (record.start, record.end) if record.end else (record.start,)
    return tuple(dict.fromkeys(line.note for line in lines if line.note and line.note != _INTERRUPTED))


def rig_notes(record: Record) -> tuple[str, ...]:
    """What reading the machine told that the rig's own fields do not hold, such as that it has no IOMMU; and which
    part of its pairs was tested."""
    told = (line for line in record.evidence if line.test is None and line.what in ("rig-note", "pair-coverage"))
    return tuple(dict.fromkeys(line.text for line in told))


def run_blind(record: Record) -> tuple[str, ...]:
    """What the whole run could not see, whatever the test."""
    return tuple(
        dict.fromkeys(line.text for line in record.evidence if line.test is None and line.what == "blind-spot")
    )


def blind_spots(record: Record) -> list[Alike]:
    """What could not be seen, by the run and by its verdicts; what is said most often comes first."""
    said = [line.text for line in record.evidence if line.what in ("blind-spot", "records-lost")]
    said += [spot for verdict in record.verdicts for spot in verdict.blind_spots]
    return sorted(alike(said), key=lambda one: -one.times)


def unmet(record: Record) -> tuple[str, ...]:
    """Planted defects (``ID`` or ``ID@SEED``) that no verdict names: the run proved nothing about them."""
    named = {verdict.signature for verdict in record.verdicts}
    return tuple(one for one in dict.fromkeys(record.start.planted) if one.partition("@")[0] not in named)


def moment(text: str) -> datetime | None:
    """The ISO 8601 ``text`` in UTC, or None if it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def lasted(record: Record) -> str:
    """How long the run took, to the precision of its stamps; of a run cut short, how long its recorded tests took."""
    start, end = moment(record.start.time), moment(record.end.time) if record.end else None
    if record.end is None or start is None or end is None or end < start:
        return duration(sum(test.duration_s for test in record.tests))
    whole = not ("." in record.start.time and "." in record.end.time)
    return duration((end - start).total_seconds(), whole=whole)
