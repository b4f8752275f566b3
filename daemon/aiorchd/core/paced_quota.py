"""One limit of one quota: so many requests or tokens in a minute or a day, however it is known.

A limit that was configured holds with a safety margin, until the provider tells its own: then the lower of the two holds,
without a margin. Two things pace at once: a bucket (a `DayWindow` for a day) of what we sent ourselves, and what the provider
says is left (`ToldLevel`), where others may have used some.

The burst is ``burst_s`` seconds' worth of the rate, at least one request: providers enforce "per minute" over shorter windows
(Azure judges requests over 1 or 10 seconds, OpenAI announces the same), so a whole minute's worth at once would meet 429s,
and much less would make short bursts wait. Where the provider's answers show how much it lets go at once, that counts, less a
little for jitter on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from aiorchd.core.day_window import DayWindow
from aiorchd.core.token_bucket import Reservation, TokenBucket
from aiorchd.core.told_level import ToldLevel

Kind: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens"]
Source: TypeAlias = Literal["configured", "reported", "found"]

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
BURST_S: Final = 6.0
"""A little below the ten seconds over which providers commonly judge, so that jitter on the way stays inside."""

_JITTER_SHARE: Final = 0.05
_JITTER_S: Final = 0.005
_ERROR_KEPT: Final = 0.999
_RESERVE: Final = 1.5
"""The largest error of a while is not the largest there will be."""
_ERROR_MARGIN: Final = 0.05
_MOST_RESERVE: Final = 0.25


class Taken(NamedTuple):
    """What one grant took of one quota."""

    quota: PacedQuota
    reservation: Reservation | None
    """None where a day is counted, or nothing yet."""
    number: int
    amount: float


@dataclass(frozen=True, slots=True)
class QuotaView:
    """A quota as it is shown: ``limit`` in force for ``window_s`` (None: only what is left is known), ``level`` what could go
    now, ``outside_per_s`` what others seem to use."""

    kind: Kind
    window_s: float
    limit: float | None
    level: float
    source: Source
    outside_per_s: float = 0.0


class PacedQuota:
    """Paces one kind of use over one window. A limit of None is not known (yet)."""

    def __init__(self, kind: Kind, window_s: float, limit: float | None, *, margin: float, burst_s: float) -> None:
        # This is all the mutable state.
        self.kind: Final = kind
        self.window_s = window_s
        self.configured = limit
        self._margin = margin
        self._burst_s = burst_s
        self._told = ToldLevel(window_s)
        self._error = 0.0  # how much more than expected one used lately, at most
        self._bucket: TokenBucket | None = None
        self._day: DayWindow | None = None
        self._in_force = (0.0, 0.0)
        self._enforce(0.0)

    @property
    def limit(self) -> float | None:
        """What may go in a window."""
        told = self._told.limit
        if self.configured is None:
            return told
        return self.configured * self._margin if told is None else min(self.configured, told)

    @property
    def reported(self) -> bool:
        """Whether the provider has said anything of it."""
        return self._told.limit is not None or self._told.known

    def reconfigure(self, now: float, limit: float | None, *, margin: float, burst_s: float) -> None:
        """Change what is configured. Level, debts and what was told stay."""
        self.configured, self._margin, self._burst_s = limit, margin, burst_s
        self._enforce(now)

    def delay_s(self, now: float, amount: float) -> float:
        """Tell how long until so much can be taken if nothing else happens; 0 means now."""
        delay_s = 0.0
        if self._bucket is not None:
            delay_s = self._bucket.delay_s(now, amount)
        elif self._day is not None:
            delay_s = self._day.delay_s(now, amount)
        told = self._told
        if told.known:
            delay_s = max(delay_s, told.delay_s(now, amount, self._reserve()))
        return delay_s

    def take(self, now: float, number: int, amount: float) -> Taken:
        """Take so much for the grant ``number`` (numbers grow). Only when `delay_s` is 0 at the same moment."""
        reservation: Reservation | None = None
        if self._bucket is not None:
            reservation = self._bucket.reserve(now, amount)
        elif self._day is not None:
            self._day.add(now, amount)
        self._told.sent(number, amount)
        return Taken(self, reservation, number, amount)

    def settle(self, taken: Taken, actual: float, now: float) -> None:
        """Correct what was taken to what was used."""
        self._error = max(actual - taken.amount, self._error * _ERROR_KEPT)
        self._correct(taken, actual, now)

    def give_back(self, taken: Taken, now: float) -> None:
        """Nothing was used, or nothing was counted."""
        self._correct(taken, 0.0, now)

    def hear(
        self,
        number: int,
        sent_at: float,
        now: float,
        limit: float | None,
        remaining: float | None,
        reset_s: float | None,
    ) -> None:
        """Take what the answer to a grant said."""
        before = (self._told.limit, self._told.capacity)
        self._told.hear(number, sent_at, now, limit, remaining, reset_s)
        if (self._told.limit, self._told.capacity) != before:
            self._enforce(now)

    def explains(self, taken: Taken, now: float) -> float | None:
        """Tell whether what the provider reports explains that it refused this: too little is left, or so little that it must
        count more for it than was expected, which is learned. Gives how much it counts at least, None when it explains nothing.
        """
        told = self._told
        if not self.reported:
            return None
        missed = told.level(now) - taken.amount
        if missed < 0.0:
            return taken.amount
        whole = told.capacity if told.capacity is not None else told.limit
        if self.kind == "requests" or whole is None or missed > _MOST_RESERVE * whole:
            return None
        self._error = max(self._error, 2.0 * missed + _ERROR_MARGIN * taken.amount)
        return taken.amount + missed

    def drain(self, now: float) -> None:
        """The provider said that nothing is left, and not how much there is of it."""
        if self._bucket is not None and not self._told.known:
            self._bucket.drain(now)

    def level(self, now: float) -> float:
        """Tell what is left now; negative in debt."""
        level = self._told.level(now)
        if self._bucket is not None:
            level = min(level, self._bucket.level(now))
        elif self._day is not None:
            level = min(level, self._day.level(now))
        return level

    def rate_per_s(self) -> float | None:
        """What comes back in a second; None where no limit is known."""
        limit = self.limit
        return None if limit is None else limit / self.window_s

    def view(self, now: float) -> QuotaView:
        """Show it."""
        told, limit = self._told, self.limit
        by_provider = told.limit is not None and (self.configured is None or told.limit <= self.configured)
        source: Source = "reported" if by_provider or limit is None else "configured"
        return QuotaView(self.kind, self.window_s, limit, self.level(now), source, told.outside_per_s)

    def _correct(self, taken: Taken, actual: float, now: float) -> None:
        self._told.corrected(taken.number, actual)
        if taken.reservation is not None and self._bucket is not None:
            self._bucket.settle(taken.reservation, actual, now)
        elif self._day is not None:
            self._day.add(now, actual - taken.amount)

    def _reserve(self) -> float:
        """Keep a little back where expectations err, so that the provider does not find too little."""
        if self.kind == "requests" or self._error <= 0.0:
            return 0.0
        capacity = self._told.capacity
        reserve = _RESERVE * self._error
        return reserve if capacity is None else min(reserve, _MOST_RESERVE * capacity)

    def _enforce(self, now: float) -> None:
        """Bring the bucket to the limit that holds now; a new one starts full, or with what the provider says is left."""
        limit = self.limit
        if limit is None:
            self._bucket = self._day = None
            return
        if self.window_s == DAY_S:
            if self._day is None:
                self._day = DayWindow(limit)
            self._day.limit = limit
            return
        in_force = self._rate_and_burst(limit)
        if self._bucket is None:
            self._bucket = TokenBucket(*in_force)
        elif in_force != self._in_force:
            self._bucket.reconfigure(now, *in_force)
        self._in_force = in_force

    def _rate_and_burst(self, limit: float) -> tuple[float, float]:
        rate = limit / self.window_s
        capacity = self._told.capacity
        if capacity is None or self._told.limit is None:
            return rate, max(1.0, rate * self._burst_s)
        # As seen from there ours must never be the larger one: what is late on the way has been lost there.
        slack = max(1.0, _JITTER_SHARE * capacity)
        if capacity - slack >= 1.0:
            return rate, capacity - slack
        return rate / (1.0 + rate * _JITTER_S), max(1.0, capacity - slack)
