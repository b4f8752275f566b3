"""The table in ``docs/failure.md`` is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

from aiorchd.calls.outcome import RULES

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "failure.md"


def test_the_table_of_the_document_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (yes|no) \| (yes|no) \| ([a-z ]+) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    health = {"failed": "counts against it", "answered": "is alive", "nothing": "says nothing"}
    yes = {True: "yes", False: "no"}
    assert rows == [
        (code, yes[rule.retry], yes[rule.fall_back], health[rule.health], rule.what) for code, rule in RULES.items()
    ]
