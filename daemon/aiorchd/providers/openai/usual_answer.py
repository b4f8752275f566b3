"""Read a whole chat answer of the usual form in one go. Pure.

Nearly every answer holds the fields below and no others, with values of these kinds. Such an answer is decoded straight into
them, its numbers checked on the way, in a sixth of the steps that the walk through maps takes. What has any other field or
value, right or wrong, is not taken here: `answer.read_chat` reads it, and what that says holds. So nothing is understood
otherwise (``tests/aiorchd/providers/openai/test_usual_answer.py`` compares the two).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from aiorchd.providers.answer import ChatAnswer
from aiorchd.providers.openai.usage import usage_of

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None
_Nothing: TypeAlias = Annotated[list[None], msgspec.Meta(max_length=0)] | None


class _PromptDetails(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None
    audio_tokens: _Count = None


class _CompletionDetails(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: _Count = None
    audio_tokens: _Count = None
    accepted_prediction_tokens: _Count = None
    rejected_prediction_tokens: _Count = None


_NO_PROMPT_DETAILS: Final = _PromptDetails()
_NO_COMPLETION_DETAILS: Final = _CompletionDetails()


class _Usage(msgspec.Struct, forbid_unknown_fields=True):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count = None
    prompt_cache_miss_tokens: _Count = None


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str | None = None
    content: str | None = None
    tool_calls: _Nothing = None
    refusal: None = None
    annotations: _Nothing = None
    audio: None = None
    function_call: None = None
    reasoning_content: None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    message: _Message
    index: int | None = None
    finish_reason: str | None = None
    logprobs: None = None
    stop_reason: None = None


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1, max_length=1)]
    object: Literal["chat.completion"]
    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    usage: _Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    prompt_logprobs: None = None


_decode: Final = msgspec.json.Decoder(_Payload).decode


def read_usual(body: bytes) -> ChatAnswer | None:
    """Read the body of an answer; None for one that is not of this form."""
    try:
        payload = _decode(body)
    except (ValueError, RecursionError):
        return None
    choice = payload.choices[0]
    message, usage = choice.message, payload.usage
    extra: dict[str, Any] = {}
    if payload.service_tier is not None:
        extra["service_tier"] = payload.service_tier
    if payload.system_fingerprint is not None:
        extra["system_fingerprint"] = payload.system_fingerprint
    if message.annotations is not None:
        extra["annotations"] = message.annotations
    told = None
    if usage is not None and usage.prompt_tokens is not None:
        prompt_details = usage.prompt_tokens_details or _NO_PROMPT_DETAILS
        completion_details = usage.completion_tokens_details or _NO_COMPLETION_DETAILS
        cached = prompt_details.cached_tokens
        told = usage_of(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.prompt_cache_hit_tokens if cached is None else cached,
            prompt_details.cache_write_tokens,
            completion_details.reasoning_tokens,
        )
    return ChatAnswer(message.content or "", (), choice.finish_reason, payload.model, told, extra)
