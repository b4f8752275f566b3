"""A chat answer as every dialect gives it, and the reading of strangers' JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from aiorchd.calls.reply import Usage

DEEPEST: Final = 64
"""As deep may an answer be nested; real ones reach about ten."""


class Unreadable(Exception):
    """The answer is not what the dialect promises; the text completes «main answered …». ``usage`` is what it told of its
    tokens all the same, None when nothing: they are paid for."""

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


class ChatAnswer(msgspec.Struct, frozen=True):
    """What an answer says. ``tool_calls`` and ``finish_reason`` are in OpenAI's words (``stop length tool_calls
    content_filter``; what has no such word keeps the provider's). ``extra`` holds the provider's fields without a name
    here. ``withheld`` says in the provider's words why it withheld an answer, None when it did not.
    """

    text: str
    tool_calls: tuple[Mapping[str, Any], ...]
    finish_reason: str | None
    provider_model: str | None
    usage: Usage | None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    withheld: str | None = None


def parse_json(body: bytes | str, *, depth: int = DEEPEST) -> Any:
    """Parse JSON from a stranger; raises `Unreadable`, also for what is nested more than ``depth`` deep: fields without a
    name here are passed on to people whose packers have limits.
    """
    try:
        value = _decode(body)
    except RecursionError:
        raise Unreadable("with JSON that is nested too deeply") from None
    except ValueError as error:  # malformed, not UTF-8, or a number of thousands of digits
        raise Unreadable(f"with JSON that is broken or cut off ({_place(error)})") from error
    # So many brackets must be there for that depth; most answers are done with the counting.
    brackets = body.count("[") + body.count("{") if isinstance(body, str) else body.count(b"[") + body.count(b"{")
    if brackets > depth and _is_deeper(value, depth):
        raise Unreadable("with JSON that is nested too deeply")
    return value


def _decode(body: bytes | str) -> Any:
    """Decode by the quick reader what it takes, which is nearly everything, and all else by the standard library's: halves of
    characters, numbers beyond a double, what other encodings than UTF-8 hold, and the reasons why something is no JSON."""
    try:
        return msgspec.json.decode(body)
    except ValueError:
        return json.loads(body)


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def packable(value: Any) -> Any:
    """Write integers beyond 64 bits as text and mend halves of characters: JSON has both, MessagePack has neither."""
    if isinstance(value, str):
        return value if value.isascii() else whole_text(value)
    if isinstance(value, dict):
        return {whole_text(name): packable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [packable(part) for part in value]
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def whole_text(text: str) -> str:
    """Join the halves of surrogate pairs that stand side by side and put U+FFFD for those that stand alone.

    JSON can escape half a pair, and servers that cut text by UTF-16 units do; no UTF-8 holds one.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def unnamed(raw: Mapping[str, Any], named: frozenset[str]) -> dict[str, Any]:
    """Give the fields that have no name here and say something."""
    told = {}
    for name in raw.keys() - named:  # hardly any
        value = raw[name]
        if value is not None:
            told[name] = value
    return told if len(told) < 2 else dict(sorted(told.items()))


def _place(error: ValueError) -> str:
    return f"{error.msg} at {error.pos}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
