"""What a QEMU can do: it is asked, by QMP (device-list-properties), never judged by its version."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from dmaproof.errors import UsageError

_ASK_S = 20.0
_EVERYWHERE = ("id", "bus", "addr", "chardev", "drive")  # of the bus or the back end, not the model's own


def needed(arguments: Sequence[str]) -> tuple[str, ...]:
    """What a QEMU must have to take ``arguments``: the models and properties of its ``-device`` options."""
    found: dict[str, None] = {}
    for option, value in pairwise(arguments):
        if option == "-device":
            model, *settings = value.split(",")
            found[model] = None
            names = (one.partition("=")[0] for one in settings)
            found |= {f"{model}.{name}": None for name in names if name not in _EVERYWHERE}
    return tuple(found)


def ask(argv: Sequence[str], wanted: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The version of the QEMU that ``argv`` runs, and what of ``wanted`` it lacks. Raises UsageError if silent."""
    models = list(dict.fromkeys(one.partition(".")[0] for one in wanted))
    said = iter(_converse(argv, [_question(model) for model in models]))
    greeting = next(said)
    has: set[str] = set()
    for model, answer in zip(models, said, strict=True):
        if "return" in answer:
            has |= {model, *(f"{model}.{one['name']}" for one in answer["return"])}
    number = greeting["QMP"]["version"]["qemu"]
    return "{major}.{minor}.{micro}".format(**number), tuple(one for one in wanted if one not in has)


def _question(model: str) -> dict[str, Any]:
    return {"execute": "device-list-properties", "arguments": {"typename": model}}


def _converse(argv: Sequence[str], questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """QEMU's greeting, and an answer to each question: docs/interop/qmp-spec.rst."""
    lines = [{"execute": "qmp_capabilities"}, *questions, {"execute": "quit"}]
    asked = "\n".join(json.dumps(one) for one in lines)
    words = [*argv, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    try:
        said = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{argv[0]} does not run: {error}") from None
    answers = [one for one in _objects(said.stdout) if "event" not in one]
    if len(answers) != len(lines) + 1:
        last = (said.stderr.strip().splitlines() or [f"exit status {said.returncode}"])[-1]
        raise UsageError(f"{argv[0]} does not answer by QMP: {last}")
    return [answers[0], *answers[2:-1]]


def _objects(text: str) -> list[dict[str, Any]]:
    """One JSON object a line; what a wrapper may say besides is left out."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
