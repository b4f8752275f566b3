"""``aiorchctl config``: what is in force, whether a file is right, and reading it now."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from aiorchctl.command import Group, Invocation, pass_invocation
from aiorchctl.commands.verdict import doubts, problem_line, verdict_words
from aiorchctl.failures import Failed
from aiorchctl.page import Fields, Page, Paragraph, Words
from aiorchctl.quantities import plural


@click.group(
    cls=Group,
    examples=(
        ("aiorchctl config check ~/.config/aiorch/aiorch.toml", "Is this file right? Needs no daemon:"),
        ("aiorchctl config show cache", "What is in force?"),
    ),
)
def config() -> None:
    """The configuration."""


@config.command(
    examples=(
        ("aiorchctl config show", "Everything, one dotted key a line:"),
        ("aiorchctl config show cache.ttl_s", "One key:"),
    )
)
@click.argument("key", required=False, metavar="[KEY]")
@pass_invocation
def show(invocation: Invocation, key: str | None) -> None:
    """Show what is in force in the running daemon, or the part below a dotted KEY. For administrators."""
    with invocation.client() as client:
        invocation.tell(client.config_get(key), lambda result: _show_page(key, result))


@config.command(
    examples=(
        ("aiorchctl config check", "The file that a daemon started by you would read:"),
        ("aiorchctl config check new.toml && mv new.toml aiorch.toml", "Before putting a file in place:"),
    )
)
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(dir_okay=True))
@pass_invocation
def check(invocation: Invocation, file: str | None) -> None:
    """Check a file as the daemon would, without one, and tell everything that is wrong. Exits with 78 when it is wrong."""
    from aiorchd.config.load import load
    from aiorchd.config.places import PlaceError, find_config
    from aiorchd.config.problems import ConfigError

    try:
        place = find_config(file, os.environ, os.getuid())
    except PlaceError as error:
        raise Failed("usage", str(error), os.EX_USAGE) from error
    try:
        loaded = load(None if place is None else place.path, os.environ)
    except ConfigError as error:
        sentence = "\n".join(str(problem) for problem in error.problems)
        problems = [problem.to_wire() for problem in error.problems]
        raise Failed("config", sentence, error.exit_code, problems=problems) from error
    result = {
        "ok": True,
        "file": None if place is None else str(place.path),
        "chosen_by": None if place is None else place.rule,
        "fingerprint": loaded.fingerprint,
        "simulated": loaded.simulated,
        "empty": loaded.empty,
        "models": [model.name for model in loaded.config.models],
        "warnings": [warning.to_wire() for warning in loaded.warnings],
    }
    invocation.tell(result, _check_page)


@config.command(examples=(("aiorchctl config reload && echo live", "Read the file now, and know the verdict:"),))
@pass_invocation
def reload(invocation: Invocation) -> int:
    """Have the daemon read its file now. Exits with 78 when it refused it; then the old one stays. For administrators."""
    with invocation.client() as client:
        verdict = client.config_reload()
    invocation.tell(verdict, lambda result: [Fields([("configuration", verdict_words(result)), *doubts(result)])])
    return os.EX_CONFIG if verdict.get("result") == "refused" else os.EX_OK


def _show_page(key: str | None, result: Any) -> Page:
    below = isinstance(result, dict) and all(key is None or name.startswith((f"{key}.", f"{key}[")) for name in result)
    if below and (result or key is None):
        return [Paragraph("\n".join(f"{name} = {literal(value)}" for name, value in result.items()))]
    return [Paragraph(f"{key} = {literal(result)}")]


def literal(value: Any) -> str:
    """Write a value as TOML does; what is not set, which TOML has no word for, as ``(not set)``."""
    if value is None:
        return "(not set)"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _check_page(result: dict[str, Any]) -> Page:
    where = (
        f"{result['file']} (by {result['chosen_by']})" if result["file"] else "no file is named or in the usual places"
    )
    good = "is right" if result["file"] else "the built-in configuration would serve"
    page: list[Any] = [Paragraph(Words(f"{where}: {good}", "good"))]
    if result["simulated"]:
        page.append(Paragraph(Words("It names no models: an embedded simulated one would answer.", "doubtful")))
    else:
        page.append(Paragraph(f"{plural(len(result['models']), 'model')}: {', '.join(result['models'])}"))
    page.extend(Paragraph(Words(f"doubtful: {problem_line(warning)}", "doubtful")) for warning in result["warnings"])
    return page
