"""One process of the agent: takes the calls of one process of a run, and has workers carry them out.

It has one thread, so that workers can be forked from it: starting Python takes seconds on an emulated processor.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from dmaproof import errors
from dmaproof.errors import DmaproofError, Hang, WorkloadFailed
from dmaproof.guest.port import Port
from dmaproof.node import forked, messages
from dmaproof.node.deadline import Deadline
from dmaproof.node.messages import Raised, Returned
from dmaproof.node.node import Node
from dmaproof.node.output import read_from, size
from dmaproof.node.remote_frames import ASKED, Done, Hung, Refused, Stop, Work
from dmaproof.node.worker import Worker

_ROOT = Path("/")
_PATH = tuple(sys.path)
"""Where this process found what it is made of, which may lie elsewhere than on the harness's side."""


def serve(frames: Iterable[bytes], answers: Port) -> None:
    """Carry out every call in ``frames``, one after the other."""
    workers: dict[tuple[str, int], Worker] = {}
    for frame in frames:
        match ASKED.validate_json(frame):
            case Stop() as stop:
                if worker := workers.pop((stop.session, stop.worker), None):
                    worker.stop()
                    shutil.rmtree(worker.output_path.parent, ignore_errors=True)
            case Work() as work:
                key = work.session, work.worker
                if key not in workers:
                    workers[key] = _worker(work.run)
                answers.write(messages.encode_any(perform(workers[key], work)))


def _worker(run: str) -> Worker:
    return Worker(
        Node("here"),
        Path(tempfile.mkdtemp(prefix="dmaproof-")),
        run_id=run,
        captures={"iommu": _iommu},
        spawn=forked.spawn,
        patience=1.0,  # who asked waits for an answer no longer
    )


def _iommu(_deadline: Deadline) -> str:
    """Imported where a hang is captured: until the first call, an emulated processor has enough to import."""
    from dmaproof.pci import iommu

    return "\n".join(iommu.snapshot(_ROOT).summary)


def perform(worker: Worker, work: Work) -> Done:
    """Run ``work``; whatever becomes of it is the answer."""
    began_nbytes = size(worker.output_path)
    answer = _answer(worker, work)
    return Done(
        session=work.session,
        worker=work.worker,
        number=work.call.number,
        answer=answer,
        notes=worker.notes,
        output=read_from(worker.output_path, began_nbytes),
        pid=worker.worked_pid,
        acquired_s=worker.acquired_s,
        now_s=time.monotonic(),
    )


def path_here(asked: Sequence[str]) -> list[str]:
    """The harness's sys.path as far as it is here too, then this process's own."""
    return list(dict.fromkeys([*(folder for folder in asked if folder and Path(folder).is_dir()), *_PATH]))


def _answer(worker: Worker, work: Work) -> Returned | Raised | Hung | Refused:
    number = work.call.number
    try:
        sys.path[:] = path_here(work.call.path)
        run = partial(worker.run, messages.resolve(work.call.workload), **work.call.arguments)
        return Returned(number, run(deadline=Deadline.after(work.deadline_s), devices=work.devices))
    except Hang as hang:
        return Hung(hang.report)
    except WorkloadFailed as error:
        return Raised(number, error.type_name, error.message, error.remote_traceback)
    except (ImportError, AttributeError) as error:
        return Refused(errors.UsageError.__name__, f"{work.call.workload} cannot be run here: {error}")
    except DmaproofError as error:
        return Refused(type(error).__name__, str(error))
