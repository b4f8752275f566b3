"""What a Google error says of quotas: ``google.rpc.QuotaFailure`` in its details. Google sends no headers about them. Pure.

A violation names a quota such as ``GenerateRequestsPerMinutePerProjectPerModel-FreeTier`` and its value; how long it lasts
is in ``google.rpc.RetryInfo`` beside it, which `hints.retry_after_s` reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiorchd.calls.rate_limits import DAY_S, MINUTE_S, LimitsTold, Quota, QuotaTold
from aiorchd.providers.hints import duration_s

_WINDOWS: Final[tuple[tuple[str, float], ...]] = (("PerDay", DAY_S), ("PerMinute", MINUTE_S))
_MOST: Final = 16


def quotas_violated(error: Mapping[str, Any], *, now: float) -> LimitsTold | None:
    """Read which quotas are used up, None when the error does not say; ``now`` is Trio's clock."""
    reset_s = None
    for detail in _details(error):
        if isinstance(detail.get("retryDelay"), str):
            reset_s = duration_s(detail["retryDelay"])
    told = []
    for name, value in _violations(error):
        window_s = next((seconds for word, seconds in _WINDOWS if word in name), None)
        if window_s is None:
            continue
        quota: Quota = "input_tokens" if "InputToken" in name else "tokens" if "Token" in name else "requests"
        # The delay is that of a minute's quota; a day's lasts longer than anybody says.
        told.append(QuotaTold(quota, value, 0.0, reset_s if window_s == MINUTE_S else None, window_s))
    return LimitsTold(now, tuple(told)) if told else None


def is_for_the_day(error: Mapping[str, Any]) -> bool:
    """Tell whether a day's quota is used up: then waiting does not help, whatever delay is named."""
    return any("PerDay" in name for name, _ in _violations(error))


def _violations(error: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for detail in _details(error):
        listed = detail.get("violations")
        for violation in listed[:_MOST] if isinstance(listed, list) else ():
            name = violation.get("quotaId") if isinstance(violation, Mapping) else None
            if not isinstance(name, str):
                continue
            value = violation.get("quotaValue")
            plain = isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,14}", value, re.ASCII) is not None
            yield name[:200], float(value) if plain else None


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    for detail in details[:_MOST] if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            yield detail
