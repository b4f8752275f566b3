"""``aiorchctl config show`` and ``get``: what is in force."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation, write_json
from aiorchctl.commands.config.offline import load_file
from aiorchctl.completing import config_keys, config_parts
from aiorchctl.failures import Failed
from aiorchctl.page import Page, Paragraph, harmless


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl config show", "Everything, one dotted key a line:"),
        ("aiorchctl config show cache", "One section:"),
        ("aiorchctl config show models.small", "One model:"),
    ),
)
@click.argument("key", required=False, metavar="[KEY]", shell_complete=config_parts)
@pass_invocation
def show(invocation: Invocation, key: str | None) -> None:
    """Show what is in force in the running daemon, or the part below a dotted KEY. For administrators."""
    with invocation.client() as client:
        invocation.tell(client.config_get(key), lambda result: _show_page(key, result))


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl config get cache.ttl_s", "The value alone, for a script:"),
        ("aiorchctl config get cache.ttl_s --file new.toml", "What a file would set it to; needs no daemon:"),
    ),
)
@click.argument("key", metavar="KEY", shell_complete=config_keys)
@click.option("--file", metavar="FILE", help="Ask what this file means instead of what is in force.")
@pass_invocation
def get(invocation: Invocation, key: str, file: str | None) -> None:
    """Print the value of one dotted KEY: strings as they are, everything else as TOML, and an empty line for what is not
    set. For administrators.
    """
    if file is None:
        with invocation.client() as client:
            value = client.config_get(key)
    else:
        value = _value_in(file, key)
    if invocation.as_json:
        write_json(value)
    else:
        text = "" if value is None else value if isinstance(value, str) else literal(value)
        sys.stdout.write(f"{harmless(text)}\n")


def _value_in(file: str, key: str) -> Any:
    from aiorchd.config.address import AddressError
    from aiorchd.config.compare import find_value

    _, loaded = load_file(file)
    try:
        return find_value(loaded.config, key)
    except AddressError as error:
        raise Failed("not_found", str(error), os.EX_USAGE) from error


def _show_page(key: str | None, result: Any) -> Page:
    section = "" if key is None else re.split(r"[.\[]", key, maxsplit=1)[0]
    below = isinstance(result, dict) and all(
        key is None or name.startswith((f"{section}.", f"{section}[")) for name in result
    )
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
