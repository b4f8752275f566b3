"""Read a whole answer of Anthropic's. Pure; a streamed answer is first put together into the same shape (see `stream`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from aiorchd.providers.answer import ChatAnswer, Unreadable, packable, unnamed, whole_text
from aiorchd.providers.anthropic.request import ANSWER_TOOL, ANSWER_VALUE_TOOL
from aiorchd.providers.anthropic.usage import KNOWN_FIELDS, read_usage

FINISH_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
)
"""Anthropic's word to OpenAI's; others (``pause_turn``) stay as they are."""

_PAYLOAD_FIELDS: Final = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage"})
# What the reply has in fields of its own; every other kind is handed on as it is, to be given back in the next turn.
_PLAIN_BLOCK_FIELDS: Final = frozenset({"type", "text", "id", "name", "input"})


def read_chat(payload: Any) -> ChatAnswer:
    """Read the JSON of an answer; raises `Unreadable`."""
    if not isinstance(payload, Mapping):
        raise Unreadable("with JSON that is not an object")
    content = payload.get("content")
    if not isinstance(content, list) or not all(isinstance(block, Mapping) for block in content):
        raise Unreadable("without any content")
    stop_reason, details = payload.get("stop_reason"), payload.get("stop_details")
    calls = [_tool_call(block) for block in content if block.get("type") == "tool_use"]
    given = next((call for call in calls if call["function"]["name"] in (ANSWER_TOOL, ANSWER_VALUE_TOOL)), None)
    finish_reason = FINISH_REASONS.get(stop_reason, stop_reason) if isinstance(stop_reason, str) else None
    if given is None:
        text = "".join(_text(block) for block in content if block.get("type") == "text")
    else:
        text = _answer_given(given["function"])
        calls = [call for call in calls if call is not given]
        if finish_reason == "tool_calls" and not calls:
            finish_reason = "stop"
    model = payload.get("model")
    withheld = details.get("explanation") or details.get("category") if isinstance(details, Mapping) else None
    return ChatAnswer(
        text=whole_text(text),
        tool_calls=tuple(packable(call) for call in calls),
        finish_reason=whole_text(finish_reason) if finish_reason is not None else None,
        provider_model=whole_text(model) if isinstance(model, str) else None,
        usage=read_usage(payload.get("usage")),
        extra=packable(_extra(payload, content)),
        withheld=withheld if isinstance(withheld, str) else None,
    )


def _extra(payload: Mapping[str, Any], content: list[Any]) -> dict[str, Any]:
    extra = unnamed(payload, _PAYLOAD_FIELDS)
    usage = payload.get("usage")
    if isinstance(usage, Mapping):
        rest = unnamed(usage, KNOWN_FIELDS)
        if rest:
            extra["usage"] = rest
    thoughts = [block.get("thinking") for block in content if block.get("type") == "thinking"]
    thinking = "".join(thought for thought in thoughts if isinstance(thought, str))
    if thinking:
        extra["reasoning_content"] = thinking
    if any(_is_more_than_plain(block) for block in content):
        extra["content"] = [_as_sent(block) for block in content]
    return extra


def _as_sent(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a block as the next request may hold it: in a stream, the input of a call came as text."""
    if not isinstance(block.get("input"), str):
        return block
    try:
        return {**block, "input": json.loads(block["input"] or "{}")}
    except (ValueError, RecursionError):
        return block


def _is_more_than_plain(block: Mapping[str, Any]) -> bool:
    if block.get("type") not in ("text", "tool_use"):
        return True
    return any(value is not None for name, value in block.items() if name not in _PLAIN_BLOCK_FIELDS)


def _text(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise Unreadable("with a text that is none")
    return text


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    """Give OpenAI's shape, where arguments are JSON as text."""
    id_, name, arguments = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(id_, str) or not isinstance(name, str):
        raise Unreadable("with a tool call without id or name")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {}, separators=(",", ":"), ensure_ascii=False)
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}


def _answer_given(function: Mapping[str, Any]) -> str:
    """Take the answer out of the call of a tool of ours."""
    text: str = function["arguments"]
    if function["name"] == ANSWER_TOOL:
        return text
    try:
        arguments = json.loads(text)
        return json.dumps(arguments["answer"], separators=(",", ":"), ensure_ascii=False)
    except (ValueError, TypeError, LookupError, RecursionError):
        return text  # no answer that any schema takes; validation says so
