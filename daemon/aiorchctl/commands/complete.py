"""``aiorchctl complete``: one answer, whole or as it comes."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

import aiorch
from aiorchctl.command import Command, Invocation, pass_invocation, write_json
from aiorchctl.commands.asking import LENGTH_OF_TIME, footer, given, input_value
from aiorchctl.completing import models, operations
from aiorchctl.page import harmless


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl complete 'Name three rivers'", "Ask:"),
        (
            "aiorchctl complete --stream --model small - < letter.txt",
            "See the answer as it comes, the prompt from a file:",
        ),
        (
            "aiorchctl complete --schema tags.schema.json --json 'Tag this: ...' | jq .data",
            "An answer that is checked against a JSON Schema and parsed:",
        ),
        (
            "aiorchctl complete --operation tag_page --input @page.json",
            "A kind of work that the configuration describes, on an input:",
        ),
        ("aiorchctl complete --cache only 'Name three rivers'", "Only if it is known already; never ask a provider:"),
    ),
    exits=(
        (64, "The question is wrong: an option, an unknown model, or longer than the model takes."),
        (70, "It failed; for instance the answer broke its schema, or the provider refused the question."),
        (75, "It failed, and trying again may help: the provider or the daemon is busy, or the time was up."),
        (78, "No model is configured, or the provider refused the daemon's key."),
    ),
)
@click.argument("prompt", metavar="[PROMPT]", required=False)
@click.option(
    "--operation",
    metavar="NAME",
    shell_complete=operations,
    help="Instead of a prompt: a kind of work that is configured.",
)
@click.option(
    "--input",
    "given_input",
    metavar="JSON|@FILE",
    help="What it is done on: JSON, or a file of it; - is standard input.",
)
@click.option("--stream", is_flag=True, help="Show the answer as it comes; with --json one line for each piece.")
@click.option("--model", metavar="NAME", shell_complete=models, help="Which model; otherwise the daemon chooses.")
@click.option("--system", metavar="TEXT", help="Instructions that stand before the prompt.")
@click.option("--timeout", "timeout_s", type=LENGTH_OF_TIME, metavar="TIME", help="Give up after, such as 30s or 2m.")
@click.option(
    "--cache",
    type=click.Choice(("use", "refresh", "bypass", "only")),
    help="use kept answers; refresh: ask anew and keep; bypass: neither look nor keep; only: never ask a provider.",
)
@click.option(
    "--cache-ttl",
    "cache_ttl_s",
    type=LENGTH_OF_TIME,
    metavar="TIME",
    help="How old the answer may be, kept or to be kept.",
)
@click.option(
    "--cache-samples",
    type=click.IntRange(0, 100),
    metavar="N",
    help="With a temperature: keep up to N answers, and take one of them once they are there.",
)
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="A JSON Schema that the answer must satisfy; - is standard input.",
)
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 10),
    metavar="X",
    help="Above 0, no answer is kept, but for --cache-samples.",
)
@click.option("--seed", type=int, metavar="N", help="For models that can repeat themselves.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End the answer here; may be given several times.")
@click.option("--task", metavar="KIND", help="Kind of task, such as classification, for choosing a model.")
@click.option("--quality-threshold", type=click.FloatRange(0, 1), metavar="X", help="Quality wanted, 0 to 1.")
@click.option("--cost-limit", type=click.FloatRange(0), metavar="USD", help="The most it may cost.")
@click.option("--priority", type=click.Choice(("interactive", "normal", "bulk")), help="Who goes first in the queue.")
@click.option("--partition", metavar="NAME", help="Share kept answers within this name only.")
@click.option("--session", metavar="NAME", help="Group calls that belong together.")
@click.option("--key", metavar="TEXT", help="Your own name for the question: asked again, it is paid once.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Label the call; may be given several times.")
@click.option("--extra", metavar="JSON", help="Fields for the provider, passed on untouched, as a JSON map.")
@pass_invocation
def complete(
    invocation: Invocation,
    /,
    prompt: str | None,
    *,
    given_input: str | None,
    stream: bool,
    system: str | None,
    schema: str | None,
    extra: str | None,
    **options: Any,
) -> None:
    """Ask a model, or have an operation done. PROMPT may be - for standard input."""
    operation = options["operation"]
    if (prompt is None) == (operation is None):
        raise click.UsageError("give a PROMPT, or --operation with --input")
    if (operation is None) != (given_input is None):
        raise click.UsageError("--operation and --input belong together")
    if operation is not None and system is not None:
        raise click.UsageError("--system belongs to a PROMPT; an operation has its own")
    if prompt == "-":
        if schema == "-":
            raise click.UsageError("PROMPT and --schema cannot both be standard input")
        prompt = sys.stdin.read()
    asked = given(options)
    if schema is not None:
        asked["output_schema"] = _json(_content(schema), "--schema")
    if given_input is not None:
        asked["input"] = input_value(given_input, "--input")
    if extra is not None:
        asked["extra"] = _json(extra, "--extra")
    text: str | None = prompt
    if prompt is not None and system is not None:
        text = None
        asked["messages"] = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    with invocation.client() as client:
        if stream:
            _stream(invocation, client.stream(text, **asked))
            return
        reply = client.complete(text, **asked)
    if invocation.as_json:
        write_json(reply.raw)
    else:
        _write_answer(reply.text, reply.tool_calls)
        footer(reply.raw)


def _stream(invocation: Invocation, stream: aiorch.Stream) -> None:
    """Write pieces as they come; after the last one the reply (JSON) or the line about it (a person)."""
    ended_line = True
    try:
        with stream:
            for piece in stream:
                if invocation.as_json:
                    write_json({"delta": piece}, line=True)
                else:
                    sys.stdout.write(_shown(piece))
                    ended_line = piece.endswith("\n")
                sys.stdout.flush()
    finally:
        if not ended_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
    reply = stream.reply
    if invocation.as_json:
        write_json(reply.raw, line=True)
        return
    _write_answer("", reply.tool_calls)
    footer(reply.raw)


def _write_answer(text: str, tool_calls: Any) -> None:
    if text:
        shown = _shown(text)
        sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
    for call in tool_calls:
        sys.stdout.write(_shown(json.dumps(call, ensure_ascii=False)) + "\n")


def _shown(text: str) -> str:
    """An answer goes unchanged into a pipe; on a terminal it must not steer it."""
    return harmless(text) if sys.stdout.isatty() else text


def _content(path: str) -> str:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return str(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--schema: {path} cannot be read: {error}") from error


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: is not JSON: {error}") from error
