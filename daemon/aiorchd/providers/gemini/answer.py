"""Read a whole answer of Gemini's. Pure; a streamed answer is first put together into the same shape (see `stream`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from aiorchd.providers.answer import ChatAnswer, Unreadable, packable, unnamed, whole_text
from aiorchd.providers.gemini.contents import OWN_ID
from aiorchd.providers.gemini.usage import KNOWN_FIELDS, read_usage

FINISH_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
    | dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "ESCALATION",
            "MODEL_ARMOR",
        ),
        "content_filter",
    )
)
"""Gemini's word to OpenAI's; others (``MALFORMED_FUNCTION_CALL``, ``OTHER``) stay, in lower case."""

_PAYLOAD_FIELDS: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
_CANDIDATE_FIELDS: Final = frozenset({"content", "finishReason", "index"})
_FAILED: Final = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})
_BY_PROMPT: Final = "promptFeedback"


def read_chat(payload: Any) -> ChatAnswer:
    """Read the JSON of an answer; raises `Unreadable`."""
    if not isinstance(payload, Mapping):
        raise Unreadable("with JSON that is not an object")
    candidates = payload.get("candidates")
    feedback = payload.get(_BY_PROMPT)
    if isinstance(feedback, Mapping) and isinstance(feedback.get("blockReason"), str) and not candidates:
        return _blocked(payload, feedback)
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], Mapping):
        raise Unreadable("without any candidate", read_usage(payload.get("usageMetadata")))
    candidate = candidates[0]
    parts = parts_of(candidate)
    text = "".join(part["text"] for part in parts if is_said(part))
    calls = tuple(tool_call(part, index) for index, part in enumerate(one for one in parts if is_call(one)))
    given = candidate.get("finishReason")
    reason = given if isinstance(given, str) else None
    if reason in _FAILED and not text and not calls:
        raise Unreadable(f"with a call of a function that it could not finish ({reason})")
    finish_reason = FINISH_REASONS.get(reason, whole_text(reason.lower())) if reason is not None else None
    withheld = None
    if finish_reason == "content_filter":
        message = candidate.get("finishMessage")
        withheld = f"{reason}: {message}" if isinstance(message, str) else reason
    model = payload.get("modelVersion")
    return ChatAnswer(
        text=whole_text(text),
        tool_calls=calls,
        finish_reason="tool_calls" if finish_reason == "stop" and calls else finish_reason,
        provider_model=whole_text(model) if isinstance(model, str) else None,
        usage=read_usage(payload.get("usageMetadata")),
        extra=packable(_extra(payload, candidates, parts)),
        withheld=withheld,
    )


def parts_of(candidate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give the parts of a candidate's content, none when it has none; raises `Unreadable`."""
    content = candidate.get("content")
    if content is None:
        return []
    parts = content.get("parts", []) if isinstance(content, Mapping) else None
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise Unreadable("with a content that is not made of parts")
    return parts


def is_said(part: Mapping[str, Any]) -> bool:
    """Tell whether a part is text of the answer: no thought, and nothing else."""
    return isinstance(part.get("text"), str) and part.get("thought") is not True


def is_call(part: Mapping[str, Any]) -> bool:
    """Tell whether a part calls a function."""
    return isinstance(part.get("functionCall"), Mapping)


def tool_call(part: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Give a call in OpenAI's shape; ``index`` counts the calls of the answer, for those that come without an id."""
    call = part["functionCall"]
    name, id_, arguments = call.get("name"), call.get("id"), call.get("args")
    if not isinstance(name, str):
        raise Unreadable("with a call of a function that has no name")
    text = json.dumps(arguments if isinstance(arguments, Mapping) else {}, separators=(",", ":"), ensure_ascii=False)
    made: dict[str, Any] = {
        "id": id_ if isinstance(id_, str) and id_ else f"{OWN_ID}{index}",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }
    if isinstance(part.get("thoughtSignature"), str):
        made["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
    plain: dict[str, Any] = packable(made)
    return plain


def _extra(payload: Mapping[str, Any], candidates: list[Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    extra = unnamed(payload, _PAYLOAD_FIELDS)
    extra.update(unnamed(candidates[0], _CANDIDATE_FIELDS))
    if candidates[0].get("finishReason") not in ("STOP", "MAX_TOKENS", None):
        extra["finishReason"] = candidates[0]["finishReason"]
    usage = payload.get("usageMetadata")
    if isinstance(usage, Mapping):
        rest = unnamed(usage, KNOWN_FIELDS)
        if rest:
            extra["usage"] = rest
    if len(candidates) > 1:
        extra["candidates"] = candidates
    thoughts = "".join(
        part["text"] for part in parts if part.get("thought") is True and isinstance(part.get("text"), str)
    )
    if thoughts:
        extra["reasoning_content"] = thoughts
    if any(not is_call(part) and set(part) != {"text"} for part in parts):
        extra["content"] = parts
    return extra


def _blocked(payload: Mapping[str, Any], feedback: Mapping[str, Any]) -> ChatAnswer:
    reason, message = feedback["blockReason"], feedback.get("blockReasonMessage")
    extra: dict[str, Any] = packable(unnamed(payload, _PAYLOAD_FIELDS))
    model = payload.get("modelVersion")
    return ChatAnswer(
        text="",
        tool_calls=(),
        finish_reason="content_filter",
        provider_model=whole_text(model) if isinstance(model, str) else None,
        usage=read_usage(payload.get("usageMetadata")),
        extra=extra,
        withheld=f"{reason}: {message}" if isinstance(message, str) else reason,
    )
