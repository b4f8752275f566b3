"""``aiorchctl config``: what is in force and why, whether a file is right, and changing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from aiorchctl.command import LazyGroup

_PLACES: Final[Mapping[str, str]] = {
    "check": "aiorchctl.commands.config.check:check",
    "show": "aiorchctl.commands.config.show:show",
    "diff": "aiorchctl.commands.config.diff:diff",
    "get": "aiorchctl.commands.config.show:get",
    "set": "aiorchctl.commands.config.edit:set_",
    "use": "aiorchctl.commands.config.edit:use",
    "reload": "aiorchctl.commands.config.reload:reload",
    "override": "aiorchctl.commands.config.override:override",
    "reset": "aiorchctl.commands.config.override:reset",
    "schema": "aiorchctl.commands.config.schema:schema",
}


@click.group(
    cls=LazyGroup,
    places=_PLACES,
    examples=(
        ("aiorchctl config check ~/.config/aiorch/aiorch.toml", "Is this file right? Needs no daemon:"),
        ("aiorchctl config set cache.ttl_s 7200", "Change a key in the file, and have it read:"),
        ("aiorchctl config diff", "Which settings are not the defaults, and where do they come from?"),
    ),
)
def config() -> None:
    """See the configuration that is in force and why, check files, and change it, live.

    Later layers win, key by key: built-in, profile, file, environment, override. `config set` and `config use` change the
    file; `config override` goes over it until `config reset` or the daemon's end. Every key is explained in aiorch.toml(5).
    """
