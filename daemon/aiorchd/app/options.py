"""The command line of ``aiorchd``: its options, its exit codes and examples, for `--help` and the manual page."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from aiorch.version import __version__

PURPOSE: Final = "the daemon between a host's processes and language models"

TEXT: Final = (
    "One daemon per host between its processes and the language models they pay for.",
    (
        "It answers host processes over a Unix socket: what is known from its cache, what is under way by sharing it, and the "
        "rest by asking a provider within its limits. It runs in the foreground and logs to standard error."
    ),
    (
        "Without a configuration an embedded simulated model answers, so that it can be tried at once. `aiorchctl init` makes a "
        "first configuration."
    ),
)

EXITS: Final[Mapping[int, str]] = {
    os.EX_OK: "It was told to end, and has ended; or `--check` found nothing wrong.",
    os.EX_USAGE: "The command line is wrong, or there is no place for the socket or the state.",
    os.EX_SOFTWARE: "A defect.",
    os.EX_TEMPFAIL: "Another daemon listens at the socket or holds the state.",
    os.EX_NOPERM: "A file or directory may not be read or written.",
    os.EX_CONFIG: "The configuration is wrong, or a file of the state is damaged or from a later release.",
}

EXAMPLES: Final[Sequence[tuple[str, str]]] = (
    ("aiorchd &", "Try it, with a simulated model:"),
    ("aiorchd --check --config new.toml", "Is this file right?"),
    ("aiorchd --config dev.toml --socket ./a.sock --state-dir ./state", "One apart from all others:"),
    ("aiorchctl install-units --user", "As a service, started by the first call:"),
)


class Parser(argparse.ArgumentParser):
    """Ends with the exit code for wrong usage, as the other programs do."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser."""
    made = Parser(
        prog="aiorchd",
        description="\n\n".join(textwrap.fill(paragraph.replace("`", ""), 78) for paragraph in TEXT),
        epilog=_end(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--config", metavar="FILE", help="the TOML (else $AIORCH_CONFIG, then the usual places)")
    made.add_argument(
        "--socket",
        metavar="PATH",
        help="where to listen (else systemd's descriptor, $AIORCH_SOCKET, then the usual places)",
    )
    made.add_argument(
        "--state-dir",
        metavar="DIRECTORY",
        help="where cache, metrics and ledger are kept (else $STATE_DIRECTORY, then the usual places)",
    )
    made.add_argument("--check", action="store_true", help="check the configuration, say what is wrong, and end")
    made.add_argument("--version", action="version", version=f"aiorchd {__version__}", help="show the version and end")
    return made


def _end() -> str:
    exits = [
        textwrap.fill(meaning.replace("`", ""), 78, initial_indent=f"  {code:<4}", subsequent_indent=" " * 6)
        for code, meaning in EXITS.items()
    ]
    examples = [f"  {meaning}\n    {line}" for line, meaning in EXAMPLES]
    return "\n".join(
        [
            "signals:",
            "  SIGTERM and SIGINT drain and end it, a second one ends it at once;",
            "  SIGHUP reads the configuration again.",
            "",
            "exit codes:",
            *exits,
            "",
            "examples:",
            *examples,
        ]
    )
