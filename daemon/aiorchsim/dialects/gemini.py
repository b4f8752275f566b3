"""What all of Gemini's endpoints share: google.rpc errors, paths, texts of parts, the list of models."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from aiorchsim.buckets import RateLimits, Refused
from aiorchsim.dialects.openai import bearer_key
from aiorchsim.dialects.reading import wrong_type
from aiorchsim.responses import Dialect, Refusal

PREFIX: Final = "/v1beta/models"
NO_SUCH_MODEL: Final = (
    "models/{name} is not found for API version v1beta, or is not supported for this method. Call ModelService.ListModels "
    "to see the list of available models and their supported methods."
)
METHODS: Final = ("generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents")
_TYPE: Final = "type.googleapis.com/google.rpc."
_WORDS: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MESSAGES: Final[Mapping[str, str]] = {
    "invalid_api_key": "API key not valid. Please pass a valid API key.",
    "overloaded": "The model is overloaded. Please try again later.",
    "server_is_overloaded": "The model is overloaded. Please try again later.",
}
_STATUSES: Final[Mapping[str, int]] = {"invalid_api_key": 400, "overloaded": 503}


def refusal_body(refusal: Refusal) -> bytes:
    """A google.rpc error, with RetryInfo when it is known when to come again."""
    code = refusal.code or ""
    status = _STATUSES.get(code, refusal.status)
    message = _MESSAGES.get(code, refusal.message)
    details: list[dict[str, Any]] = []
    if code == "invalid_api_key":
        details.append({"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"})
    if status == 429:
        metric = f"generativelanguage.googleapis.com/generate_content_{refusal.kind}"
        details.append({"@type": f"{_TYPE}QuotaFailure", "violations": [{"quotaMetric": metric}]})
    if refusal.retry_after_s is not None:
        message += f" Please retry in {refusal.retry_after_s:.9g}s."
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{refusal.retry_after_s:.3f}s"})
    error: dict[str, Any] = {"code": status, "message": message, "status": _WORDS.get(status, "UNKNOWN")}
    return json.dumps({"error": error | ({"details": details} if details else {})}).encode("ascii")


def model_list(names: list[str]) -> bytes:
    """The body of GET /v1beta/models."""
    models = [
        {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": list(METHODS)} for name in names
    ]
    return json.dumps({"models": models}).encode("ascii")


def named_in(path: str) -> tuple[str, str]:
    """The model and the method that a path names; both empty where it names none."""
    model, _, method = path.removeprefix(f"{PREFIX}/").rpartition(":")
    return (unquote(model), method) if method in METHODS else ("", "")


def texts_of(content: Any, where: str) -> list[dict[str, Any]]:
    """The parts of a content. Raises NotUnderstood."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
        raise wrong_type(f"{where}.parts", "an array of objects", parts)
    return parts


def _error_event(refusal: Refusal) -> bytes:
    return b"data: " + refusal_body(refusal) + b"\r\n\r\n"


def _rate_limited(name: str, refused: Refused, tells_retry: bool) -> Refusal:
    message = (
        "You exceeded your current quota, please check your plan and billing details. "
        f"Quota exceeded for {refused.limited_by} per minute, limit: {refused.limit}, model: {name}."
    )
    told_s = refused.retry_after_s if tells_retry else None
    return Refusal(429, refused.limited_by, message, "rate_limit_exceeded", retry_after_s=told_s)


def _no_lines(limits: RateLimits, now: float, created: int) -> bytes:  # noqa: ARG001 (Gemini tells none of it)
    return b""


def _no_retry_lines(seconds: float) -> bytes:  # noqa: ARG001 (it stands in the body)
    return b""


def _key_of(headers: Mapping[str, str], query: str) -> str:
    key = headers.get("x-goog-api-key", "").strip()
    if not key and "key=" in query:
        key = parse_qs(query).get("key", [""])[0]
    return key or bearer_key(headers, query)


GEMINI: Final = Dialect(
    name="gemini",
    refusal_body=refusal_body,
    error_event=_error_event,
    broken_event=b'data: {"candidates":[{"content":{"parts":[{"text":\r\n\r\n',
    rate_limited=_rate_limited,
    limit_lines=_no_lines,
    retry_lines=_no_retry_lines,
    key_of=_key_of,
    statuses=_STATUSES,
)
