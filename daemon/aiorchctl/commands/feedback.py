"""``aiorchctl feedback``: say whether an answer was right."""

from __future__ import annotations

from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.page import Page, Paragraph, Words


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl feedback ID --wrong", "This semantic answer was wrong; the question asks the model next time:"),
        ("aiorchctl feedback ID --right", "This one was right:"),
    ),
)
@click.argument("request_id", metavar="ID")
@click.option("--right/--wrong", "correct", default=None, required=True, help="Whether the answer was right.")
@pass_invocation
def feedback(invocation: Invocation, *, request_id: str, correct: bool) -> None:
    """Say whether the answer to the call ID was right. It counts for semantic answers that were given lately."""
    with invocation.client() as client:
        invocation.tell({"counted": client.feedback(request_id, correct=correct)}, _page)


def _page(result: dict[str, Any]) -> Page:
    if result["counted"]:
        return [Paragraph(Words("noted", "good"))]
    return [Paragraph(Words("that was no semantic answer of late; nothing changes", "doubtful"))]
