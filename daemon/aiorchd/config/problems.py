"""What is wrong with a configuration, told so that a person can mend it: where, which key, what, and what instead."""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from aiorchd.config.secrets import looks_secret, redact

MOST_PROBLEMS: Final = 100
"""Further ones are counted, not told: a file that is wrong in more places is not this kind of file."""

_LONGEST_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong or doubtful.

    ``file`` is a path, or ``environment``; ``key`` is dotted (``models[0].provider``) and empty when it concerns the
    whole; ``line`` and ``column`` count from 1 and are None where there is none. ``sentence`` says what is wrong,
    ``remedy`` what to do and may be empty. Neither ever holds a secret.
    """

    file: str
    key: str
    line: int | None
    sentence: str
    remedy: str = ""
    column: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}" + (f":{self.column}" if self.column is not None else "")
        subject = f"{self.key}: " if self.key else ""
        return f"{place}: {subject}{self.sentence}" + (f" {self.remedy}" if self.remedy else "")

    def to_wire(self) -> dict[str, Any]:
        """Give the plain map that ``status`` and ``config.reload`` show."""
        return {
            "file": self.file,
            "key": self.key,
            "line": self.line,
            "column": self.column,
            "sentence": self.sentence,
            "remedy": self.remedy,
        }


class ConfigError(Exception):
    """A configuration was refused; ``problems`` holds everything that is wrong with it, in the order of the file.

    ``fingerprint`` is that of the refused content, or empty when it could not be read. ``exit_code`` is what a process
    that was told to use it ends with.
    """

    exit_code: int = os.EX_CONFIG

    def __init__(self, problems: Iterable[Problem], *, fingerprint: str = "") -> None:
        self.problems = tuple(problems)
        self.fingerprint = fingerprint
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was probably meant."""
    if len(name) > _LONGEST_NAME:
        return None
    choices = list(known)
    lowered = name.lower().replace("-", "_")
    for choice in choices:
        if choice.lower().replace("-", "_") == lowered:
            return choice
    found = difflib.get_close_matches(name, choices, n=3, cutoff=0.6)
    # People mistype the ends of words more often than their beginnings.
    alike = [choice for choice in found if choice[:2].lower() == lowered[:2]]
    return next(iter(alike or found), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Make the remedy for an unknown name; empty when there are none to choose from."""
    choices = list(known)
    guess = nearest(name, choices)
    if guess is not None:
        return f'Did you mean "{printable(guess)}"?'
    if not choices:
        return ""
    listed = ", ".join(printable(choice) for choice in choices[:20])
    return f"Known: {listed}" + (", ...." if len(choices) > 20 else ".")


def printable(name: str) -> str:
    """Make a name from a file fit for one line of a log: no control characters, not too long, no secret."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[: _LONGEST_NAME + 1])
    if len(shown) > _LONGEST_NAME:
        shown = shown[: _LONGEST_NAME - 3] + "..."
    return redact(shown)


def show(value: Any) -> str:
    """Show a refused value, short and without secrets."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "what looks like a secret" if looks_secret(value) else f'"{printable(value)}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return printable(reprlib.repr(value)) if isinstance(value, (int, float)) else printable(str(value))


def dotted(path: tuple[str | int, ...]) -> str:
    """Write a path as people do: ``models[0].extra."odd name"``."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
            continue
        bare = part.replace("_", "").replace("-", "").isalnum() and part.isascii()
        name = printable(part) if bare else f'"{printable(part)}"'
        written += f".{name}" if written else name
    return written
