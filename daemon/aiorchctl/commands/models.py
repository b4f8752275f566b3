"""``aiorchctl models``: what can answer, and how it fares."""

from __future__ import annotations

from typing import Any

import click

from aiorchctl.command import Group, Invocation, pass_invocation
from aiorchctl.page import Page


@click.group(cls=Group, examples=(("aiorchctl models list", "See models, prices, limits and what they are doing:"),))
def models() -> None:
    """See the models that are configured, and how they fare."""


@models.command(
    name="list",
    examples=(
        ("aiorchctl models list", "See them:"),
        ("aiorchctl models list --json | jq '.[] | {name, live}'", "What each is doing, for a program:"),
    ),
)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List models with prices, limits and live state. A price that is not configured is unknown, which is not free."""
    with invocation.client() as client:
        invocation.tell(client.models_list(), page)


def page(result: list[dict[str, Any]]) -> Page:
    """Tell it to a person."""
    from aiorchctl.commands.targets import targets_table

    return [targets_table(result)]
