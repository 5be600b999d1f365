"""What a kernel selftest says: the Test Anything Protocol in the dialect of Documentation/dev-tools/ktap.rst."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "skipped")
_PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*SKIP\b\s*(.*))?", re.IGNORECASE)
_RESULT = re.compile(r"(not )?ok\b(?:\s+(\d+))?(?:\s+-)?\s*(.*)")
_DIRECTIVE = re.compile(r"(?:^|\s)#\s*(SKIP|XFAIL|XPASS|TODO|TIMEOUT|ERROR)\b\s*(.*)", re.IGNORECASE)
_PROGRESS = re.compile(r"(RUN|OK|FAIL|Starting|PASSED|FAILED|Totals|SKIP)\b")
_BAIL_OUT = re.compile(r"Bail out!\s*(.*)")


@dataclass(frozen=True, slots=True)
class Case:
    """One result line. ``why``: of a skip, what it says; of a failure, the diagnostic lines since the result before."""

    name: str
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """``planned`` is None where the program announced none. ``bailed_out``: why it gave up, "" where it did not."""

    cases: tuple[Case, ...]
    planned: int | None
    bailed_out: str = ""
    skipped_whole: str = ""

    @property
    def complete(self) -> bool:
        """All that was announced was told: a program that crashed halfway leaves fewer."""
        return not self.bailed_out and self.planned is not None and self.planned == len(self.cases)

    def of(self, outcome: Outcome) -> tuple[Case, ...]:
        return tuple(one for one in self.cases if one.outcome == outcome)


def summed(results: Results) -> str:
    """How many of each outcome, and of how many that were announced."""
    counts = ", ".join(f"{len(results.of(one))} {one}" for one in OUTCOMES)
    plan = "none announced" if results.planned is None else f"{results.planned} announced"
    return f"{counts}; {plan}" + (f"; gave up: {results.bailed_out}" if results.bailed_out else "")


def parse(text: str) -> Results:
    """The results in ``text``, the output of one program. Lines that are none of TAP's are passed over.

    Only lines at the left margin count: indented ones are of subtests, whose parent tells their sum.
    """
    cases: list[Case] = []
    said: list[str] = []
    planned, bailed_out, skipped_whole = None, "", ""
    for line in text.splitlines():
        if plan := _PLAN.fullmatch(line.rstrip()):
            planned = int(plan[1])
            skipped_whole = "" if plan[2] is None else plan[2] or "no reason"
        elif found := _BAIL_OUT.match(line):
            bailed_out = found[1].strip() or "no reason"
        elif result := _RESULT.fullmatch(line.rstrip()):
            cases.append(_case(result, len(cases) + 1, said))
            said = []
        elif line.startswith("#"):
            said.append(line.lstrip("# ").rstrip())
    return Results(tuple(cases), planned, bailed_out, skipped_whole)


def _case(result: re.Match[str], number: int, said: list[str]) -> Case:
    outcome: Outcome = "failed" if result[1] else "passed"
    name, word, why = _parted(result[3])
    if word == "SKIP":
        outcome = "skipped"
    elif word in ("XFAIL", "TODO"):  # known not to work: as good as passed, in either notation
        outcome = "passed"
    elif word:  # XPASS, TIMEOUT, ERROR: kselftest.h's ksft_finished() counts none of them as passed
        outcome = "failed"
    name = name or (why if word else "") or f"case {result[2] or number}"
    return Case(name, outcome, "" if outcome == "passed" else why or " | ".join(_telling(said)))


def _parted(text: str) -> tuple[str, str, str]:
    """A description, the directive behind its ``#`` and what that says; one or the other may be empty."""
    if directive := _DIRECTIVE.search(text):
        return text[: directive.start()].strip(), directive[1].upper(), directive[2].strip()
    return text.strip(), "", ""


def _telling(said: list[str]) -> list[str]:
    """Diagnostics without the harness's own progress lines (kselftest_harness.h)."""
    return [line for line in said if line and not _PROGRESS.match(line)]
