"""aiorchctl(1) and its commands, out of the same objects that print each ``--help``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from aiorchctl.command import Command, Group
from aiorchctl.failures import OWN_CODES
from aiorchctl.manual.page import Block, Heading, Lines, ManualPage, Prose, Terms
from aiorchctl.program import program

_COMMON = ("--json", "--socket", "--help")


def aiorchctl() -> ManualPage:
    """Make the page of the command line."""
    context = click.Context(program, info_name="aiorchctl")
    return ManualPage(
        name="aiorchctl",
        section=1,
        purpose="talk to aiorchd, the daemon before language models",
        blocks=(
            Heading("Synopsis"),
            Lines(("aiorchctl [OPTIONS] COMMAND [ARGUMENTS]...",)),
            Heading("Description"),
            *_prose(program),
            Heading("Options"),
            Prose("`--json`, `--socket` and `--help` may stand anywhere on the line, after the command too."),
            Terms(
                [*(_option(option, context) for option in _options(program, every=True)), ("-h, --help", "Explain it.")]
            ),
            Heading("Commands"),
            *_commands(program, context),
            Heading("Exit status"),
            Terms([(str(code), meaning) for code, meaning in program.exits]),
            Heading("Error codes"),
            Prose(
                "With `--json` an error is a map with `code`, `message` and `exit_code`. The code is one of docs/protocol.md, "
                "or one of these:"
            ),
            Terms([(code, f"{meaning[0].upper()}{meaning[1:]}.") for code, meaning in OWN_CODES.items()]),
            Heading("Environment"),
            Terms(
                (
                    ("AIORCH_SOCKET", "The daemon's socket, unless `--socket` names one."),
                    ("AIORCH_CONFIG", "The configuration file, for commands that need no daemon."),
                    ("XDG_RUNTIME_DIR", "Where a daemon of your own listens: in `aiorch/aiorch.sock` below it."),
                    ("XDG_CONFIG_HOME", "Where your configuration is: in `aiorch/aiorch.toml` below it."),
                    ("NO_COLOR", "When it is set, nothing is coloured."),
                )
            ),
            Heading("Files"),
            Terms(
                (
                    ("$XDG_RUNTIME_DIR/aiorch/aiorch.sock", "The socket of a daemon of your own, tried first."),
                    ("/run/aiorch/aiorch.sock", "The socket of the host's daemon."),
                )
            ),
            Heading("Examples"),
            *_examples(program),
            Heading("See also"),
            Prose("aiorchd(8), aiorchsim(1), aiorch.toml(5)"),
        ),
    )


def _commands(group: click.Group, context: click.Context) -> Iterator[Block]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        below = click.Context(command, info_name=name, parent=context)
        yield from _command(command, below)
        if isinstance(command, click.Group):
            yield from _commands(command, below)


def _command(command: click.Command, context: click.Context) -> Iterator[Block]:
    yield Heading(context.command_path, 2)
    # Usage without the options that all commands have.
    words = [word for word in command.collect_usage_pieces(context) if word != "[OPTIONS]"]
    options = _options(command)
    yield Lines((" ".join([context.command_path, *(["[OPTIONS]"] if options else []), *words]),))
    yield from _prose(command)
    if options:
        yield Terms([_option(option, context) for option in options])
    if isinstance(command, Command | Group):
        if command.exits:
            yield Prose("Exit codes of its own:")
            yield Terms([(str(code), meaning) for code, meaning in command.exits])
        yield from _examples(command)


def _prose(command: click.Command) -> Iterator[Prose]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield Prose(paragraph)


def _options(command: click.Command, *, every: bool = False) -> list[click.Option]:
    found = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return [option for option in found if every or not set(option.opts) & set(_COMMON)]


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    record = option.get_help_record(context)
    if record is None:
        raise LookupError(option.name)
    term, meaning = record
    return term, f"{meaning[0].upper()}{meaning[1:]}"


def _examples(command: Command | Group) -> Iterator[Block]:
    for line, meaning in command.examples:
        yield Prose(meaning)
        yield Lines((line,))
