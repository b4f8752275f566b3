"""What a provider says is left of a quota, carried forward to now.

An answer's «remaining» was true at the provider when it let that request in: it counts that request and what came before,
and not what we sent after it. Answers also come out of order. So a reading belongs to the moment at which its request was
sent, only the reading of the latest sent request counts, and everything sent after that one is subtracted here:

    level(now) = remaining + (rate - outside) (now - sent) - what was sent since

``outside`` is how fast the same quota is used by others: what is missing at a reading that by the one before should be
there, smoothed over some ten seconds. A provider that charges more for our requests than we expect looks the same and needs
the same answer.

The level is an upper bound, since it does not know when the provider's bucket was full: whoever uses it keeps a bucket of
its own as well.
"""

from __future__ import annotations

import math
from typing import Final

_GUARD_S: Final = 0.005
"""As much later than we send may a request arrive, and its refill with it."""
_EARLY_S: Final = 1e-6
"""A microsecond early is on time: a sleep of exactly the told delay must find what it waited for in spite of rounding."""
_SMOOTHING_S: Final = 10.0
_NOISE: Final = 0.03
"""As much of the rate may seem to be used by others through rounding and jitter."""
_MOST_OUTSIDE: Final = 0.95
_OUTSIDE_AHEAD_S: Final = 0.25
_UNKNOWN_RESET_S: Final = 10.0
_MOST_SINCE: Final = 20_000


class ToldLevel:
    """Readings of one quota. ``window_s`` is what its limit is counted over."""

    def __init__(self, window_s: float) -> None:
        # This is all the mutable state.
        self.window_s = window_s
        self.limit: float | None = None
        """The last limit that was told."""
        self.capacity: float | None = None
        """The most that the provider lets go at once, as far as its resets show; never above the limit."""
        self._remaining: float | None = None
        self._number = -1  # of the grant whose answer is the present reading
        self._sent_at = -math.inf
        self._expires_at = math.inf
        self._since: dict[int, float] = {}
        self._since_sum = 0.0
        self._outside_per_s = 0.0
        self._capacity_seen_at = -math.inf

    @property
    def rate_per_s(self) -> float | None:
        """What comes back in a second, None while no limit was told."""
        return None if self.limit is None else self.limit / self.window_s

    @property
    def known(self) -> bool:
        """Whether there is a reading that still says something."""
        return self._remaining is not None

    @property
    def outside_per_s(self) -> float:
        """How much of it others use in a second; noise is left out."""
        if self.limit is None:
            return 0.0
        rate = self.limit / self.window_s
        return min(max(0.0, self._outside_per_s - _NOISE * rate), _MOST_OUTSIDE * rate)

    def sent(self, number: int, amount: float) -> None:
        """Note a grant; numbers grow."""
        if self._remaining is not None:
            self._since[number] = amount
            self._since_sum += amount
            if len(self._since) > _MOST_SINCE:  # answers without headers: the reading says nothing any more
                self._forget()

    def corrected(self, number: int, amount: float) -> None:
        """Note that a grant used so much."""
        before = self._since.get(number)
        if before is not None:
            self._since[number] = amount
            self._since_sum += amount - before

    def hear(
        self,
        number: int,
        sent_at: float,
        now: float,
        limit: float | None,
        remaining: float | None,
        reset_s: float | None,
    ) -> None:
        """Take the reading that the answer to a grant brought; one that is older than the present one is ignored."""
        if number <= self._number:
            return
        if limit is not None and limit != self.limit:
            self.limit = limit
            self.capacity = None
            self._outside_per_s = 0.0
            self._remaining = None
        rate = self.rate_per_s
        if remaining is None:
            return
        if rate is not None and self.limit is not None:
            remaining = min(remaining, self.limit)
            self._learn_capacity(remaining, reset_s, rate, now)
            self._learn_outside(number, sent_at, remaining, rate)
        self._number = number
        self._sent_at = sent_at
        self._remaining = remaining
        for older in list(self._since):
            if older > number:
                break
            self._since_sum -= self._since.pop(older)
        if not self._since:
            self._since_sum = 0.0
        if rate is None:
            self._expires_at = now + (_UNKNOWN_RESET_S if reset_s is None else min(reset_s, self.window_s))
        else:
            self._expires_at = sent_at + 2.0 * self.window_s

    def level(self, now: float) -> float:
        """Tell what is left by the last reading; infinity without one that still counts."""
        if self._remaining is None:
            return math.inf
        if now >= self._expires_at:
            self._forget()
            return math.inf
        rate = self.rate_per_s
        if rate is None:
            return self._remaining - self._since_sum
        refill = (rate - self.outside_per_s) * max(0.0, now - self._sent_at - _GUARD_S)
        return self._remaining + refill - self._since_sum

    def delay_s(self, now: float, amount: float, reserve: float) -> float:
        """Tell how long until so much is left and ``reserve`` beside it; 0 means now. What exceeds the capacity needs all of
        it."""
        level = self.level(now)
        if level == math.inf:
            return 0.0
        rate = self.rate_per_s
        if rate is None:
            return 0.0 if level >= amount else max(0.001, self._expires_at - now)
        outside = self.outside_per_s
        need = amount + reserve + outside * _OUTSIDE_AHEAD_S
        if self.capacity is not None:
            need = min(need, self.capacity)
        need = min(need, self.limit or need)
        missing = need - level
        if missing <= rate * _EARLY_S:
            return 0.0
        return missing / (rate - outside) + max(0.0, self._sent_at + _GUARD_S - now)

    def _learn_capacity(self, remaining: float, reset_s: float | None, rate: float, now: float) -> None:
        """What is left and what comes back until the reset make the whole. The largest of a while counts: a window that
        begins anew at fixed moments shows less towards its end."""
        assert self.limit is not None
        if reset_s is None or reset_s > 1.5 * self.window_s:
            return
        whole = min(self.limit, remaining + reset_s * rate)
        if self.capacity is None or whole >= self.capacity or now - self._capacity_seen_at > 5.0 * self.window_s:
            self.capacity = max(whole, 1.0)
            self._capacity_seen_at = now

    def _learn_outside(self, number: int, sent_at: float, remaining: float, rate: float) -> None:
        if self._remaining is None:
            return
        elapsed_s = sent_at - self._sent_at
        used = sum(amount for each, amount in _until(self._since, number))
        most = self.limit if self.capacity is None else self.capacity
        expected = min(self._remaining + rate * elapsed_s, math.inf if most is None else most) - used
        kept = math.exp(-max(0.0, elapsed_s) / _SMOOTHING_S)
        self._outside_per_s = self._outside_per_s * kept + (expected - remaining) / _SMOOTHING_S

    def _forget(self) -> None:
        self._remaining = None
        self._since.clear()
        self._since_sum = 0.0


def _until(since: dict[int, float], number: int) -> list[tuple[int, float]]:
    found = []
    for each, amount in since.items():
        if each > number:
            break
        found.append((each, amount))
    return found
