"""What all of Anthropic's endpoints share: error bodies, headers, the list of models."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from aiorchsim.buckets import RateLimits, Refused
from aiorchsim.dialects.openai import bearer_key
from aiorchsim.responses import Dialect, Refusal

CREATED_AT: Final = "2024-01-01T00:00:00Z"
NO_SUCH_MODEL: Final = "model: {name}"
VERSION_HEADER: Final = "anthropic-version"
_KINDS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_MESSAGES: Final[Mapping[str, str]] = {
    "invalid_api_key": "invalid x-api-key",
    "insufficient_quota": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits.",
    "server_is_overloaded": "Overloaded",
}
_STATUSES: Final[Mapping[str, int]] = {"insufficient_quota": 400}


def refusal_body(refusal: Refusal) -> bytes:
    """Anthropic's error object."""
    code = refusal.code or ""
    status = _STATUSES.get(code, refusal.status)
    message = _MESSAGES.get(code, refusal.message)
    if code == "context_length_exceeded":
        message = f"prompt is too long: {message}"
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": None}).encode(
        "ascii"
    )


def model_list(names: list[str]) -> bytes:
    """The body of GET /v1/models."""
    data = [{"type": "model", "id": name, "display_name": name, "created_at": CREATED_AT} for name in names]
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return json.dumps({"data": data, "has_more": False, **ends}).encode("ascii")


def event(name: str, data: str) -> bytes:
    """One named event of a stream; `data` is JSON."""
    return f"event: {name}\ndata: {data}\n\n".encode("ascii")


def _error_event(refusal: Refusal) -> bytes:
    return event("error", refusal_body(refusal).decode("ascii"))


def _rate_limited(name: str, refused: Refused, tells_retry: bool) -> Refusal:
    unit = {"requests": "requests per minute", "tokens": "tokens per minute"}[refused.limited_by]
    message = f"This request would exceed your organization's rate limit of {refused.limit} {unit} (model: {name})."
    told_s = refused.retry_after_s if tells_retry else None
    return Refusal(429, refused.limited_by, message, "rate_limit_exceeded", retry_after_s=told_s)


def _limit_lines(limits: RateLimits, now: float, created: int) -> bytes:
    return "".join(
        f"anthropic-ratelimit-{kind}-limit: {limit}\r\nanthropic-ratelimit-{kind}-remaining: {remaining}\r\n"
        f"anthropic-ratelimit-{kind}-reset: {_moment(created + full_in_s)}\r\n"
        for kind, limit, remaining, full_in_s in limits.told(now)
    ).encode("ascii")


def _retry_lines(seconds: float) -> bytes:
    return f"retry-after: {max(1, math.ceil(seconds - 1e-6))}\r\n".encode("ascii")


def _moment(since_1970_s: float) -> str:
    return datetime.fromtimestamp(math.ceil(since_1970_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key_of(headers: Mapping[str, str], query: str) -> str:
    return headers.get("x-api-key", "").strip() or bearer_key(headers, query)


ANTHROPIC: Final = Dialect(
    name="anthropic",
    refusal_body=refusal_body,
    error_event=_error_event,
    broken_event=b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":\n\n',
    rate_limited=_rate_limited,
    limit_lines=_limit_lines,
    retry_lines=_retry_lines,
    key_of=_key_of,
    id_line=b"request-id: req_%016x\r\n",
    statuses=_STATUSES,
)
