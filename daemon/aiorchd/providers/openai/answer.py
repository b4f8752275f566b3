"""Read a whole chat answer. Pure; a streamed answer is first put together into the same shape (see `stream`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aiorchd.providers.answer import ChatAnswer, Unreadable, packable, unnamed, whole_text
from aiorchd.providers.openai.usage import KNOWN_FIELDS, read_usage

_PAYLOAD_FIELDS: Final = frozenset({"id", "object", "created", "model", "choices", "usage"})
_CHOICE_FIELDS: Final = frozenset({"index", "message", "finish_reason"})
_MESSAGE_FIELDS: Final = frozenset({"role", "content", "tool_calls"})


def read_chat(payload: Any) -> ChatAnswer:
    """Read the JSON of a chat answer; raises `Unreadable`."""
    if not isinstance(payload, dict):
        raise Unreadable("with JSON that is not an object")
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Unreadable("without any choice", read_usage(payload.get("usage")))
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Unreadable("with a choice that holds no message")
    usage, content = payload.get("usage"), message.get("content")
    extra = _passed_on(payload, choice, message, usage)
    model, finish_reason = payload.get("model"), choice.get("finish_reason")
    tool_calls = message.get("tool_calls")
    return ChatAnswer(
        text=whole_text(content if isinstance(content, str) else text_of(content)),
        tool_calls=() if tool_calls is None else _tool_calls(tool_calls),
        finish_reason=whole_text(finish_reason) if isinstance(finish_reason, str) else None,
        provider_model=whole_text(model) if isinstance(model, str) else None,
        usage=read_usage(usage),
        extra=packable(extra) if extra else extra,
    )


def _passed_on(
    payload: Mapping[str, Any], choice: Mapping[str, Any], message: Mapping[str, Any], usage: Any
) -> dict[str, Any]:
    """Give what has no name here."""
    extra = unnamed(payload, _PAYLOAD_FIELDS)
    extra.update(unnamed(choice, _CHOICE_FIELDS))
    extra.update(unnamed(message, _MESSAGE_FIELDS))
    choices, content = payload["choices"], message.get("content")
    if len(choices) > 1:
        extra["choices"] = choices
    if isinstance(usage, dict) and (rest := unnamed(usage, KNOWN_FIELDS)):
        extra["usage"] = rest
    if isinstance(content, list):
        extra["content"] = content
    return extra


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
