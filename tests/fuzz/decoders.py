"""``python -m tests.fuzz.decoders --minutes 10``: real lines torn, mixed and mutated, through every way of decoding.

What must hold for any bytes: nothing is raised, every event is JSON with sane fields, the counts add up, the sieve
finds what feeding every line finds, and no input takes long (a pattern that backtracks). The input being tried lies in
a file, which stays where it breaks one of these; ``--input FILE --size N`` tries it again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof import bdf
from dmaproof.evidence.decode import LogDecoder, event_json
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import lines
from dmaproof.evidence.storm import Gatherer
from tests.evidence import test_decode, test_families, test_inputs, test_reports

LONGEST_S = 1.0  # of processor time, for one input of at most some tens of kilobytes
MAKERS = ("plain", "torn", "swapped", "numbers", "noise", "long", "piped")


def seeds() -> list[str]:
    """Every line that the decoders' own tests know."""
    cases = (*test_decode.VTD.values(), *test_decode.XID.values(), *test_families.CASES.values())
    reports = (*test_reports.NEW, *test_reports.OLD, *test_reports.UNSUPPORTED, *test_inputs.LOG)
    smmu = test_reports.smmu("a.smmu", 0x100, 0xF8139000)
    return [line for text, _ in cases for line in text.split("\n")] + [*reports, *smmu, *test_families.NOTHING]


def one_input(chance: random.Random, known: list[str]) -> bytes:
    pipes = list(test_inputs.PIPES.values())
    made = []
    for n in range(chance.randrange(1, 60)):
        line = chance.choice(known)
        how = chance.choice(MAKERS)
        if how == "piped":
            line = chance.choice(pipes)(line, n) if ": " in line else line
        made.append(_mutated(chance, line.encode(), how, known))
    return chance.choice([b"\n", b"\n", b"\r\n", b""]).join(made)


def _mutated(chance: random.Random, line: bytes, how: str, known: list[str]) -> bytes:
    at = chance.randrange(len(line) + 1)
    if how == "torn":
        return line[:at] + chance.choice(known).encode()[chance.randrange(20) :]
    if how == "swapped":
        to = chance.randrange(len(line) + 1)
        return line[to:] + line[at:to]
    if how == "numbers":
        return re.sub(rb"[0-9a-f]+", lambda match: _number(chance, match[0]), line)
    if how == "noise":
        return line[:at] + chance.randbytes(chance.randrange(8)) + line[at:]
    if how == "long":
        return line[:at] + line[at : at + chance.randrange(1, 9)] * chance.randrange(1, 2000) + line[at:]
    return line


def _number(chance: random.Random, old: bytes) -> bytes:
    if chance.random() < 0.8:
        return old
    return chance.choice([b"", b"0", b"f" * len(old), b"9" * 30, b"%x" % chance.getrandbits(64), old + old])


def check(data: bytes, size: int) -> None:
    """Raises AssertionError, or whatever else, where ``data`` in pieces of ``size`` bytes breaks a promise."""
    begin = time.process_time()
    decoder, gatherer = LogDecoder(), Gatherer()
    found = []
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for event in decoder.run(pieces):
        found.append(event)
        gatherer.add(event)
    assert 0 <= decoder.unknown <= decoder.lines <= data.count(b"\n") + 1, (decoder.unknown, decoder.lines)
    for event in found:
        _sane(event)
    counted = sum(entry.storm.count if entry.storm else 1 for entry in gatherer.entries())
    assert counted == len(found), (counted, len(found))
    by_hand = LogDecoder()
    fed = [event for line in lines(pieces) for event in by_hand.feed(line) or ()] + by_hand.finish()
    assert fed == [event for event in found if event.event != "sequence-gap"]
    spent = time.process_time() - begin
    assert spent < LONGEST_S, f"{spent:.2f} s for {len(data)} bytes"


def _sane(event: Event) -> None:
    fields = event_json(event)
    assert json.loads(json.dumps(fields)) == fields
    assert event.bdf is None or bdf.parse(event.bdf) == event.bdf, event.bdf
    for name in ("address", "va", "pasid", "channel", "count", "xid", "pid", "reason"):
        assert fields[name] is None or 0 <= fields[name] < 1 << 64, (name, fields[name])


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.decoders", description="Fuzz the decoders.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first input; default: from the clock")
    parser.add_argument("--input", type=Path, help="try one input again")
    parser.add_argument("--size", type=int, default=4096, help="bytes of the pieces that an input comes in")
    given = parser.parse_args(args)
    if given.input is not None:
        check(given.input.read_bytes(), given.size)
        return 0
    return _fuzz(given.minutes * 60, given.seed if given.seed is not None else time.time_ns())


def _fuzz(seconds: float, seed: int) -> int:
    known, until, count = seeds(), time.monotonic() + seconds, 0
    at_risk = Path(tempfile.gettempdir(), f"decoders-{seed}.bin")
    while time.monotonic() < until:
        chance = random.Random(seed + count)
        data, size = one_input(chance, known), chance.choice([1, 7, 300, 4096, 1 << 16])
        at_risk.write_bytes(data)
        with _named(f"--input {at_risk} --size {size} (seed {seed + count})"):
            check(data, size)
        count += 1
    at_risk.unlink(missing_ok=True)
    sys.stdout.write(f"{count} inputs from seed {seed} in {seconds / 60:g} minutes: nothing found\n")
    return 0


@contextmanager
def _named(how: str) -> Iterator[None]:
    """Says how to try an input again if it breaks a promise; what broke goes on its way."""
    held = False
    try:
        yield
        held = True
    finally:
        if not held:
            sys.stderr.write(f"broken by: {how}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
