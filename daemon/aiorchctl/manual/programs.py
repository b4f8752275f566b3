"""aiorchd(8) and aiorchsim(1), out of the parsers that print their ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence

from aiorchctl.manual.page import Block, Heading, Lines, ManualPage, Prose, Terms
from aiorchd.app import options as daemon_options
from aiorchsim import options as simulator_options


def aiorchd() -> ManualPage:
    """Make the page of the daemon."""
    return ManualPage(
        name="aiorchd",
        section=8,
        purpose=daemon_options.PURPOSE,
        blocks=(
            *_opening(daemon_options.parser(), daemon_options.TEXT),
            Heading("Signals"),
            Terms(
                (
                    (
                        "SIGTERM, SIGINT",
                        (
                            "Stop accepting, finish what is in flight within `[daemon] drain_timeout_s`, write everything, and "
                            "end. A second one ends it at once."
                        ),
                    ),
                    ("SIGHUP", "Read the configuration again, as `aiorchctl config reload` does."),
                )
            ),
            *_exits(daemon_options.EXITS),
            Heading("Environment"),
            Terms(
                (
                    ("AIORCH_CONFIG", "The configuration file, unless `--config` names one."),
                    ("AIORCH_SOCKET", "Where to listen, unless `--socket` or systemd says it."),
                    (
                        "AIORCH__SECTION__KEY",
                        "One key of the configuration, over the file, such as `AIORCH__CACHE__TTL_S=60`. See aiorch.toml(5).",
                    ),
                    ("STATE_DIRECTORY", "Where the state is, unless `--state-dir` says it; systemd sets it."),
                    ("CREDENTIALS_DIRECTORY", "Where systemd puts what `api_key_credential` names."),
                    (
                        "LISTEN_FDS, LISTEN_PID, NOTIFY_SOCKET, WATCHDOG_USEC",
                        (
                            "The service manager's: the socket it has opened, where it is told of start, reload, state and end, "
                            "and how often it wants a sign of life."
                        ),
                    ),
                    ("SSL_CERT_FILE, SSL_CERT_DIR", "Certificate authorities of providers, in place of the host's."),
                    ("https_proxy, http_proxy, all_proxy, no_proxy", "The proxy on the way to providers, if any."),
                    ("NO_COLOR", "When it is set, the log on a terminal is not coloured."),
                )
            ),
            Heading("Files"),
            Terms(
                (
                    (
                        "~/.config/aiorch/aiorch.toml, /etc/aiorch/aiorch.toml",
                        "The configuration: the first that is there. `$XDG_CONFIG_HOME` is respected. See aiorch.toml(5).",
                    ),
                    (
                        "$XDG_RUNTIME_DIR/aiorch/aiorch.sock, /run/aiorch/aiorch.sock",
                        "The socket of a user's own daemon, and of one that runs as root or is the host's service.",
                    ),
                    (
                        "~/.local/state/aiorch, /var/lib/aiorch",
                        (
                            "The state of a user's own daemon (`$XDG_STATE_HOME` is respected), and of one that runs as root or "
                            "is the host's service: `cache.db` may be deleted, `metrics.db` holds the figures, `ledger.db` what "
                            "must not be lost."
                        ),
                    ),
                )
            ),
            *_examples(daemon_options.EXAMPLES),
            Heading("See also"),
            Prose("aiorchctl(1), aiorch.toml(5), systemd.service(5), systemd.socket(5)"),
        ),
    )


def aiorchsim() -> ManualPage:
    """Make the page of the simulator."""
    return ManualPage(
        name="aiorchsim",
        section=1,
        purpose=simulator_options.PURPOSE,
        blocks=(
            *_opening(simulator_options.parser(), simulator_options.TEXT),
            Heading("Faults"),
            Terms([(name, f"{meaning[0].upper()}{meaning[1:]}.") for name, meaning in simulator_options.FAULTS]),
            *_exits(simulator_options.EXITS),
            *_examples(simulator_options.EXAMPLES),
            Heading("See also"),
            Prose("aiorchd(8), aiorchctl(1)"),
        ),
    )


def _opening(parser: argparse.ArgumentParser, text: Sequence[str]) -> Iterator[Block]:
    yield Heading("Synopsis")
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield Lines((usage.replace("[-h] ", ""),))
    yield Heading("Description")
    yield from map(Prose, text)
    yield Heading("Options")
    yield Terms(list(_options(parser)))


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        names = ", ".join(action.option_strings)
        help_text = (action.help or "").strip()
        yield f"{names} {action.metavar}" if action.metavar else names, f"{help_text[0].upper()}{help_text[1:]}."


def _exits(exits: Mapping[int, str]) -> Iterator[Block]:
    yield Heading("Exit status")
    yield Terms([(str(code), meaning) for code, meaning in exits.items()])


def _examples(examples: Sequence[tuple[str, str]]) -> Iterator[Block]:
    yield Heading("Examples")
    for line, meaning in examples:
        yield Prose(meaning)
        yield Lines((line,))
