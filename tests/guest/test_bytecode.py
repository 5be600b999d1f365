"""This very Python stands in for another one: what compiles is a program of its own in either case."""

from __future__ import annotations

import importlib.util
import marshal
import sys
import time
from pathlib import Path
from types import CodeType

import pytest

from dmaproof.errors import DmaproofError
from dmaproof.guest.bytecode import Compiler, compiled

HERE = Compiler((sys.executable,), f"{sys.version_info[0]}.{sys.version_info[1]}")
UNCHECKED = b"\1\0\0\0"  # PEP 552


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text("ANSWER = 42\n")
    return path


def test_bytecode_runs_under_the_name_it_will_have(source: Path, cache: Path) -> None:
    (path,) = compiled(HERE, {"/usr/lib/there/module.py": source}).values()
    content = path.read_bytes()
    assert content[:4] == importlib.util.MAGIC_NUMBER
    assert content[4:8] == UNCHECKED
    code = marshal.loads(content[16:])  # noqa: S302 - this test had it written
    assert isinstance(code, CodeType)
    assert code.co_filename == "/usr/lib/there/module.py"
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - as above
    assert names["ANSWER"] == 42
    assert path.is_relative_to(cache)


def test_only_what_changed_is_compiled(source: Path, cache: Path) -> None:
    before = compiled(HERE, {"/m.py": source})
    nobody = Compiler(("/bin/false",), HERE.version)
    assert compiled(nobody, {"/m.py": source}) == before
    source.write_text("ANSWER = 43\n")
    with pytest.raises(DmaproofError, match="/bin/false cannot compile"):
        compiled(nobody, {"/m.py": source})
    assert compiled(HERE, {"/m.py": source}) != before


def test_a_module_that_is_no_python_is_named(source: Path, cache: Path) -> None:
    source.write_text("def\n")
    with pytest.raises(DmaproofError, match="SyntaxError"):
        compiled(HERE, {"/m.py": source})


def test_the_cache_does_not_grow_without_end(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmaproof.guest.bytecode._KEPT", 2)
    for number in range(4):
        source.write_text(f"ANSWER = {number}\n")
        latest = compiled(HERE, {"/m.py": source})
        time.sleep(0.01)  # a coarse clock's tick
    kept = list((cache / "bytecode" / HERE.tag).iterdir())
    assert len(kept) == 2
    assert latest["/m.py"] in kept
