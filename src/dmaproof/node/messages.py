"""What harness and worker say to each other. JSON only: a damaged worker must not get to run code in the harness."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from dmaproof.errors import UsageError


@dataclass(frozen=True, slots=True)
class Note:
    """One dmaproof.progress.note: ``at_s`` is CLOCK_MONOTONIC when it was made."""

    name: str
    data: Mapping[str, Any]
    at_s: float

    def __str__(self) -> str:
        """For people: ``allocation, va 0x7f6a3c000000, nbytes 1024``. Addresses are read in hexadecimal."""
        told = (f"{key} {value:#x}" if key == "va" else f"{key} {value}" for key, value in self.data.items())
        return ", ".join([self.name, *told])


@dataclass(frozen=True, slots=True)
class Call:
    """Run ``workload`` (``module:function``) with ``arguments``. ``path`` is the harness's sys.path."""

    number: int
    workload: str
    arguments: dict[str, Any]
    path: list[str]


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has started: from here on it can be asked for its stacks."""

    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class Noted:
    number: int
    note: Note
    kind: Literal["noted"] = "noted"


@dataclass(frozen=True, slots=True)
class Returned:
    number: int
    value: Any
    kind: Literal["returned"] = "returned"


@dataclass(frozen=True, slots=True)
class Raised:
    number: int
    type_name: str
    message: str
    traceback: str
    kind: Literal["raised"] = "raised"


Reply = Annotated[Ready | Noted | Returned | Raised, Field(discriminator="kind")]
REPLY: TypeAdapter[Ready | Noted | Returned | Raised] = TypeAdapter(Reply)
CALL = TypeAdapter(Call)


def encode(message: Call | Ready | Noted | Returned | Raised) -> bytes:
    """JSON, with NaN and infinities kept: a bandwidth may come out as one, and must not turn into null."""
    fallback = repr if isinstance(message, Noted) else None  # a note must never be what fails a test
    return to_json(message, inf_nan_mode="constants", fallback=fallback)


def encode_any(message: object) -> bytes:
    """Any other dataclass as JSON, numbers kept as ``encode`` keeps them."""
    return to_json(message, inf_nan_mode="constants")


def encode_call(number: int, workload: Callable[..., Any], arguments: Mapping[str, Any], path: list[str]) -> bytes:
    """The frame of a call. Raises UsageError where workload or arguments cannot cross to another process."""
    name = name_of(workload)
    try:
        return encode(Call(number, name, dict(arguments), path))
    except PydanticSerializationError as error:
        raise UsageError(f"arguments of {name} must be JSON-able or dataclasses: {error}") from None


def name_of(workload: Callable[..., Any]) -> str:
    """``module:function``. Raises UsageError for what a fresh process could not import."""
    module, name = getattr(workload, "__module__", None), getattr(workload, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier():
        raise UsageError(f"workload {workload!r} must be a function at the top of an importable module")
    return f"{module}:{name}"


def resolve(name: str) -> Callable[..., Any]:
    """The function called ``name`` (``module:function``)."""
    module, function = name.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


@cache
def result_type(workload: Callable[..., Any]) -> TypeAdapter[Any]:
    """The adapter of the return annotation; without one a workload returns None."""
    return TypeAdapter(_hints(workload).get("return", type(None)))


@cache
def _hints(workload: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(workload, include_extras=True)


@cache
def _argument_type(workload: Callable[..., Any], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(workload).get(name, Any))


def typed_arguments(workload: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` as the workload annotates them: a JSON object becomes its dataclass again. Raises TypeError."""
    typed = {}
    for name, value in arguments.items():
        try:
            typed[name] = _argument_type(workload, name).validate_python(value)
        except ValidationError as error:
            raise TypeError(f"argument {name}={value!r}: {error}") from None
    return typed


def checked_result(workload: Callable[..., Any], value: Any) -> Any:
    """``value`` if it is what the return annotation says, else TypeError."""
    try:
        result_type(workload).validate_python(value, strict=True)
    except ValidationError as error:
        expected = _hints(workload).get("return", None)
        raise TypeError(f"returned {value!r}, annotated as {expected}: {error}") from None
    return value
