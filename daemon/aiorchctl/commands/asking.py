"""What `complete` and `embed` share: options that were not given, lengths of time, and the line below an answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from aiorchctl.page import Paragraph, Words, show
from aiorchctl.quantities import cost, money, number_of, parse_span, seconds

if TYPE_CHECKING:
    _Seconds = click.ParamType[float]
else:
    _Seconds = click.ParamType  # generic from click 8.2 on, and 8.1 will do


class LengthOfTime(_Seconds):
    """A length of time, such as ``90``, ``30s``, ``5m`` or ``1h30m``, as seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; a usage error says what is understood."""
        if isinstance(value, float):
            return value
        try:
            return parse_span(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


LENGTH_OF_TIME: Final = LengthOfTime()


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out options that were not given, so that the daemon's defaults hold."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def input_value(text: str, option: str) -> Any:
    """Read the input of an operation: JSON as it is written, ``@FILE`` or ``-``. A file that is not JSON is text."""
    is_file = text == "-" or text.startswith("@")
    if is_file:
        path = text.removeprefix("@")
        try:
            with click.open_file(path, encoding="utf-8") as file:
                text = str(file.read())
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{option}: {path} cannot be read: {error}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        if is_file:
            return text
        raise click.UsageError(f"{option}: is not JSON: {error}; text needs quotes of its own: '\"text\"'") from error


def footer(reply: Mapping[str, Any]) -> None:
    """Say below an answer where it came from and what it cost: to a person, on standard error, so that a pipe gets the
    answer alone.
    """
    if sys.stderr.isatty() and sys.stdout.isatty():
        show([Paragraph(Words(provenance(reply), "doubtful" if reply.get("simulated") else "quiet"))], sys.stderr)


def provenance(reply: Mapping[str, Any]) -> str:
    """Tell in a line where an answer came from, how long it took, what it cost and saved, and its id."""
    model = reply.get("model") or "no model"
    how = {
        "miss": f"asked {model}",
        "exact": f"{model}, from the cache",
        "normalised": f"{model}, from the cache: the same but for noise",
        "coalesced": f"{model}, joined with an equal call",
    }
    cache = str(reply.get("cache"))
    parts = [how.get(cache, f"{model}, {cache}")]
    if reply.get("simulated"):
        parts[0] += " (simulated: no real model answered)"
    parts.append(seconds(number_of(reply, "timing", "total_s")))
    if cache == "miss":
        parts.append(f"cost {cost(reply)}")
    else:
        parts.append(f"saved {money(number_of(reply, 'saved_usd'))}")
    attempts = number_of(reply, "attempts") or 0
    if attempts > 1:
        parts.append(f"{attempts} attempts")
    if reply.get("id"):
        parts.append(f"aiorchctl explain {reply['id']}")
    return " · ".join(parts)
