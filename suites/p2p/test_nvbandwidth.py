"""nvbandwidth's test cases, by its names and its method: one test a case.

``pytest -k device_to_device_memcpy_write_ce`` runs one. docs/nvbandwidth.md says what each does, and what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from dmaproof.cuda.cases import ALL, CASES, Case, Cell, plan
from dmaproof.cuda.cells import CellResult, measure_cells
from dmaproof.rig.model import HOST
from fixtures.ends import Gpus
from fixtures.evidence import NoteFact
from fixtures.measure import Measure, reaches
from fixtures.sweep import note_wrong
from fixtures.worker import Bench


@pytest.mark.catches("asymmetry", "mailbox", "silent_drop")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_nvbandwidth(gpus: Gpus, case: Case, worker: Bench, measure: Measure, note_fact: NoteFact) -> None:
    """A case ends with the first cell whose data is wrong: what its figures are worth is then known."""
    short = []
    for cell, result in _measured(_cells(gpus, case), worker):
        declared = _declared(gpus, case, cell)
        _keep(gpus, case, cell, result, declared, measure)
        for wrong in result.wrong:
            note_wrong(wrong, note_fact)
        assert not result.wrong, "; ".join(map(str, result.wrong))
        figure = result.measurements[0]
        if not reaches(figure, declared, case.engine):
            ends = " to ".join(_names(gpus, cell))
            short.append(f"{ends} {figure.median:.1f} of {declared:g} {case.unit} declared")
    assert not short, "; ".join(short)


def _measured(cells: Sequence[Cell], worker: Bench) -> Iterator[tuple[Cell, CellResult]]:
    """Fast cells share a call, and its deadline; the note that each leaves tells which of them a hang was in."""
    done = 0
    while done < len(cells):
        results = worker.run(measure_cells, cells=tuple(cells[done:])).results
        yield from zip(cells[done:], results, strict=False)
        done += len(results)


def _cells(gpus: Gpus, case: Case) -> tuple[Cell, ...]:
    """Skips where there is nothing to measure, with the reason: ``waived`` in nvbandwidth's words."""
    node, names = gpus.node, {gpu.bdf: gpu.name for gpu in gpus.endpoints}
    if case.needs_peers and len(names) < 2:
        pytest.skip(f"the rig declares 1 GPU on {node.name}; this case needs 2")

    def declared(accessor: str, owner: str) -> bool:
        path = node.path_between(names[accessor], names[owner])
        return path is not None and path.peer

    cells = plan(case, tuple(names), declared)
    if not cells:
        pytest.skip(f"the rig declares no peer access between any two GPUs of {node.name}")
    return cells


def _names(gpus: Gpus, cell: Cell) -> tuple[str, str]:
    """The figure's ends as the rig names them."""
    source, target = (
        HOST if end is None else end if end == ALL else gpus.endpoints[end].name for end in (cell.source, cell.target)
    )
    return source, target


def _declared(gpus: Gpus, case: Case, cell: Cell) -> float | None:
    """What the rig declares for exactly this figure: one transfer, which nothing else disturbs, by an engine whose
    rate it declares."""
    if len(cell.transfers) > 1 or case.engine == "tma" or case.work != "copy" or cell.figure == "half":
        return None
    path = gpus.node.path_between(*_names(gpus, cell))
    if path is None:
        return None
    return path.latency_ns if case.unit == "ns" else path.bandwidth_GBps


def _keep(gpus: Gpus, case: Case, cell: Cell, result: CellResult, declared: float | None, measure: Measure) -> None:
    source, target = _names(gpus, cell)
    alone = "one" if declared is not None and case.unit == "GB/s" else None
    for number, measurement in enumerate(result.measurements):
        measure(
            measurement,
            source=source,
            target=target,
            path=case.engine,
            case=case.name,
            peer=True if case.needs_peers else None,
            direction="both" if case.both_ways else alone,
            nbytes=cell.transfers[0].nbytes,
            declared=declared if number == 0 else None,
        )
