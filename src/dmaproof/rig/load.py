"""From what a person writes after ``--rig`` to a Rig: profiles by name, files by path, one clear line when wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError

from dmaproof.errors import RigError
from dmaproof.nearest import did_you_mean
from dmaproof.rig.model import Node, Rig

_PROFILES = resources.files("dmaproof.rig") / "profiles"


def profile_ids() -> list[str]:
    """The ids of the profiles that come with dmaproof, such as ``virtual:hgx-h100``."""
    tables = (tomllib.loads(entry.read_text()) for entry in _PROFILES.iterdir() if entry.name.endswith(".toml"))
    return sorted(f"{table['kind']}:{table['name']}" for table in tables)


def load(word: str) -> Rig:
    """The rig called ``word``: ``KIND:NAME`` for a profile, else the path of a rig file.

    Raises RigError, one line naming the file, the key and the nearest valid word.
    """
    if word.endswith(".toml") or Path(word).is_file():
        return parse(_read(Path(word)), word)
    if word in profile_ids():
        name = word.partition(":")[2]
        return parse((_PROFILES / f"{name}.toml").read_text(), f"{word} (profile)")
    words = [*profile_ids(), "auto", "host"]
    raise RigError(f"unknown rig {word!r}: {did_you_mean(word, words)} (or the path of a rig file ending in .toml)")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RigError(f"cannot read rig file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RigError(f"rig file {path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def parse(text: str, where: str) -> Rig:
    """The rig that the TOML ``text`` declares; ``where`` names it in messages."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RigError(f"{where} is not TOML: {error}") from None
    table = expand(table, where)
    try:
        return Rig.model_validate(table)
    except ValidationError as error:
        raise RigError(f"{where}: {_first(error)}") from None


def expand(table: dict[str, Any], where: str) -> dict[str, Any]:
    """``table`` with ``extends = "KIND:NAME"`` and every node's ``gpu_defaults`` carried out."""
    base_id = table.pop("extends", None)
    if base_id is not None:
        if base_id not in profile_ids():
            raise RigError(
                f"{where}: extends: unknown profile {base_id!r}: {did_you_mean(str(base_id), profile_ids())}"
            )
        base = tomllib.loads((_PROFILES / f"{base_id.partition(':')[2]}.toml").read_text())
        table = merge(expand(base, base_id), table)
    for node in _tables(table.get("node")):
        defaults = node.pop("gpu_defaults", {})
        if defaults and isinstance(node.get("gpu"), dict):
            node["gpu"] = {name: {**defaults, **gpu} for name, gpu in node["gpu"].items()}
    return table


def _tables(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value.values() if isinstance(entry, dict)] if isinstance(value, dict) else []


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, table by table; anything else is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def dump(rig: Rig) -> str:
    """``rig`` as TOML that ``parse`` reads back equal."""
    return tomli_w.dumps(rig.model_dump(mode="json", exclude_none=True, exclude_defaults=True))


def _first(error: ValidationError) -> str:
    """The first of pydantic's complaints as ``key: what is wrong``, with the nearest valid key for a misspelt one."""
    details = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in details["loc"]) or "the file"
    if details["type"] == "extra_forbidden":
        return f"unknown key {where!r}: {did_you_mean(str(details['loc'][-1]), _valid_keys(details['loc']))}"
    if details["type"] == "missing":
        return f"{where} is missing"
    if details["type"] == "literal_error":
        words = str(details.get("ctx", {}).get("expected", "")).replace("' or '", "', '").strip("'").split("', '")
        return f"{where} = {details['input']!r}: {did_you_mean(str(details['input']), words)}"
    return (
        f"{where} = {details['input']!r}: {details['msg'].removeprefix('Value error, ')}"
        if _small(details["input"])
        else f"{where}: {details['msg'].removeprefix('Value error, ')}"
    )


def _small(value: object) -> bool:
    return isinstance(value, str | int | float)


def _valid_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at ``loc`` may have, found by walking the model along ``loc``."""
    here: Any = Rig
    for part in loc[:-1]:
        if isinstance(part, int):  # an entry of a tuple: _inner has stepped through the tuple already
            continue
        here = _inner(here.model_fields[str(part)].annotation) if _is_model(here) else _inner(get_args(here)[-1])
    if not _is_model(here):
        return []
    return [*here.model_fields, *{Rig: ["extends"], Node: ["gpu_defaults"]}.get(here, [])]


def _inner(annotation: Any) -> Any:
    """The model or container inside ``X | None`` and ``tuple[X, ...]``'s trailing dots."""
    options = [arg for arg in get_args(annotation) if arg not in (type(None), Ellipsis)]
    return next((arg for arg in options if _is_model(arg)), annotation) if not _is_dict(annotation) else annotation


def _is_dict(annotation: object) -> bool:
    return get_origin(annotation) is dict


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
