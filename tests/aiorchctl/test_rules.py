"""The table behind ``aiorchctl limits --rules``."""

from __future__ import annotations

from aiorchctl.commands.rules import rules_page
from aiorchctl.page import Paragraph, Table, Words
from aiorchd.calls.outcome import RULES, rules


def test_every_error_has_its_row_in_words() -> None:
    table, explained = rules_page(rules())
    assert isinstance(table, Table)
    assert isinstance(explained, Paragraph)
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == list(RULES)
    assert list(rows["provider_error"][1:4]) == [
        Words("asked again", "good"),
        Words("asked", "good"),
        "counts against it",
    ]
    assert list(rows["invalid_request"][1:3]) == ["no", Words("no: the call ends", "doubtful")]
    assert "incomplete_stream" in str(explained.words)
