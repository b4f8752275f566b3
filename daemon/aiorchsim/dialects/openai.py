"""What all of OpenAI's endpoints share: error bodies, headers, the list of models."""

import json
from collections.abc import Mapping
from typing import Final

from aiorchsim.buckets import RateLimits, Refused, duration, retry_after_lines
from aiorchsim.responses import Dialect, Refusal

CREATED: Final = 1_700_000_000
NO_SUCH_MODEL: Final = "The model `{name}` does not exist or you do not have access to it."


def refusal_body(refusal: Refusal) -> bytes:
    """OpenAI's error object."""
    error = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
    return json.dumps({"error": error}).encode("ascii")


def model_list(names: list[str]) -> bytes:
    """The body of GET /v1/models."""
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "aiorchsim"} for name in names]
    return json.dumps({"object": "list", "data": data}).encode("ascii")


def bearer_key(headers: Mapping[str, str], query: str) -> str:  # noqa: ARG001 (it is never in the query)
    """The key in `Authorization: Bearer`; empty when there is none."""
    written = headers.get("authorization")
    if written is None:
        return ""
    scheme, _, key = written.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def rate_limited(name: str, refused: Refused, tells_retry: bool) -> Refusal:
    """The 429 of a call that was not let in."""
    unit = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}[refused.limited_by]
    if refused.retry_after_s is None:
        message = (
            f"Request too large for {name} on {unit}: Limit {refused.limit}, Requested {refused.requested}. "
            "The input or output tokens must be reduced in order to run successfully."
        )
    else:
        message = (
            f"Rate limit reached for {name} on {unit}: Limit {refused.limit}, Used {refused.used}, "
            f"Requested {refused.requested}."
        )
        if tells_retry:
            message += f" Please try again in {duration(refused.retry_after_s)}."
    told_s = refused.retry_after_s if tells_retry else None
    return Refusal(429, refused.limited_by, message, "rate_limit_exceeded", retry_after_s=told_s)


def _error_event(refusal: Refusal) -> bytes:
    return b"data: " + refusal_body(refusal) + b"\n\n"


def _limit_lines(limits: RateLimits, now: float, created: int) -> bytes:  # noqa: ARG001 (durations need no date)
    return limits.header_lines(now)


OPENAI: Final = Dialect(
    name="openai",
    refusal_body=refusal_body,
    error_event=_error_event,
    broken_event=b'data: {"id":"chatcmpl-sim","choices":[{"delta":{"content":\n\n',
    rate_limited=rate_limited,
    limit_lines=_limit_lines,
    retry_lines=retry_after_lines,
    key_of=bearer_key,
    id_line=b"x-request-id: req_%016x\r\n",
    time_line=b"openai-processing-ms: %d\r\n",
)
