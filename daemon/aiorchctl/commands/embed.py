"""``aiorchctl embed``: vectors for texts."""

from __future__ import annotations

import math
import sys
from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.asking import LENGTH_OF_TIME, footer, given
from aiorchctl.completing import models
from aiorchctl.page import Column, Page, Table, harmless, show

_SHOWN = 4


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl embed 'a red fox' 'a blue whale'", "Two texts; a person sees the beginning of each vector:"),
        ("aiorchctl embed --json - < texts.txt", "One text a line from standard input, whole vectors:"),
    ),
    exits=(
        (64, "The question is wrong: an option, an unknown model, or longer than the model takes."),
        (70, "It failed; for instance the provider refused the question."),
        (75, "It failed, and trying again may help: the provider or the daemon is busy, or the time was up."),
        (78, "No model is configured, or the provider refused the daemon's key."),
    ),
)
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("--model", metavar="NAME", shell_complete=models, help="Which model; otherwise the first enabled one.")
@click.option("--dimensions", type=click.IntRange(1), metavar="N", help="Length of the vectors, where the model can.")
@click.option("--timeout", "timeout_s", type=LENGTH_OF_TIME, metavar="TIME", help="Give up after, such as 30s or 2m.")
@click.option("--cache", type=click.Choice(("use", "refresh", "bypass", "only")), help="What to do about kept answers.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Label the call; may be given several times.")
@pass_invocation
def embed(invocation: Invocation, /, texts: tuple[str, ...], **options: Any) -> None:
    """Turn texts into vectors. TEXT may be - for standard input, one text a line."""
    if texts == ("-",):
        texts = tuple(line for line in (line.rstrip("\r\n") for line in sys.stdin) if line)
        if not texts:
            raise click.UsageError("standard input holds no text")
    with invocation.client() as client:
        embedding = client.embed(texts, **given(options))
    if invocation.as_json:
        invocation.tell({**embedding.raw, "vectors": [list(vector) for vector in embedding.vectors]}, page)
    else:
        show(page({"texts": texts, "vectors": embedding.vectors}))
        footer(embedding.raw)


def page(result: dict[str, Any]) -> Page:
    """Show the beginning of each vector."""
    columns = (Column("text"), Column("dimensions", right=True), Column("length", right=True), Column("vector"))
    rows = []
    for text, vector in zip(result["texts"], result["vectors"], strict=True):
        shown = " ".join(f"{number:+.4f}" for number in vector[:_SHOWN])
        more = " …" if len(vector) > _SHOWN else ""
        length = math.sqrt(sum(number * number for number in vector))
        rows.append((_clipped(text), str(len(vector)), f"{length:.3f}", shown + more))
    return [Table(columns, rows)]


def _clipped(text: str) -> str:
    line = " ".join(harmless(text).split())
    return line if len(line) <= 40 else line[:39] + "…"
