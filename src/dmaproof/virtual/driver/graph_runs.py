"""A launch of a graph: its nodes, each when its turn has come."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from dmaproof.virtual.driver.errors import DriverError
from dmaproof.virtual.driver.graphs import Step
from dmaproof.virtual.driver.streams import Run


def replay(steps: tuple[Step, ...]) -> Run:
    """All of ``steps`` as one operation."""

    def run(ready_ns: float, queued_ns: float) -> Generator[None, None, float]:
        return _carry_out(steps, ready_ns, queued_ns)

    return run


def _carry_out(steps: tuple[Step, ...], ready_ns: float, queued_ns: float) -> Generator[None, None, float]:
    """Polls kernels that wait for others; the end is that of the last node."""
    ends: dict[int, float] = {}
    running: dict[int, Generator[None, None, float]] = {}
    try:
        while len(ends) < len(steps):
            moved = _begin(steps, ends, running, ready_ns, queued_ns)
            moved = _poll(steps, ends, running) or moved
            if not moved:
                yield
    finally:
        for one in running.values():
            one.close()
    return max(ends.values(), default=ready_ns)


def _begin(
    steps: tuple[Step, ...],
    ends: dict[int, float],
    running: dict[int, Generator[None, None, float]],
    ready_ns: float,
    queued_ns: float,
) -> bool:
    """Start each node whose turn has come; whether one was done at once."""
    moved = False
    for at, step in enumerate(steps):
        if at in ends or at in running or not all(before in ends for before in step.after):
            continue
        with _blamed(step):
            result = step.task.run(max([ready_ns, *(ends[before] for before in step.after)]), queued_ns)
        if isinstance(result, float | int):
            ends[at], moved = result, True
        else:
            running[at] = result
    return moved


def _poll(steps: tuple[Step, ...], ends: dict[int, float], running: dict[int, Generator[None, None, float]]) -> bool:
    moved = False
    for at in list(running):
        try:
            with _blamed(steps[at]):
                next(running[at])
        except StopIteration as stop:
            del running[at]
            ends[at], moved = float(stop.value), True
    return moved


@contextmanager
def _blamed(step: Step) -> Iterator[None]:
    """An error of a node ends its own context, beside that of the stream which the graph was launched in."""
    try:
        yield
    except DriverError as error:
        error.victims.append(step.task.context)
        raise
