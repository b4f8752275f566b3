"""What a provider says of its limits: when to ask again, and how much is left. One reader for all dialects, since what
stands before a provider (a gateway, a cloud's own front) may speak another one.

Sources, all seen in the wild: ``retry-after-ms`` (Azure), ``retry-after`` in seconds or as a date (RFC 9110 section
10.2.3), ``x-should-retry`` (OpenAI, Anthropic), sentences such as «Please try again in 5.289s» (OpenAI, Groq) or «Please
retry after 10 seconds» (Azure), ``google.rpc.RetryInfo`` in the error's details (Google), and two families of headers:

``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``, also with ``-minute`` or ``-day`` behind (Cerebras); the resets
are durations such as ``6m0s`` or ``12ms``, or plain seconds (Azure), and -1 or a lonely 0 stands for nothing (Azure).
``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}``, where the resets are moments
(RFC 3339) on the provider's clock, which the ``date`` header shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from aiorchd.calls.rate_limits import DAY_S, MINUTE_S, LimitsTold, Quota, QuotaTold

_LONGEST_WAIT_S: Final = 86_400.0
_UNIT: Final = r"(?:milliseconds?|msecs?|ms|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])"
_DURATION: Final = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})")
_SENTENCE: Final = re.compile(
    rf"\b(?:try again|retry|wait)(?: (?:in|after|for|at least))? ((?:\d+(?:\.\d+)?\s*{_UNIT}[\s,]*(?:and )?)+)",
    re.IGNORECASE,
)
_LIMITED_WORD: Final = re.compile(r"\b(?:requests|tokens|rpm|tpm)\b")
_UNITS_S: Final = (("ms", 0.001), ("mil", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0))


_OPENAI_QUOTAS: Final[tuple[tuple[str, Quota, float | None], ...]] = (
    ("requests", "requests", None),
    ("tokens", "tokens", None),
    ("requests-minute", "requests", MINUTE_S),
    ("requests-day", "requests", DAY_S),
    ("tokens-minute", "tokens", MINUTE_S),
    ("tokens-day", "tokens", DAY_S),
)
_ANTHROPIC_QUOTAS: Final[tuple[tuple[str, Quota], ...]] = (
    ("requests", "requests"),
    ("tokens", "tokens"),
    ("input-tokens", "input_tokens"),
    ("output-tokens", "output_tokens"),
)
_OPENAI_NAMES: Final[tuple[tuple[str, str, str, Quota, float | None], ...]] = tuple(
    (f"x-ratelimit-limit-{name}", f"x-ratelimit-remaining-{name}", f"x-ratelimit-reset-{name}", quota, window_s)
    for name, quota, window_s in _OPENAI_QUOTAS
)
_ANTHROPIC_NAMES: Final[tuple[tuple[str, str, str, Quota], ...]] = tuple(
    (
        f"anthropic-ratelimit-{name}-limit",
        f"anthropic-ratelimit-{name}-remaining",
        f"anthropic-ratelimit-{name}-reset",
        quota,
    )
    for name, quota in _ANTHROPIC_QUOTAS
)
_NAMES: Final = frozenset(
    [name for limit, remaining, *_ in _OPENAI_NAMES for name in (limit, remaining)]
    + [name for limit, remaining, *_ in _ANTHROPIC_NAMES for name in (limit, remaining)]
)
_CLOCKS_AGREE_S: Final = 2.0
"""The ``date`` header has whole seconds: a wall clock this near to it is the better one."""


def tells_limits(headers: Mapping[str, str]) -> bool:
    """Whether the headers of an answer may say anything of the limits: of most providers' they do not."""
    return not _NAMES.isdisjoint(headers)


def limits_told(headers: Mapping[str, str], *, now: float, wall_time: float) -> LimitsTold | None:
    """Read what the headers of an answer (names in lower case) say of the limits, None when they say nothing.

    ``now`` is Trio's clock and ``wall_time`` the wall clock, both at the moment the headers came. Nonsense is nothing.
    """
    if not tells_limits(headers):
        return None
    quotas: list[QuotaTold] = []
    for limit, remaining, reset, quota, window_s in _OPENAI_NAMES:
        if limit in headers or remaining in headers:
            reset_s = duration_s(headers.get(reset))
            _add(quotas, quota, headers.get(limit), headers.get(remaining), reset_s, window_s)
    for limit, remaining, reset, quota in _ANTHROPIC_NAMES:
        if limit in headers or remaining in headers:
            reset_s = _moment_s(headers.get(reset), headers.get("date"), wall_time)
            _add(quotas, quota, headers.get(limit), headers.get(remaining), reset_s, None)
    return LimitsTold(now, tuple(quotas)) if quotas else None


def _add(
    quotas: list[QuotaTold],
    quota: Quota,
    limit: str | None,
    remaining: str | None,
    reset_s: float | None,
    window_s: float | None,
) -> None:
    limited, left = _count(limit), _count(remaining)
    if left == 0 and not limited and not reset_s:
        left = None  # Azure's way of saying nothing
    if limited == 0:
        limited = None  # a quota of nothing would never let anybody in, and this answer came
    if reset_s is not None and reset_s > _LONGEST_WAIT_S:
        reset_s = None
    if limited is not None or left is not None:
        quotas.append(QuotaTold(quota, limited, left, reset_s, window_s))


def _moment_s(text: str | None, date: str | None, wall_time: float) -> float | None:
    """Tell how far ahead an RFC 3339 moment lies, by the clock of who named it."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip()[:40].upper())
    except ValueError:
        return duration_s(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = moment.timestamp() - _their_clock(date, wall_time)
    return seconds if seconds >= 0.0 else None


def _their_clock(date: str | None, wall_time: float) -> float:
    """The wall clock of who sent a ``date``: ours, unless theirs clearly says something else."""
    ahead_s = _seconds_until(date, wall_time) if date is not None else None
    return wall_time if ahead_s is None or abs(ahead_s) <= _CLOCKS_AGREE_S else wall_time + ahead_s


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
            seconds = _seconds_until(header, _their_clock(headers.get("date"), wall_time))
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
    return _empty_bucket_s(limits_told(headers, now=0.0, wall_time=wall_time))


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Read the provider's own word on whether asking again makes sense."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def limited_by(marks: Collection[str], message: str) -> Literal["requests", "tokens"] | None:
    """Find which quota a refusal for its rate is about, by the error's code and type (lower case) or its sentence."""
    for word in (*sorted(marks), message[:2000].lower()):
        found = _LIMITED_WORD.search(word)
        if found:
            return "tokens" if found[0][0] == "t" else "requests"
    return None


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


def _empty_bucket_s(limits: LimitsTold | None) -> float | None:
    """Without a hint, what is used up tells by its reset how long to wait."""
    if limits is None:
        return None
    waits = [told.reset_s for told in limits.quotas if told.remaining == 0 and told.reset_s is not None]
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
