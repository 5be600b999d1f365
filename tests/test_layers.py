"""The contracts that import-linter checks name every room of the house: one that is left out is held to nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACTS = {
    one["type"]: one
    for one in reversed(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"])
}
VIRTUAL = "dmaproof.virtual"


def rooms() -> set[str]:
    package = ROOT / "src/dmaproof"
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    return {f"dmaproof.{name}" for name in packages | modules}


def test_every_room_has_a_floor() -> None:
    floors = {name for layer in CONTRACTS["layers"]["layers"] for name in layer.split(" | ")}
    assert floors == rooms() - {VIRTUAL}


def test_no_room_may_see_the_virtual_driver() -> None:
    assert CONTRACTS["forbidden"]["forbidden_modules"] == [VIRTUAL]
    assert set(CONTRACTS["forbidden"]["source_modules"]) == rooms() - {VIRTUAL}
