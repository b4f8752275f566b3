"""``aiorchctl cache``: what is kept, and forgetting it."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from aiorchctl.command import Group, Invocation, pass_invocation
from aiorchctl.commands.fill import fill_fields
from aiorchctl.failures import Failed
from aiorchctl.page import Page, Paragraph, Words
from aiorchctl.quantities import plural

_DECLINED: Final = 1
"""Exit code for a person who said no; sysexits has none."""


@click.group(
    cls=Group,
    examples=(
        ("aiorchctl cache stats", "See what is kept:"),
        (
            "aiorchctl cache forget --request-id ID",
            "Forget one wrong answer; the id is that of any reply that gave it:",
        ),
    ),
)
def cache() -> None:
    """Look at the answers that are kept, and forget some or all."""


@cache.command(
    examples=(
        ("aiorchctl cache stats", "How full is it?"),
        ("aiorchctl cache stats --json | jq .memory", "Of the memory alone, exactly:"),
    )
)
@pass_invocation
def stats(invocation: Invocation) -> None:
    """Tell what the cache holds, in memory and on disk."""
    with invocation.client() as client:
        invocation.tell(client.cache_stats(), lambda result: [fill_fields(result)])


@cache.command(
    examples=(
        ("aiorchctl cache clear", "Forget everything, after a question:"),
        ("aiorchctl cache clear --yes", "In a script:"),
    ),
    exits=((1, "Whoever was asked said no."), (77, "You are no administrator of this daemon.")),
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def clear(invocation: Invocation, *, yes: bool) -> None:
    """Forget all answers of all users. For administrators; what is forgotten will be paid for again."""
    if not yes:
        if not _somebody_there():
            raise click.UsageError("this forgets all answers, and nobody can be asked here; say --yes")
        if not click.confirm("Forget all answers of all users?", err=True):
            raise Failed("declined", "nothing was forgotten", _DECLINED)
    with invocation.client() as client:
        invocation.tell({"removed": client.cache_clear()}, _removed)


@cache.command(
    examples=(
        ("aiorchctl cache forget --request-id ID", "The answer that this call got:"),
        ("aiorchctl cache forget --tag nightly", "All answers to calls with a tag:"),
    )
)
@click.option("--request-id", metavar="ID", help="The answer that this call got or gave.")
@click.option("--tag", metavar="TAG", help="Answers to calls with this tag.")
@pass_invocation
def forget(invocation: Invocation, *, request_id: str | None, tag: str | None) -> None:
    """Forget some of your own answers; administrators forget anybody's."""
    if request_id is None and tag is None:
        raise click.UsageError("name what to forget with --request-id or --tag; `aiorchctl cache clear` forgets all")
    with invocation.client() as client:
        invocation.tell({"removed": client.cache_forget(request_id=request_id, tag=tag)}, _removed)


def _somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _removed(result: dict[str, Any]) -> Page:
    removed = int(result["removed"])
    return [Paragraph(Words(f"forgot {plural(removed, 'answer')}", "good" if removed else "doubtful"))]
