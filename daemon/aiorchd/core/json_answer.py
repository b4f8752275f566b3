"""The one JSON value in a model's answer.

Models wrap JSON in code fences and politeness. What is undone here is only the wrapping, and it is told: a fence around
the value, prose before and after it. Nothing inside the value is mended or guessed, and an answer that holds two values,
or a fragment of a broken one, holds none: a piece of ``{"a": [1], oops}`` must not pass for the answer.

Numbers are kept within what every wire carries: integers beyond 64 bits become doubles, as JSON itself has only
numbers; NaN, infinities and doubles out of range are refused. Half of a surrogate pair, which no text may hold, becomes
U+FFFD, and that is told too. Work is linear in the length of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Levels of nesting taken."""

_MAX_STARTS: Final = 100
"""Brackets in prose that are tried."""

CODE_FENCE: Final = "code_fence"
SURROUNDING_TEXT: Final = "surrounding_text"
LONE_SURROGATE: Final = "lone_surrogate"


class NotOneJsonValueError(ValueError):
    """The text does not hold exactly one JSON value; the message says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """The value, and what had to be undone to read it: of `CODE_FENCE`, `SURROUNDING_TEXT`, `LONE_SURROGATE`."""

    value: Any
    repaired: tuple[str, ...] = ()


def read_json_answer(text: str) -> JsonAnswer:
    """Read the one JSON value in ``text``. Raises `NotOneJsonValueError`."""
    text = text.strip().removeprefix("\ufeff")
    if not text:
        raise NotOneJsonValueError("the answer is empty")
    try:
        return _sound(_DECODER.decode(text))
    except RecursionError as error:
        raise NotOneJsonValueError(_TOO_DEEP) from error
    except ValueError as error:
        reason = _reason(error)
    for repair, candidates in ((CODE_FENCE, _fenced(text)), (SURROUNDING_TEXT, _embedded(text))):
        values = list(candidates)
        if len(values) == 1:
            return _sound(values[0], repair)
        if values:
            raise NotOneJsonValueError(f"the answer holds {len(values)} JSON values, and one was asked for")
    raise NotOneJsonValueError(f"the answer holds no JSON value ({reason})")


def _fenced(text: str) -> Iterator[Any]:
    for block in _FENCE.findall(text):
        try:
            yield _DECODER.decode(block.strip())
        except (ValueError, RecursionError):
            continue


def _embedded(text: str) -> Iterator[Any]:
    """Give the outermost objects and arrays that stand in prose."""
    at = 0
    for _ in range(_MAX_STARTS):  # each costs a look at the text before it, to say where it went wrong
        start = _OPENER.search(text, at)
        if start is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, start.start())
            yield value
        except (ValueError, RecursionError):
            end = _closed(text, start.start())
            if end is None:
                return  # broken off; whatever stands inside it is a fragment
            at = end
    raise NotOneJsonValueError(f"the answer holds more than {_MAX_STARTS} brackets around or beside a JSON value")


def _closed(text: str, start: int) -> int | None:
    """Find where the brackets opened at ``start`` are all closed again; None when they are not."""
    depth = 0
    for token in _BRACKET.finditer(text, start):
        mark = token.group()
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
            if depth == 0:
                return token.end()
        elif mark == '"':
            return None
    return None


def _sound(value: Any, *repaired: str) -> JsonAnswer:
    """Check depth and text of a value, replacing half surrogates."""
    sound = _checked(value, 0)
    if sound is value:
        return JsonAnswer(value, repaired)
    return JsonAnswer(sound, (*repaired, LONE_SURROGATE))


def _checked(value: Any, depth: int) -> Any:
    """Give ``value`` itself when nothing is wrong with it, else a mended copy."""
    if isinstance(value, str):
        return value if value.isascii() else _whole_text(value)
    if depth >= MAX_DEPTH and isinstance(value, (list, dict)):
        raise NotOneJsonValueError(_TOO_DEEP)
    if isinstance(value, list):
        items = [_checked(item, depth + 1) for item in value]
        return value if all(map(_is, items, value)) else items
    if isinstance(value, dict):
        members = {_checked(name, depth): _checked(item, depth + 1) for name, item in value.items()}
        same = all(map(_is, members.values(), value.values())) and all(map(_is, members, value))
        return value if same and len(members) == len(value) else members
    return value


def _is(first: Any, second: Any) -> bool:
    return first is second


def _whole_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return _HALF_SURROGATE.sub("\ufffd", text)
    return text


def _integer(digits: str) -> int | float:
    if len(digits) < 19:
        return int(digits)
    if len(digits) <= 20 and -(2**63) <= (whole := int(digits)) < 2**63:
        return whole
    return _double(digits)


def _double(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return str(error)[:100]


_TOO_DEEP: Final = f"the JSON value is nested deeper than {MAX_DEPTH} levels"
_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_double, parse_constant=_constant)
_FENCE: Final = re.compile(r"```[^\S\n]*[\w+.-]*[^\S\n]*\n(.*?)```", re.DOTALL)
_OPENER: Final = re.compile(r"[\[{]")
_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}"]', re.DOTALL)
_HALF_SURROGATE: Final = re.compile("[\ud800-\udfff]")
