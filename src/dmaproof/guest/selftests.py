"""The kernel's own selftests of iommufd and VFIO, compiled from the source that the lab's kernel is built from.

Where they and the project's suites disagree, one of the two is wrong.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.guest import child, kernel_build, store, toolchain
from dmaproof.guest.telling import Tell, quietly
from dmaproof.node.deadline import Deadline

COLLECTIONS = ("iommu", "vfio")
"""Folders below tools/testing/selftests."""
SKIP = 4
"""Exit status of a program that could not do its work here (KSFT_SKIP, tools/testing/selftests/kselftest.h)."""
_BUILD_S = 900.0
_HEADERS = {"sys/capability.h": "libcap-dev", "uuid/uuid.h": "uuid-dev"}
_PROGRAMS = re.compile(r"^TEST_GEN_PROGS[ \t]*(?:\+|:)?=[ \t]*(.*)$", re.MULTILINE)
_COMPLAINT = re.compile(r"(?:error: |undefined reference to ).*")
_SHIM = "selftests_shim.h"


@dataclass(frozen=True, slots=True)
class Selftest:
    """``name`` as in ``iommu/iommufd``. ``path`` is the program, None where it could not be built: ``why`` says why.

    ``supplied`` names what the project had to add for it to compile.
    """

    name: str
    path: Path | None
    why: str = ""
    supplied: str = ""


def built() -> tuple[Selftest, ...]:
    """What the last build left. Raises UsageError where there was none."""
    folder = store.newest("selftests", "*")
    if folder is None:
        raise UsageError("the kernel's selftests are not built yet: run `dmaproof lab selftests`")
    rows = json.loads((folder / "programs.json").read_text(encoding="utf-8"))
    return tuple(Selftest(**{**row, "path": folder / row["path"] if row["path"] else None}) for row in rows)


def supply(tell: Tell = quietly, *, anew: bool = False) -> tuple[Selftest, ...]:
    """The selftests: from the cache, else built. Raises UsageError where headers or a compiler are missing."""
    if not anew and store.newest("selftests", "*") is not None:
        return built()
    toolchain.check("x86_64", _HEADERS)
    with store.locked(tell) as lock:
        tree = kernel_build.source(lock, tell)
        target = store.folder() / "selftests" / tree.name
        with store.making(target) as scratch:
            _build(tree, scratch, lock, tell)
    return built()


def programs(makefile: str) -> tuple[str, ...]:
    """The names that a selftests Makefile says it builds."""
    return tuple(dict.fromkeys(word for line in _PROGRAMS.findall(makefile) for word in line.split()))


def _build(tree: Path, folder: Path, lock: int, tell: Tell) -> None:
    objects, logs = folder / "objects", store.folder() / "logs"
    logs.mkdir(exist_ok=True)
    tell("compiling the kernel's selftests", "headers", None)
    make = ["make", "-C", str(tree), f"O={objects}"]
    child.run([*make, "headers"], logs / "selftests-headers.log", Deadline.after(_BUILD_S), keep=(lock,))
    rows = [row for one in COLLECTIONS for row in _collection(tree, objects, one, lock, tell)]
    for row in rows:
        if row.path is not None:
            (folder / row.name).parent.mkdir(exist_ok=True)
            shutil.copy2(row.path, folder / row.name)
    shutil.rmtree(objects)
    kept = [asdict(row) | {"path": row.name if row.path else None} for row in rows]
    (folder / "programs.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _collection(tree: Path, objects: Path, name: str, lock: int, tell: Tell) -> list[Selftest]:
    """One folder of selftests, as it is; what does not compile so is tried again with the project's shim."""
    tell("compiling the kernel's selftests", name, None)
    wanted = programs((tree / "tools/testing/selftests" / name / "Makefile").read_text(encoding="utf-8"))
    found, why = _make(tree, objects, name, wanted, lock, ())
    if len(found) == len(wanted):
        return [Selftest(f"{name}/{one}", path) for one, path in found.items()]
    with resources.as_file(resources.files("dmaproof.guest") / _SHIM) as shim:
        more, why_still = _make(tree, objects, name, wanted, lock, (f"EXTRA_CFLAGS=-include {shim}",))
    rows = []
    for one in wanted:
        if one in found:
            rows.append(Selftest(f"{name}/{one}", found[one]))
        elif one in more:
            rows.append(Selftest(f"{name}/{one}", more[one], supplied=why))
        else:
            rows.append(Selftest(f"{name}/{one}", None, why_still))
    return rows


def _make(
    tree: Path, objects: Path, name: str, wanted: Sequence[str], lock: int, words: tuple[str, ...]
) -> tuple[dict[str, Path], str]:
    """The programs that came of it, by name, and the compiler's first complaint where some did not."""
    log = store.folder() / "logs" / f"selftests-{name}.log"
    log.write_bytes(b"")
    command = ["make", "-k", "-C", str(tree / "tools/testing/selftests"), f"O={objects}", f"TARGETS={name}", *words]
    with contextlib.suppress(DmaproofError):  # make fails if one program does: what there is, is looked at below
        child.run(command, log, Deadline.after(_BUILD_S), keep=(lock,))
    paths = {one: objects / "kselftest" / name / one for one in wanted}
    complaint = _COMPLAINT.search(log.read_text(encoding="utf-8", errors="replace"))
    why = complaint[0].removeprefix("error: ") if complaint else f"see {log}"
    return {one: path for one, path in paths.items() if path.exists()}, why
