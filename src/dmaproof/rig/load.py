"""From what a person writes after ``--rig`` to a Rig: profiles by name, files by path, one clear line when wrong."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError

from dmaproof.errors import RigError
from dmaproof.inputs import whole
from dmaproof.nearest import did_you_mean
from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import NAMED, Node, Rig

_PROFILES = resources.files("dmaproof.rig") / "profiles"
_MOST_NBYTES = 4 << 20


def profile_ids() -> list[str]:
    """The ids of the profiles that come with dmaproof, such as ``virtual:hgx-h100``."""
    return sorted(_profiles())


@functools.cache
def _profiles() -> Mapping[str, str]:
    """The text of every profile, by id."""
    texts = [entry.read_text() for entry in _PROFILES.iterdir() if entry.name.endswith(".toml")]
    return {"{kind}:{name}".format_map(tomllib.loads(text)): text for text in texts}


def load(word: str) -> Rig:
    """The rig called ``word``: ``KIND:NAME`` for a profile, else the path of a rig file.

    Raises RigError, one line naming the file, the key and the nearest valid word.
    """
    if word.endswith(".toml") or "/" in word or _is_file(word):
        return parse(_read(Path(word)), word)
    if word in profile_ids():
        return parse(_profiles()[word], f"{word} (profile)")
    words = [*profile_ids(), "auto", "host"]
    raise RigError(f"unknown rig {word!r}: {did_you_mean(word, words)} (or the path of a rig file ending in .toml)")


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # such as a word too long to be a file's name
        return False


def _read(path: Path) -> str:
    try:
        return whole(path, _MOST_NBYTES).decode("utf-8-sig")  # editors on Windows begin a file with a mark
    except OSError as error:
        raise RigError(f"cannot read rig file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RigError(f"rig file {path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def parse(text: str, where: str) -> Rig:
    """The rig that the TOML ``text`` declares; ``where`` names it in messages."""
    table = expand(_toml(text, where), where)
    try:
        return Rig.model_validate(table)
    except ValidationError as error:
        raise RigError(f"{where}: {_first(error)}") from None


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and int()'s own for a number of thousands of digits
        raise RigError(f"{where} is not TOML: {error}") from None
    except RecursionError:
        raise RigError(f"{where} is not TOML of a rig: tables or arrays are nested too deep") from None


def expand(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``table`` with ``extends = "KIND:NAME"`` and every node's ``gpu_defaults`` carried out.

    The extension comes first: defaults that a file writes reach the GPUs that it inherits, unless a GPU says its own.
    """
    expanded = dict(_extended(table, where))
    if isinstance(expanded.get("node"), dict):
        expanded["node"] = {
            name: _with_defaults(node, f"{where}: node.{name}") if isinstance(node, dict) else node
            for name, node in expanded["node"].items()
        }
    return expanded


def _extended(table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if "extends" not in table:
        return table
    own = {key: value for key, value in table.items() if key != "extends"}
    base_id = table["extends"]
    if base_id not in profile_ids():
        raise RigError(f"{where}: extends: unknown profile {base_id!r}: {did_you_mean(str(base_id), profile_ids())}")
    base = tomllib.loads(_profiles()[base_id])
    return merge(_extended(base, base_id), own)


def _with_defaults(node: dict[str, Any], where: str) -> dict[str, Any]:
    defaults = node.get("gpu_defaults", {})
    if not isinstance(defaults, dict):
        raise RigError(f"{where}.gpu_defaults = {defaults!r}: must be a table of GPU keys")
    for key in defaults:
        if key not in Gpu.model_fields:
            raise RigError(f"{where}.gpu_defaults: unknown key {key!r}: {did_you_mean(key, Gpu.model_fields)}")
    own = {key: value for key, value in node.items() if key != "gpu_defaults"}
    gpus = node.get("gpu")
    if isinstance(gpus, dict):
        own["gpu"] = {name: {**defaults, **gpu} if isinstance(gpu, dict) else gpu for name, gpu in gpus.items()}
    return own


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, table by table; anything else is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def dump(rig: Rig) -> str:
    """``rig`` as TOML that ``parse`` reads back equal."""
    table = rig.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for node in table["node"].values():
        for named in (node, *(part for kind in NAMED for part in node.get(kind, {}).values())):
            named.pop("name", None)  # the table's key says it
    return tomli_w.dumps(table)


def _first(error: ValidationError) -> str:
    """The first of pydantic's complaints as ``key: what is wrong``, with the nearest valid key for a misspelt one."""
    details = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(_key(part) for part in details["loc"] if part != "[key]")
    if details["type"] == "extra_forbidden":
        return f"unknown key {where!r}: {did_you_mean(str(details['loc'][-1]), _valid_keys(details['loc']))}"
    if details["type"] == "missing":
        return f"{where} is missing"
    if details["type"] == "literal_error":
        words = str(details.get("ctx", {}).get("expected", "")).replace("' or '", "', '").strip("'").split("', '")
        return f"{where} = {details['input']!r}: {did_you_mean(str(details['input']), words)}"
    message = _TOML_WORDS.get(details["type"], details["msg"].removeprefix("Value error, "))
    value = details["input"]
    if isinstance(value, str | int | float) and not message.startswith(repr(value)):
        return f"{where} = {value!r}: {message}"
    return f"{where}: {message}" if where else message


def _key(part: int | str) -> str:
    """A key as TOML would have it written where it is more than a word: messages stay one line."""
    return str(part) if isinstance(part, int) or (part and part.isprintable()) else repr(part)


_TOML_WORDS = {
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "tuple_type": "must be an array",
    "string_type": "must be a string",
    "too_short": "must not be empty",
}
"""What pydantic says in Python's words, in TOML's."""


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
