"""What a provider says of its limits: when to ask again, and how much is left.

Sources, all seen in the wild: ``retry-after-ms`` (Azure), ``retry-after`` in seconds or as a date (RFC 9110 section
10.2.3), ``x-should-retry`` (OpenAI, Anthropic), sentences such as «Please try again in 5.289s» (OpenAI, Groq) or «Please
retry after 10 seconds» (Azure), ``google.rpc.RetryInfo`` in the error's details (Google), and the headers
``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``, whose resets are durations such as ``6m0s`` or ``12ms``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

_LONGEST_WAIT_S: Final = 86_400.0
_UNIT: Final = r"(?:milliseconds?|msecs?|ms|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])"
_DURATION: Final = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})")
_SENTENCE: Final = re.compile(
    rf"\b(?:try again|retry|wait)(?: (?:in|after|for|at least))? ((?:\d+(?:\.\d+)?\s*{_UNIT}[\s,]*(?:and )?)+)",
    re.IGNORECASE,
)
_UNITS_S: Final = (("ms", 0.001), ("mil", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0))


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How much a provider says is left of a key's quota; None where it said nothing, or nonsense (Azure: -1)."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None

    def to_plain(self) -> dict[str, Any]:
        """Give what is known as a plain map, for an error's details."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """Read the headers of an answer, None when there are none."""
    limit_requests = headers.get("x-ratelimit-limit-requests")
    limit_tokens = headers.get("x-ratelimit-limit-tokens")
    remaining_requests = headers.get("x-ratelimit-remaining-requests")
    remaining_tokens = headers.get("x-ratelimit-remaining-tokens")
    if limit_requests is limit_tokens is remaining_requests is remaining_tokens is None:
        return None
    return RateLimits(
        _count(limit_requests),
        _count(remaining_requests),
        duration_s(headers.get("x-ratelimit-reset-requests")),
        _count(limit_tokens),
        _count(remaining_tokens),
        duration_s(headers.get("x-ratelimit-reset-tokens")),
    )


def retry_after_s(headers: Mapping[str, str], error: Mapping[str, Any], wall_time: float) -> float | None:
    """Find how long to wait at least, None when nobody says.

    ``error`` is the error object of the body. Past dates and negative numbers are 0; what is over a day is a day.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    header = headers.get("retry-after")
    if header is not None:
        seconds = _number(header)
        if seconds is None:
            seconds = _seconds_until(header, wall_time)
        if seconds is None:
            seconds = duration_s(header)
        if seconds is not None:
            return _bounded(seconds)
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            seconds = duration_s(detail["retryDelay"])
            if seconds is not None:
                return _bounded(seconds)
    message = error.get("message")
    if isinstance(message, str):
        found = _SENTENCE.search(message[:2000])
        if found:
            seconds = duration_s(found[1])
            if seconds is not None:
                return _bounded(seconds)
    return _empty_bucket_s(rate_limits(headers))


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Read the provider's own word on whether asking again makes sense."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def duration_s(text: str | None) -> float | None:
    """Read a duration such as ``6m0s``, ``12ms``, ``1h2m3.5s``, ``2 minutes`` or plain seconds."""
    if text is None:
        return None
    plain = _number(text)
    if plain is not None:
        return plain if plain >= 0 else None
    total, found = 0.0, False
    for number, unit in _DURATION.findall(text[:100].lower()):
        total += float(number) * next(scale for name, scale in _UNITS_S if unit.startswith(name))
        found = True
    return total if found else None


def _empty_bucket_s(limits: RateLimits | None) -> float | None:
    """Without a hint, what is used up tells by its reset how long to wait."""
    if limits is None:
        return None
    waits = [
        reset_s
        for remaining, reset_s in (
            (limits.remaining_requests, limits.reset_requests_s),
            (limits.remaining_tokens, limits.reset_tokens_s),
        )
        if remaining == 0 and reset_s is not None
    ]
    return _bounded(max(waits)) if waits else None


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds_until(date: str, wall_time: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError):
        return None
    if moment.tzinfo is None:  # the zone «-0000», or none: HTTP's dates are always GMT
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - wall_time


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)
