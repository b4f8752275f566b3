"""Read an error of a provider and say which of ours it is.

Bodies seen: ``{"error": {"message", "type", "param", "code"}}`` (OpenAI and most), ``{"error": "text"}`` (Ollama),
``{"object": "error", "message", "type", "code"}`` (vLLM, Mistral), ``{"type": "error", "error": {"type", "message"}}``
(Anthropic), ``{"error": {"code": 429, "status", "message", "details"}}`` (Google, sometimes in a list of one),
``{"detail": …}`` (FastAPI), ``{"message": …}``, and the HTML of whatever stands before the server. The same objects come
inside a 200 and inside its event stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from aiorch.errors import (
    CallError,
    ContentFiltered,
    ContextExceeded,
    InvalidRequest,
    ProviderAuth,
    ProviderError,
    RateLimited,
    UnknownModel,
)
from aiorchd.providers.answer import whole_text
from aiorchd.providers.google_quota import is_for_the_day
from aiorchd.providers.hints import limited_by, limits_told, retry_after_s, should_retry
from aiorchd.providers.secret import Secret

ERROR_BODY_BYTES: Final = 65_536
"""As much of an error's body is read."""

_MESSAGE_CHARACTERS: Final = 300
_REQUEST_ID: Final = ("x-request-id", "request-id", "apim-request-id")
_KEY_LIKE: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key)[-_](?=[\w*-]*[\d*])[\w*-]{6,}|\bAIza[\w*-]{6,}|\bBearer\s+\S{6,}", re.IGNORECASE
)
_TITLE: Final = re.compile(rb"<title[^>]*>(.{1,200}?)</title>", re.IGNORECASE | re.DOTALL)

_NO_CREDIT: Final = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"}
    | {"insufficient_balance", "arrearage", "insufficient_credits", "billing_error"}
)
_TOO_LONG: Final = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_FILTERED: Final = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}
    | {"data_inspection_failed", "content_filter_error", "sensitive_content"}
)
_BAD_KEY: Final = frozenset(
    {"invalid_api_key", "authentication_error", "account_deactivated", "permission_error", "invalid_authentication"}
    | {"unauthorized", "permission_denied", "unauthenticated", "failed_precondition"}
)
_NO_MODEL: Final = frozenset({"model_not_found", "invalid_model", "deploymentnotfound", "model_not_available"})
_LIMITED: Final = frozenset(
    {"rate_limit_exceeded", "rate_limit_error", "rate_limit_reached", "requests", "tokens", "slow_down"}
    | {"too_many_requests", "resource_exhausted", "throttled"}
)
_OVERLOADED: Final = frozenset(
    {
        "overloaded_error",
        "server_is_overloaded",
        "engine_overloaded",
        "engine_overloaded_error",
        "overloaded",
        "slow_down",
    }
)
_OVERLOADED_SENTENCE: Final = "is overloaded"
_TOO_LONG_TEXT: Final = re.compile(
    r"context.?length|context window|context size|prompt is too long|input is too long|too many (?:input |prompt )?tokens"
    r"|reduce the length of|longer than the maximum model|exceed context limit|input token count.{0,40}exceeds",
    re.IGNORECASE,
)
_BAD_KEY_TEXT: Final = re.compile(r"api key not valid|(?:invalid|incorrect|missing) api.?key", re.IGNORECASE)
_NO_MODEL_TEXT: Final = re.compile(
    r"\bmodels?\b.*\b(?:not found|not exist|not available|unknown)|not a valid model", re.IGNORECASE
)
_NO_CREDIT_TEXT: Final = re.compile(
    r"credit balance is too low|reached your specified .{0,20}usage limits", re.IGNORECASE
)
_STATUS_OF_KIND: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)
"""Anthropic's types of errors; inside a stream they come without the status."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a provider said went wrong. ``status`` is 0 for an error inside a 200 that names none."""

    status: int
    code: str | None = None
    kind: str | None = None
    message: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def marks(self) -> set[str]:
        """Code and type in lower case, whichever the provider uses for what; and Azure's inner code."""
        inner = self.raw.get("innererror", self.raw.get("inner_error"))
        nested = inner.get("code") if isinstance(inner, Mapping) else None
        return {mark.lower() for mark in (self.code, self.kind, nested) if isinstance(mark, str)}


def read_complaint(status: int, body: bytes, key: Secret | None) -> Complaint:
    """Read the body of an answer with an error status."""
    try:
        payload = json.loads(body[:ERROR_BODY_BYTES])
    except (ValueError, RecursionError):
        title = _TITLE.search(body[:ERROR_BODY_BYTES])
        text = title[1] if title else b"" if b"<" in body[:100] else body[: _MESSAGE_CHARACTERS * 4]
        return Complaint(status, message=clean(text.decode("utf-8", "replace"), key))
    return complaint_in(payload, key, status=status) or Complaint(status)


def complaint_in(payload: Any, key: Secret | None, *, status: int = 0) -> Complaint | None:
    """Find the error in a JSON value, None when it holds none. A status that the error names counts where 0 is given."""
    if isinstance(payload, list) and len(payload) == 1:  # Google, where a stream was asked for
        payload = payload[0]
    if not (type(payload) is dict or isinstance(payload, Mapping)):
        return None
    error: Any = payload.get("error")
    if not error:
        if payload.get("object") == "error" or (status and ("message" in payload or "detail" in payload)):
            error = {**payload, "message": payload.get("message") or payload.get("detail")}
        else:
            return None
    if not isinstance(error, Mapping):
        error = {"message": error}
    message = error.get("message")
    if not isinstance(message, str):
        message = "" if message is None else json.dumps(message, default=str, ensure_ascii=False)
    code, kind = error.get("code"), error.get("type", error.get("status"))
    if not status:
        named = [
            value for value in (code, error.get("status"), error.get("status_code")) if not isinstance(value, bool)
        ]
        status = next((value for value in named if isinstance(value, int) and 400 <= value < 600), 0)
        status = status or _STATUS_OF_KIND.get(kind if isinstance(kind, str) else "", 0)
    return Complaint(status, _mark(code, key), _mark(kind, key), clean(message, key), error)


def error_for(
    complaint: Complaint, headers: Mapping[str, str], *, provider: str, model: str, wall_time: float
) -> CallError:
    """Decide which of our errors it is; ``details`` carry what is known, shortened and without secrets."""
    details: dict[str, Any] = {"provider": provider}
    if complaint.status:
        details["status"] = complaint.status
    if complaint.code or complaint.kind:
        details["provider_code"] = complaint.code or complaint.kind
    if complaint.message:
        details["provider_message"] = complaint.message
    limits = limits_told(headers, now=0.0, wall_time=wall_time)
    if limits is not None:
        details["rate_limit"] = limits.to_plain()
    given = request_id(headers)
    if given:
        details["provider_request_id"] = given
    if complaint.status == 402 or not complaint.marks.isdisjoint(_NO_CREDIT):
        details["no_credit"] = True
    wait_s = retry_after_s(headers, complaint.raw, wall_time)
    error_class, what, retryable = _judge(complaint, model)
    if error_class is RateLimited:
        about = limited_by(complaint.marks, complaint.message)
        if about is not None:
            details["limited_by"] = about
        if what == _OVERLOADED_SENTENCE:
            details["overloaded"] = True
    told = should_retry(headers)
    if told is not None and error_class in (ProviderError, RateLimited):
        retryable = told
    labels = [str(complaint.status)] if complaint.status else []
    labels += [complaint.code] if complaint.code and complaint.code not in labels else []
    sentence = f"{provider} {what}" + (f" ({', '.join(labels)})" if labels else "")
    if complaint.message:
        sentence += f": {complaint.message}"
    waits = error_class in (ProviderError, RateLimited)
    return error_class(sentence, retryable=retryable, retry_after_s=wait_s if waits else None, details=details)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Find the provider's own name for the request: OpenAI and most, Anthropic, Azure."""
    for name in _REQUEST_ID:
        if given := headers.get(name):
            return given[:100]
    return None


def _judge(complaint: Complaint, model: str) -> tuple[type[CallError], str, bool]:
    """Choose class, sentence and whether asking again may help; the first that fits."""
    status, marks, message = complaint.status, complaint.marks, complaint.message
    if status == 402 or not marks.isdisjoint(_NO_CREDIT) or (status in (400, 403) and _NO_CREDIT_TEXT.search(message)):
        return RateLimited, "answers no more: the account's credit or quota is used up", False
    if not marks.isdisjoint(_TOO_LONG) or (status in (0, 400, 413, 422, 500) and _TOO_LONG_TEXT.search(message)):
        return ContextExceeded, f"says that the prompt is too long for {model}", False
    if not marks.isdisjoint(_FILTERED) or (status == 403 and "flagged" in message):
        return ContentFiltered, "withheld the answer by its content filter", False
    if status in (401, 403) or not marks.isdisjoint(_BAD_KEY) or (status == 400 and _BAD_KEY_TEXT.search(message)):
        return ProviderAuth, "refused the key", False
    named = status == 404 and message.startswith("model: ")  # all that Anthropic says
    if named or not marks.isdisjoint(_NO_MODEL) or (status in (400, 404) and _NO_MODEL_TEXT.search(message)):
        return UnknownModel, f"does not know the model {model}", False
    if status in (404, 405):
        return ProviderError, "has nothing at this address; is base_url right?", False
    limited = status in (429, 498) or not marks.isdisjoint(_LIMITED)
    if limited and (status == 413 or "request too large" in message.lower()):
        return RateLimited, "limits tokens below what this one request needs", False
    if limited and is_for_the_day(complaint.raw):
        return RateLimited, "answers no more today: the day's quota is used up", False
    if limited:
        return RateLimited, "limits requests", True
    if status == 413:
        return ContextExceeded, "does not take a request of this size", False
    if status == 529 or (status in (0, 500, 503) and (not marks.isdisjoint(_OVERLOADED) or "overloaded" in message)):
        return RateLimited, _OVERLOADED_SENTENCE, True
    if status in (0, 408, 409, 425) or status >= 500:
        return ProviderError, "failed", True
    if status in (400, 406, 415, 422):
        return InvalidRequest, "refused the request", False
    return ProviderError, "refused the request", False


def _mark(value: Any, key: Secret | None) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int) or value in ("", "None"):
        return None
    return clean(str(value), key)[:100]


def clean(message: str, key: Secret | None) -> str:
    """Make a message of someone else's fit to be shown: one line, short, no key (OpenAI repeats parts of a wrong one)."""
    message = whole_text(message)
    if key is not None:
        message = key.redact(message)
    message = " ".join(_KEY_LIKE.sub("[key]", message[: _MESSAGE_CHARACTERS * 4]).split())
    return message if len(message) <= _MESSAGE_CHARACTERS else message[: _MESSAGE_CHARACTERS - 1] + "…"
