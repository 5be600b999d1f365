"""The page of signatures, docs/signatures.md, made from the code.

``python -m dmaproof.triage.page`` prints it; ``--write`` puts it into docs/.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from dmaproof.triage.signature import Floor, Signature
from dmaproof.triage.signatures import SIGNATURES, unattributed

FILE = Path(__file__).parents[3] / "docs" / "signatures.md"
_FLOORS: dict[Floor, str] = {
    "cause": "A cause: it explains what follows from it, which is then not named beside it.",
    "effect": "An effect: named only for what no cause explains.",
    "bystander": "A bystander: named only where nothing else explains it.",
}
_INTRO = """\
# Signatures

What triage can name, in a run (`pytest suites`) and from a log alone (`dmaproof triage LOG`). An id is a public
contract: it does not change. Made by `python -m dmaproof.triage.page --write` from `src/dmaproof/triage/signatures/`.

- **certain**: observers that are independent of each other agree (the log and the PCI topology, the owner of the memory
  and the writer, NVML and the kernel).
- **probable**: one observer says so, such as a log alone.
- **possible**: it fits, and so would other things.

Every signature looks at a case on its floor: first causes, then effects, then bystanders. What a finding explains is
hidden from all others, so that a GPU that its port cut off is named once; a second cause, on another GPU, is still
named. In a test, only the test's own GPUs can be blamed; a log alone has no test, so every device counts. Each verdict
also says what could not be seen.
"""


def page() -> str:
    """The whole of docs/signatures.md."""
    rows = [f"| [{one.id}](#{one.id}) | {one.floor} | {one.title} |" for one in SIGNATURES]
    rows += [f"| [{name}](#{name}) | - | {title} |" for name, title in _FALLBACKS]
    table = "\n".join(["| id | floor | what it says |", "| --- | --- | --- |", *rows])
    sections = [*map(_section, SIGNATURES), *(f"## {name}\n\n{title}" for name, title in _FALLBACKS)]
    return "\n\n".join([_INTRO.rstrip(), table, *sections]) + "\n"


_SAID = "The verdict says what was looked at and what could not be seen."
_FALLBACKS = (
    (
        unattributed.HANG_ID,
        f"{unattributed.HANG_TITLE} The verdict says what was looked at and what could not be seen.",
    ),
    (unattributed.ID, f"{unattributed.TITLE} The verdict says what was looked at and what could not be seen."),
)


def _section(one: Signature) -> str:
    parts = [
        f"## {one.id}",
        f"**{one.title}**",
        _background(one),
        "\n".join([f"- Needs: {one.needs}", f"- Excluded by: {one.excludes}", f"- {_FLOORS[one.floor]}"]),
        f"What to do: {one.remedy}",
        "\n".join(f"- {reference}" for reference in one.references),
    ]
    return "\n\n".join(part for part in parts if part)


def _background(one: Signature) -> str:
    """The documentation of the signature's module; its double backquotes are reStructuredText's."""
    text = sys.modules[one.match.__module__].__doc__ or ""
    return "\n\n".join(
        textwrap.fill(part, 120, break_on_hyphens=False) for part in _paragraphs(text.replace("``", "`"))
    )


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the page into docs/")
    if parser.parse_args().write:
        FILE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
