"""``aiorchctl cache``: what is kept, and forgetting it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from aiorch.errors import StorageError
from aiorchctl.command import Group, Invocation, pass_invocation
from aiorchctl.commands.asking import input_value
from aiorchctl.commands.batching import batching_tables
from aiorchctl.commands.fill import fill_fields
from aiorchctl.commands.semantic import semantic_fields
from aiorchctl.commands.stats import savings_fields
from aiorchctl.completing import operations
from aiorchctl.failures import Failed
from aiorchctl.page import Cell, Fields, Page, Paragraph, Words
from aiorchctl.quantities import number_of, plural

_SAVINGS: Final = ("calls", "saved_calls", "hit_rates", "saved_usd", "saving_unknown_calls", "saved_tokens", "saved_s")
"""What of `stats` the cache is there for."""
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
    """Tell what the cache holds, in memory and on disk, and what it has saved since records began."""
    with invocation.client() as client:
        found = client.cache_stats()
        with contextlib.suppress(StorageError):  # what is kept is known without the records
            told = client.stats()
            found["savings"] = {name: told.get(name) for name in _SAVINGS}
    invocation.tell(found, _page)


def _page(result: dict[str, Any]) -> Page:
    semantic = result.get("semantic")
    told = [semantic_fields(semantic)] if isinstance(semantic, dict) else []
    return [fill_fields(result), *told, *batching_tables(result.get("batching")), *_saved(result)]


@cache.command(
    examples=(
        ("aiorchctl cache clear", "Forget everything, after a question:"),
        ("aiorchctl cache clear --yes", "In a script:"),
        (
            "aiorchctl cache clear --yes --operation tag_page",
            "Those of one operation:",
        ),
    ),
    exits=((1, "Whoever was asked said no."), (77, "You are no administrator of this daemon.")),
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--operation", metavar="NAME", shell_complete=operations, help="Only answers of this operation.")
@pass_invocation
def clear(invocation: Invocation, *, yes: bool, operation: str | None) -> None:
    """Forget all answers of all users. For administrators; what is forgotten will be paid for again."""
    what = "all answers" if operation is None else f"all answers of the operation {operation}"
    if not yes:
        if not _somebody_there():
            raise click.UsageError(f"this forgets {what}, and nobody can be asked here; say --yes")
        if not click.confirm(f"Forget {what} of all users?", err=True):
            raise Failed("declined", "nothing was forgotten", _DECLINED)
    with invocation.client() as client:
        invocation.tell({"removed": client.cache_clear(operation=operation)}, _removed)


@cache.command(
    examples=(
        ("aiorchctl cache forget --request-id ID", "The answer that this call got:"),
        ("aiorchctl cache forget --tag nightly", "All answers to calls with a tag:"),
        ("aiorchctl cache forget --operation tag_page", "Your own answers of one operation:"),
    )
)
@click.option("--request-id", metavar="ID", help="The answer that this call got or gave.")
@click.option("--tag", metavar="TAG", help="Answers to calls with this tag.")
@click.option("--operation", metavar="NAME", shell_complete=operations, help="Answers of this operation.")
@pass_invocation
def forget(invocation: Invocation, *, request_id: str | None, tag: str | None, operation: str | None) -> None:
    """Forget some of your own answers; administrators forget anybody's."""
    if request_id is None and tag is None and operation is None:
        raise click.UsageError(
            "name what to forget with --request-id, --tag or --operation; `aiorchctl cache clear` forgets all"
        )
    if tag is not None and operation is not None:
        raise click.UsageError("name a --tag or an --operation, not both")
    with invocation.client() as client:
        removed = client.cache_forget(request_id=request_id, tag=tag, operation=operation)
        invocation.tell({"removed": removed}, _removed)


@cache.command(
    examples=(
        ("aiorchctl cache explain --operation tag_page @monday.json @tuesday.json", "Are two inputs one question?"),
        ("aiorchctl cache explain --operation tag_page --json @a.json @b.json | jq .differs", "What tells them apart:"),
    ),
    exits=((64, "There is no such operation, or an input does not fit it."),),
)
@click.option("--operation", required=True, metavar="NAME", shell_complete=operations, help="Whose inputs they are.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@pass_invocation
def explain(invocation: Invocation, operation: str, a: str, b: str) -> None:
    """Tell whether two inputs of an operation are one question to the cache, and why. A and B are files, written @FILE, or
    JSON; nobody is asked and nothing is kept.
    """
    inputs = [input_value(f"@{text}" if Path(text).is_file() else text, name) for text, name in ((a, "A"), (b, "B"))]
    with invocation.client() as client:
        invocation.tell(client.cache_explain(operation, *inputs), _compared)


def _compared(result: dict[str, Any]) -> Page:
    verdicts = {
        "exact": Words("equal: the very same question", "good"),
        "normalised": Words("equal but for noise: one answer serves both", "good"),
    }
    equal = str(result.get("equal"))
    rows: list[tuple[str, Cell]] = [
        ("verdict", verdicts.get(equal, Words("not equal: each is asked for itself", "doubtful")))
    ]
    noise = {(str(one["path"]), str(one["rule"])) for one in result.get("noise") or ()}
    if noise:
        rows.append(("noise", "\n".join(f"{path}: {rule}" for path, rule in sorted(noise))))
    shown = result.get("differs") or ()
    if shown:
        title = "differs" if equal == "None" else "not in the prompt"
        rows.append((title, "\n".join(_difference(one) for one in shown)))
    return [Fields(rows)]


def _difference(one: dict[str, Any]) -> str:
    a, b = ("nothing" if one[side] is None else _readable(str(one[side])) for side in ("a", "b"))
    return f"{one['path']}: {a} against {b}"


def _readable(text: str) -> str:
    return text.replace("\\u0001", "#")


def _saved(result: Mapping[str, Any]) -> Page:
    savings = result.get("savings")
    return [savings_fields(savings, "saved")] if savings and number_of(savings, "calls") else []


def _somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _removed(result: dict[str, Any]) -> Page:
    removed = int(result["removed"])
    return [Paragraph(Words(f"forgot {plural(removed, 'answer')}", "good" if removed else "doubtful"))]
