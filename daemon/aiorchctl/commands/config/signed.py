"""Commands whose values may begin with a minus sign, though options do."""

from __future__ import annotations

import re
from typing import Final

import click

from aiorchctl.command import Command

_NUMBER: Final = re.compile(r"-(?:[\d_]+(?:\.[\d_]+)?(?:[eE][+-]?\d+)?|inf|nan)")
_SHIELD: Final = "\0"
"""No word of a command line begins with it."""


class SignedCommand(Command):
    """Takes ``-3`` for a value. Other text that begins with a dash is an option, unless it stands after ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        words = [
            f"{_SHIELD}{word}" if _NUMBER.fullmatch(word) and "--" not in args[:place] else word
            for place, word in enumerate(args)
        ]
        rest = super().parse_args(ctx, words)
        for name, value in ctx.params.items():
            if isinstance(value, str):
                ctx.params[name] = value.removeprefix(_SHIELD)
        return rest
