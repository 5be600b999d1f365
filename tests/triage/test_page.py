"""docs/signatures.md is what the code says."""

from __future__ import annotations

import re

from dmaproof.triage.page import FILE, page
from dmaproof.triage.signatures import IDS


def test_the_page_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == page(), "run python -m dmaproof.triage.page --write"


def test_every_id_has_its_section_and_every_link_its_target() -> None:
    text = page()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(IDS)
    assert re.findall(r"^\| \[(.+?)\]\(#\1\)", text, re.MULTILINE) == list(IDS)
