"""``aiorchctl config override`` and ``reset``: changes over the file, live, until the daemon ends."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.config.names import caller_names, model_names, operation_names, provider_names
from aiorchctl.commands.config.show import literal
from aiorchctl.commands.config.signed import SignedCommand
from aiorchctl.commands.verdict import doubts, problem_line
from aiorchctl.completing import config_keys, config_parts, config_values
from aiorchctl.page import Cell, Fields, Page, Words
from aiorchctl.quantities import count, number_of

if TYPE_CHECKING:
    import aiorch


@click.command(
    cls=SignedCommand,
    examples=(
        ("aiorchctl config override models.small.enabled false", "Take a model out for now:"),
        ("aiorchctl config override daemon.log_level debug", "Look closer for a while:"),
        ("aiorchctl config override cache.strategy memory --json", "From a program:"),
    ),
    exits=((64, "There is no such key, or it is not overridden."), (78, "The daemon refused the value.")),
)
@click.argument("key", metavar="KEY", shell_complete=config_keys)
@click.argument("value", metavar="VALUE", shell_complete=config_values)
@pass_invocation
def override(invocation: Invocation, key: str, value: str) -> int:
    """Set a dotted KEY over the file, live. It is kept apart from the file, survives reloads, and ends with `config reset`
    or the daemon. Who may do what and where keys go is not overridden. For administrators.

    A negative number is a value (`-3`); other text that begins with a dash stands after `--`.
    """
    with invocation.client() as client:
        result = client.config_override(key, _value(client, key, value))
    invocation.tell(result, _page)
    return os.EX_CONFIG if result.get("result") == "refused" else os.EX_OK


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl config reset cache.ttl_s", "One key:"),
        ("aiorchctl config reset", "All of them:"),
    ),
)
@click.argument("key", required=False, metavar="[KEY]", shell_complete=config_parts)
@pass_invocation
def reset(invocation: Invocation, key: str | None) -> int:
    """Take an override away, those below a section, or all: what the file says holds again. For administrators."""
    with invocation.client() as client:
        result = client.config_reset(key)
    invocation.tell(result, _page)
    return os.EX_CONFIG if result.get("result") == "refused" else os.EX_OK


def _value(client: aiorch.Client, key: str, text: str) -> Any:
    """Read the value by what the key expects; of a key that there is not, as TOML or text: the daemon says what is wrong."""
    from aiorchd.config.address import AddressError, find_address
    from aiorchd.config.values import value_from_text

    in_force = client.config_get()
    try:
        address = find_address(
            key,
            providers=provider_names(in_force),
            models=model_names(in_force),
            callers=caller_names(in_force),
            operations=operation_names(in_force),
        )
        return value_from_text(text, address.shape)
    except AddressError:
        try:
            read = tomllib.loads(f"value = {text}")
        except tomllib.TOMLDecodeError:
            return text
        return read["value"]


def _page(result: dict[str, Any]) -> Page:
    generation = count(number_of(result, "generation"))
    said = result.get("result")
    words: Cell
    if said == "refused":
        problems = "\n".join(problem_line(problem) for problem in result.get("problems") or ())
        words = Words(f"refused; generation {generation} stays in force:\n{problems}", "bad")
    elif said == "unchanged":
        words = Words(f"nothing to change; generation {generation} is in force", "good")
    else:
        changed = ", ".join(map(str, result.get("changed") or ())) or "nothing that matters"
        words = Words(f"live as generation {generation}\nchanged: {changed}", "good")
    overrides = result.get("overrides")
    held = overrides if isinstance(overrides, dict) else {}
    listed = "\n".join(f"{name} = {literal(value)}" for name, value in held.items()) or "none"
    return [Fields([("configuration", words), *doubts(result), ("overrides", listed)])]
