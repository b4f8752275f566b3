"""What all commands share: ``--json`` and ``--socket``, which may stand anywhere, examples in the help, and loading a
command's file only when it is used, because each of them would cost the others their start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

import click

from aiorchctl.page import Page, show

if TYPE_CHECKING:
    import aiorch


@dataclass(slots=True)
class Invocation:
    """What holds for the whole command line: where the daemon is, and whether a machine reads what comes out."""

    socket: str | None = None
    as_json: bool = False

    def client(self, wait_s: float = 0.0) -> aiorch.Client:
        """Make a client for the daemon; use it as a context manager. A command does not wait for a daemon to appear, unless
        it was told to.
        """
        import aiorch

        return aiorch.Client(self.socket, connect_timeout_s=wait_s)

    def tell(self, result: Any, page: Callable[[Any], Page]) -> None:
        """Write a result: as it is for a machine, as a page for a person."""
        if self.as_json:
            write_json(result)
        else:
            show(page(result))


def write_json(value: Any, stream: TextIO | None = None, *, line: bool = False) -> None:
    """Write JSON, indented or on one line. Bytes, of which there are none in results so far, would be shown in hex."""
    text = json.dumps(value, ensure_ascii=False, indent=None if line else 2, default=_hex)
    stream = sys.stdout if stream is None else stream
    stream.write(text + "\n")


def _hex(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no place in a result")


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
"""Hands the `Invocation` to a command."""


class Command(click.Command):
    """A command with the common options. ``examples`` are pairs of a command line and what it does; ``exits`` are exit codes
    that mean something particular here.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        exits: Sequence[tuple[int, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.exits = exits
        self.params.extend(_common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it
        """Write exit codes and examples at the end of the help."""
        write_end(self.exits, self.examples, formatter)


class Group(click.Group):
    """Commands below one word, with the common options."""

    command_class = Command

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        exits: Sequence[tuple[int, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.exits = exits
        self.params.extend(_common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it
        """Write exit codes and examples at the end of the help."""
        write_end(self.exits, self.examples, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """List commands in the order they were written, which is that of use."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with the whole first sentence of each; click would cut it off."""
        rows = [
            (name, first_sentence(command))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name))
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class LazyGroup(Group):
    """A group whose commands are loaded from ``places``, name to ``module:attribute``, when they are asked for."""

    def __init__(self, *args: Any, places: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """List all, loaded or not."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as click calls it
        """Load one."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that a line begins with; one that is mistyped is told what it may have been."""
        name = args[0] if args else ""
        if name and name not in self._places and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self._places, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(self._places)}"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx=ctx)
        return super().resolve_command(ctx, args)


def first_sentence(command: click.Command) -> str:
    """Say what a command is for, in a sentence."""
    return command.get_short_help_str(limit=1000)


def write_end(
    exits: Sequence[tuple[int, str]], examples: Sequence[tuple[str, str]], formatter: click.HelpFormatter
) -> None:
    """Write exit codes and examples, each as a section of a help text."""
    if exits:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in exits])
    if examples:
        with formatter.section("Examples"):
            for line, meaning in examples:
                formatter.write_text(meaning)
                formatter.write(f"{' ' * (formatter.current_indent + 2)}{line}\n")


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_take_json,
            help="Write JSON, with exact numbers.",
        ),
        click.Option(
            ["--socket"],
            metavar="PATH",
            expose_value=False,
            is_eager=True,
            callback=_take_socket,
            help="The daemon's socket.  [default: $AIORCH_SOCKET, then the usual places]",
        ),
    ]


def _take_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001 - as click calls it
    if value:
        ctx.ensure_object(Invocation).as_json = True


def _take_socket(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:  # noqa: ARG001 - as click calls it
    if value is not None:
        ctx.ensure_object(Invocation).socket = value
