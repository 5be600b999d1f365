"""``python -m benchmarks [NAME ...]``: runs the benchmarks, prints one table; figures are read, nothing fails."""

from __future__ import annotations

import sys

from benchmarks import audit, collection, decode, lab, qualify, schedule, worker_call
from benchmarks.figure import Figure, show

BENCHMARKS = {
    "worker_call": worker_call.run,
    "collection": collection.run,
    "qualify": qualify.run,
    "schedule": schedule.run,
    "decode": decode.run,
    "audit": audit.run,
    "lab_boot": lab.boot,
    "lab_suites": lab.suites,
    "lab_guest": lab.guest,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}: valid: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name]()
    show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
