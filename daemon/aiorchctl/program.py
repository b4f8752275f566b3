"""The command line as a whole: its commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

import click

from aiorch.errors import AiorchError
from aiorch.version import __version__
from aiorchctl.command import Invocation, LazyGroup, write_json
from aiorchctl.failures import EXIT_MEANINGS, Failed, Failure, failure_of
from aiorchctl.page import harmless

INTERRUPTED: Final = 130
"""What a shell makes of a program that Ctrl-C ended."""

_PLACES: Final[Mapping[str, str]] = {
    "complete": "aiorchctl.commands.complete:complete",
    "embed": "aiorchctl.commands.embed:embed",
    "status": "aiorchctl.commands.status:status",
    "stats": "aiorchctl.commands.stats:stats",
    "explain": "aiorchctl.commands.explain:explain",
    "feedback": "aiorchctl.commands.feedback:feedback",
    "models": "aiorchctl.commands.models:models",
    "limits": "aiorchctl.commands.limits:limits",
    "cache": "aiorchctl.commands.cache:cache",
    "config": "aiorchctl.commands.config.group:config",
    "ping": "aiorchctl.commands.ping:ping",
    "doctor": "aiorchctl.commands.doctor:doctor",
    "init": "aiorchctl.commands.init:init",
    "install-units": "aiorchctl.commands.install_units:install_units",
    "demo": "aiorchctl.commands.demo:demo",
    "completion": "aiorchctl.commands.completion:completion",
}


@click.group(
    cls=LazyGroup,
    places=_PLACES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        ("aiorchctl demo", "See calls being saved; needs no daemon and no key:"),
        ("aiorchctl complete 'Name three rivers'", "Ask a model:"),
        ("aiorchctl stats --since 1h --json", "What was saved in the last hour, for a program:"),
        ("aiorchctl doctor", "What is wrong, and what to do about it:"),
    ),
    exits=tuple(EXIT_MEANINGS.items()),
)
@click.version_option(__version__, prog_name="aiorchctl", message="%(prog)s %(version)s")
def program() -> None:
    """Talk to aiorchd, which caches, joins, paces, retries and accounts this host's calls to language models.

    `aiorchctl COMMAND --help` explains each command. `--json` and `--socket` may stand anywhere on the line. Errors go to
    standard error in a sentence or two, with `--json` as a map with `code`, `message` and `exit_code`.
    """


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code. Errors are told in a sentence or two on standard error."""
    invocation = Invocation(as_json="--json" in arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # answers may hold what a terminal's encoding has not
    try:
        result = program.main(arguments, prog_name="aiorchctl", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        return result if isinstance(result, int) else os.EX_OK
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2 raises it, 8.1 does not
            click.echo(error.format_message(), err=True)
            return os.EX_USAGE
        return _tell(_usage(error), invocation)
    except click.Abort:  # Ctrl-C, for which click has ended the line
        return INTERRUPTED
    except click.ClickException as error:
        return _tell(_failure(os.EX_NOINPUT, "input", error.format_message()), invocation)
    except Failed as error:
        return _tell(error.failure, invocation)
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    except AiorchError as error:
        return _tell(failure_of(error), invocation)


def _usage(error: click.UsageError) -> Failure:
    message = error.format_message()
    sentence = message[:1].lower() + message[1:].rstrip(".")
    if error.ctx is not None:
        sentence += f"; see `{error.ctx.command_path} --help`"
    return _failure(os.EX_USAGE, "usage", sentence)


def _failure(exit_code: int, code: str, sentence: str) -> Failure:
    return Failure(exit_code, sentence, {"code": code, "message": sentence})


def _tell(failure: Failure, invocation: Invocation) -> int:
    if invocation.as_json:
        write_json(failure.to_json(), sys.stderr)
    else:
        sys.stderr.write(f"aiorchctl: {harmless(failure.sentence)}\n")
    return failure.exit_code
