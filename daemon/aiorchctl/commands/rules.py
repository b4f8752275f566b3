"""The table of what becomes of a failure: asked again, asked elsewhere, or ended; ``aiorchctl limits --rules`` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorchctl.page import Cell, Column, Page, Paragraph, Table, Words

METHOD: Final = "limits.rules"
"""What the daemon is asked."""

_BREAKER: Final[Mapping[str, str]] = {"failed": "counts against it", "answered": "is alive", "nothing": "says nothing"}


def rules_page(rows: Sequence[Mapping[str, Any]]) -> Page:
    """Tell it to a person."""
    columns = (Column("error"), Column("same model"), Column("next model"), Column("breaker"), Column("what it is"))
    table = Table(columns, [_row(row) for row in rows], "What becomes of a failed attempt")
    return [
        table,
        Paragraph(
            "An error that says of itself that asking again is no use (retryable: false) is not sent to the same model again. "
            "Once content of a stream has reached its caller nothing is asked again: the call ends as incomplete_stream. All "
            "attempts of a call share one budget (retry.max_attempts) and its one deadline."
        ),
    ]


def _row(row: Mapping[str, Any]) -> list[Cell]:
    retry, fall_back = row.get("retry"), row.get("fall_back")
    return [
        str(row.get("code")),
        Words("asked again", "good") if retry else "no",
        Words("asked", "good") if fall_back else Words("no: the call ends", "doubtful"),
        _BREAKER.get(str(row.get("breaker")), "–"),
        str(row.get("what") or ""),
    ]
