"""The account of one quota: requests and tokens a minute together, and the time until which the provider is closed.

A quota belongs to whoever the provider counts: usually a key, which several models may draw on. A turnstile (one for
each target) holds a reference to an account and never looks inside, so that targets of one key can be given the same one.

Both quotas are taken together or not at all (see `core.token_bucket`). The burst is ``burst_s`` seconds' worth of the rate, at
least one request: providers enforce "per minute" over shorter windows (Azure judges requests over 1 or 10 seconds, OpenAI
announces the same), so a whole minute's worth at once would meet 429s, and much less would make short bursts wait.

A provider that says "not before" closes the account for that long, for everybody; of two such words the later end
holds. It also empties both buckets: whatever we counted, the provider counts less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiorchd.core.token_bucket import Reservation, TokenBucket

BURST_S: Final = 6.0
"""A little below the ten seconds over which providers commonly judge, so that jitter on the way stays inside."""

LONGEST_CLOSURE_S: Final = 3600.0
"""A provider that says "tomorrow" is asked again after an hour: such answers have been wrong, and people raise limits."""


class Grant(NamedTuple):
    """What one attempt took: a request and its expected tokens, each with the bucket it came from."""

    requests: tuple[TokenBucket, Reservation] | None
    tokens: tuple[TokenBucket, Reservation] | None


@dataclass(frozen=True, slots=True)
class QuotaLevels:
    """What is left now (negative: in debt), None without a limit, and for how many seconds the provider is closed."""

    requests: float | None
    tokens: float | None
    closed_s: float


_NOTHING_TAKEN: Final = Grant(None, None)


class QuotaAccount:
    """Requests and tokens a minute; None sets no limit. Starts full and open."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        burst_s: float = BURST_S,
    ) -> None:
        # This is all the mutable state.
        self._requests = _bucket(requests_per_minute, burst_s)
        self._tokens = _bucket(tokens_per_minute, burst_s)
        self._closed_until = -math.inf

    def delay_s(self, now: float, tokens: float) -> float:
        """Tell how long until one request of so many tokens can be taken if nothing else happens; 0 means now."""
        delay_s = max(0.0, self._closed_until - now)
        if self._requests is not None:
            delay_s = max(delay_s, self._requests.delay_s(now, 1.0))
        if self._tokens is not None:
            delay_s = max(delay_s, self._tokens.delay_s(now, tokens))
        return delay_s

    def earliest_s(self, now: float, requests: int) -> float:
        """Tell how long until the last of so many further requests can go, at the very least.

        Only requests are counted: they never come back, whereas tokens do when an attempt used fewer than expected.
        """
        delay_s = max(0.0, self._closed_until - now)
        if self._requests is not None:
            missing = requests - self._requests.level(now)
            delay_s = max(delay_s, missing / self._requests.rate_per_s)
        return delay_s

    def share_s(self, tokens: float) -> float:
        """Tell for how many seconds' worth of its quota one request of so many tokens counts; 1 for all without limits.

        The scarcer quota counts, so that callers with short and with long prompts get fair shares of what is scarce
        (dominant resource fairness: Ghodsi et al., NSDI 2011).
        """
        if self._requests is None and self._tokens is None:
            return 1.0
        by_request_s = 0.0 if self._requests is None else 1.0 / self._requests.rate_per_s
        by_tokens_s = 0.0 if self._tokens is None else max(1.0, tokens) / self._tokens.rate_per_s
        return max(by_request_s, by_tokens_s)

    def take(self, now: float, tokens: float) -> Grant:
        """Take one request and so many tokens. Only when `delay_s` is 0 at the same moment."""
        if self._requests is None and self._tokens is None:
            return _NOTHING_TAKEN
        return Grant(_reserve(self._requests, now, 1.0), _reserve(self._tokens, now, tokens))

    def settle(self, grant: Grant, actual_tokens: float, now: float) -> None:
        """Correct the tokens of a grant to what was used. The request is spent."""
        if grant.tokens is not None:
            bucket, reservation = grant.tokens
            bucket.settle(reservation, actual_tokens, now)

    def cancel(self, grant: Grant, now: float) -> None:
        """Give everything back: nothing was sent."""
        for taken in grant:
            if taken is not None:
                bucket, reservation = taken
                bucket.cancel(reservation, now)

    def close(self, now: float, seconds: float) -> bool:
        """Grant nothing for ``seconds`` (cut to an hour) and empty the buckets; says whether the end moved.

        The later of two ends holds. A wait that is not a positive number is no information and is ignored.
        """
        if not seconds > 0.0:  # also NaN
            return False
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.drain(now)
        until = now + min(seconds, LONGEST_CLOSURE_S)
        moved = until > self._closed_until
        self._closed_until = max(self._closed_until, until)
        return moved

    def reconfigure(
        self, now: float, requests_per_minute: float | None, tokens_per_minute: float | None, burst_s: float = BURST_S
    ) -> None:
        """Change the limits live. Levels, debts and the closure stay; a limit that is new starts full."""
        self._requests = _changed(self._requests, now, requests_per_minute, burst_s)
        self._tokens = _changed(self._tokens, now, tokens_per_minute, burst_s)

    def levels(self, now: float) -> QuotaLevels:
        """Tell what is left."""
        return QuotaLevels(
            None if self._requests is None else self._requests.level(now),
            None if self._tokens is None else self._tokens.level(now),
            max(0.0, self._closed_until - now),
        )


def _rate_and_burst(per_minute: float, burst_s: float) -> tuple[float, float]:
    return per_minute / 60.0, max(1.0, per_minute / 60.0 * burst_s)


def _bucket(per_minute: float | None, burst_s: float) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(*_rate_and_burst(per_minute, burst_s))


def _changed(bucket: TokenBucket | None, now: float, per_minute: float | None, burst_s: float) -> TokenBucket | None:
    if bucket is None or per_minute is None:
        return _bucket(per_minute, burst_s)
    rate_per_s, burst = _rate_and_burst(per_minute, burst_s)
    if (bucket.rate_per_s, bucket.burst) != (rate_per_s, burst):
        bucket.reconfigure(now, rate_per_s, burst)
    return bucket


def _reserve(bucket: TokenBucket | None, now: float, amount: float) -> tuple[TokenBucket, Reservation] | None:
    return None if bucket is None else (bucket, bucket.reserve(now, amount))
