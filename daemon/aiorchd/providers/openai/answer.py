"""Read a whole chat answer. Pure; a streamed answer is first put together into the same shape (see `stream`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiorchd.calls.reply import Usage
from aiorchd.providers.openai.usage import KNOWN_FIELDS, read_usage

DEEPEST: Final = 64
"""As deep may an answer be nested; real ones reach about ten."""

_PAYLOAD_FIELDS: Final = frozenset({"id", "object", "created", "model", "choices", "usage"})
_CHOICE_FIELDS: Final = frozenset({"index", "message", "finish_reason"})
_MESSAGE_FIELDS: Final = frozenset({"role", "content", "tool_calls"})


class Unreadable(Exception):
    """The answer is not what the dialect promises; the text completes «main answered …»."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What an answer says. ``extra`` holds the fields without a name here: the payload's, the choice's, the message's."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...]
    finish_reason: str | None
    provider_model: str | None
    usage: Usage | None
    extra: dict[str, Any] = field(default_factory=dict)


def parse_json(body: bytes | str, *, depth: int = DEEPEST) -> Any:
    """Parse JSON from a stranger; raises `Unreadable`, also for what is nested more than ``depth`` deep: fields without a
    name here are passed on to people whose packers have limits.
    """
    try:
        value = json.loads(body)
    except RecursionError:
        raise Unreadable("with JSON that is nested too deeply") from None
    except ValueError as error:  # malformed, not UTF-8, or a number of thousands of digits
        raise Unreadable(f"with JSON that is broken or cut off ({_place(error)})") from error
    # So many brackets must be there for that depth; most answers are done with the counting.
    brackets = body.count("[") + body.count("{") if isinstance(body, str) else body.count(b"[") + body.count(b"{")
    if brackets > depth and _is_deeper(value, depth):
        raise Unreadable("with JSON that is nested too deeply")
    return value


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


def read_chat(payload: Any) -> ChatAnswer:
    """Read the JSON of a chat answer; raises `Unreadable`."""
    if not isinstance(payload, Mapping):
        raise Unreadable("with JSON that is not an object")
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Unreadable("without any choice")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise Unreadable("with a choice that holds no message")
    extra = _unnamed(payload, _PAYLOAD_FIELDS)
    extra.update(_unnamed(choice, _CHOICE_FIELDS))
    extra.update(_unnamed(message, _MESSAGE_FIELDS))
    if len(choices) > 1:
        extra["choices"] = choices
    usage = payload.get("usage")
    if isinstance(usage, Mapping):
        unnamed = _unnamed(usage, KNOWN_FIELDS)
        if unnamed:
            extra["usage"] = unnamed
    content = message.get("content")
    if isinstance(content, list):
        extra["content"] = content
    model, finish_reason = payload.get("model"), choice.get("finish_reason")
    extra = packable(extra)
    return ChatAnswer(
        text=whole_text(text_of(content)),
        tool_calls=_tool_calls(message.get("tool_calls")),
        finish_reason=whole_text(finish_reason) if isinstance(finish_reason, str) else None,
        provider_model=whole_text(model) if isinstance(model, str) else None,
        usage=read_usage(usage),
        extra=extra,
    )


def text_of(content: Any) -> str:
    """Give the text of a message: a string, or the text parts of a list (Mistral's reasoning models send such)."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise Unreadable("with a message whose content is neither text nor parts")
    texts = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type", "text") in ("text", "output_text"):
            text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
    return "".join(texts)


def _tool_calls(raw: Any) -> tuple[Mapping[str, Any], ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(call, Mapping) for call in raw):
        raise Unreadable("with tool calls that are not a list of objects")
    return tuple(packable(_tool_call(call)) for call in raw)


def _tool_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring arguments that came as an object to the text that OpenAI's shape has."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), Mapping):
        return call
    arguments = json.dumps(function["arguments"], separators=(",", ":"))
    return {**call, "function": {**function, "arguments": arguments}}


def packable(value: Any) -> Any:
    """Write integers beyond 64 bits as text and mend halves of characters: JSON has both, MessagePack has neither."""
    if isinstance(value, str):
        return whole_text(value)
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


def _unnamed(raw: Mapping[str, Any], named: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name not in named and value is not None}


def _place(error: ValueError) -> str:
    return f"{error.msg} at {error.pos}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
