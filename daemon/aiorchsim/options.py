"""The command line of ``aiorchsim``: its options, its exit codes and examples, for `--help` and the manual page."""

import argparse
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from aiorchsim.faults import Fault

DEFAULT_LISTEN: Final = "127.0.0.1:8090"

PURPOSE: Final = "a simulated provider of language models, over HTTP"

TEXT: Final = (
    (
        "It answers as OpenAI does (POST /v1/chat/completions, /v1/embeddings), as Anthropic does (POST /v1/messages) and as "
        "Gemini does (POST /v1beta/models/MODEL:generateContent, :streamGenerateContent?alt=sse, :embedContent, "
        ":batchEmbedContents), and lists its models; with latency, limits, prices, prompt caching and faults as its profile says."
    ),
    (
        "GET /sim/stats tells all that it counted, POST /sim/reset counts anew. POST /sim/faults with "
        '`{"faults": [{"fault": "error_503", "for_s": 60}]}` says which calls suffer from now on, POST /sim/down with '
        '`{"for_s": 60}` takes it away for so long.'
    ),
    (
        "A request may ask for a fault by a header (`x-aiorchsim-fault: stall`) or by the end of its model's name "
        "(`MODEL+stall`), both also with seconds (`slow_first_token=0.3`), and for its latency (`x-aiorchsim-latency-s: 0.2`)."
    ),
    "When it is ready it prints one line: `aiorchsim listening on http://HOST:PORT`",
)

FAULTS: Final[Sequence[tuple[str, str]]] = tuple((fault.value, fault.meaning) for fault in Fault)

EXITS: Final[Mapping[int, str]] = {
    os.EX_OK: "A signal ended it.",
    os.EX_USAGE: "The command line is wrong.",
    os.EX_UNAVAILABLE: "The address is taken or not there.",
    os.EX_NOPERM: "It may not listen there.",
    os.EX_CONFIG: "The profile is wrong or cannot be read; all that is wrong with it is told.",
}

EXAMPLES: Final[Sequence[tuple[str, str]]] = (
    ("aiorchsim", f"One quick model at {DEFAULT_LISTEN}:"),
    ("aiorchsim --print-profile > slow.toml", "A profile to change, with every key and its meaning:"),
    ("aiorchsim --config slow.toml --listen 127.0.0.1:0", "With it, at a free port:"),
)


class Parser(argparse.ArgumentParser):
    """Ends with the exit code for wrong usage, as the other programs do."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        self.exit(os.EX_USAGE, f"aiorchsim: {message}; see aiorchsim --help\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser."""
    opening = f"{PURPOSE[0].upper()}{PURPOSE[1:]}."
    made = Parser(
        prog="aiorchsim",
        description="\n\n".join(textwrap.fill(paragraph.replace("`", ""), 78) for paragraph in (opening, *TEXT)),
        epilog=_end(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--config", type=Path, metavar="F", help="the profile, a TOML file; one quick model without limits when absent"
    )
    made.add_argument(
        "--listen", type=_address, metavar="HOST:PORT", default=_address(DEFAULT_LISTEN),
        help=f"where to listen ({DEFAULT_LISTEN}); port 0 takes a free one",
    )  # fmt: skip
    made.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="decides which answers are wrong, jitter and errors; wins over the profile",
    )
    made.add_argument(
        "--print-profile", action="store_true", help="print a profile with every key, its default and its meaning"
    )
    made.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end when standard input is closed, as it is when a parent dies",
    )
    return made


def _address(written: str) -> tuple[str, int]:
    host, colon, port = written.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{written!r} is not HOST:PORT, such as 127.0.0.1:8090")
    return host, int(port)


def _end() -> str:
    exits = [f"  {code:<4}{meaning}" for code, meaning in EXITS.items()]
    examples = [f"  {meaning}\n    {line}" for line, meaning in EXAMPLES]
    faults = [f"  {name:<21}{meaning}" for name, meaning in FAULTS]
    return "\n".join(["faults:", *faults, "", "exit codes:", *exits, "", "examples:", *examples])
