"""The account of one owner of quotas: everything its provider counts together, and the time until which it is closed.

A quota belongs to whoever the provider counts: a model, or a key that several models draw on. A turnstile (one for each
target) draws on the accounts that concern it, and never looks inside.

All quotas are taken together or not at all. There are those that the configuration names, those that the provider tells of in
its answers (`core.paced_quota`), and, where it refuses without telling, a pace that is found (`core.found_pace`).

A provider that says "not before" closes the account for that long, for everybody; of two such words the later end holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aiorchd.core.found_pace import FoundPace
from aiorchd.core.paced_quota import BURST_S, DAY_S, MINUTE_S, Kind, PacedQuota, QuotaView, Taken

LONGEST_CLOSURE_S: Final = 3600.0
"""A provider that says "tomorrow" is asked again after an hour: such answers have been wrong, and people raise limits."""

_DAY_SIGN_S: Final = 90.0
"""A quota of a minute is whole again after a minute: where some is left and that takes longer, a day is counted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration says; None where it says nothing. ``margin`` is the share that is used of it while the provider
    itself tells nothing."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_day: float | None = None
    margin: float = 1.0
    burst_s: float = BURST_S

    def each(self) -> tuple[tuple[Kind, float, float | None], ...]:
        """Give kind, window and limit of each."""
        return (
            ("requests", MINUTE_S, self.requests_per_minute),
            ("tokens", MINUTE_S, self.tokens_per_minute),
            ("requests", DAY_S, self.requests_per_day),
            ("tokens", DAY_S, self.tokens_per_day),
        )


class Need(NamedTuple):
    """What one attempt is expected to use beside its one request."""

    input_tokens: float = 0.0
    output_tokens: float = 0.0

    def of(self, kind: Kind) -> float:
        """Give the amount of one kind."""
        if kind == "requests":
            return 1.0
        if kind == "tokens":
            return self.input_tokens + self.output_tokens
        return self.input_tokens if kind == "input_tokens" else self.output_tokens


class Grant(NamedTuple):
    """What one attempt took, and when."""

    number: int
    at: float
    need: Need
    taken: tuple[Taken, ...]
    requests_before: float
    tokens_before: float


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing goes just now: ``closed`` by the provider, or the quota that has too little."""

    by: str
    delay_s: float


class QuotaAccount:
    """All quotas of one owner. ``name`` is shown to people. Starts full and open. One that is our own rule and no provider's,
    does not learn: nobody hands it what answers say.
    """

    def __init__(self, name: str = "", limits: Limits | None = None, *, learns: bool = True) -> None:
        self.name: Final = name
        self.learns: Final = learns
        # This is all the mutable state.
        self._limits = limits or Limits()
        self._quotas: list[PacedQuota] = []
        self._requests_pace, self._tokens_pace = FoundPace(), FoundPace()
        self._found: dict[Kind, FoundPace] = {"requests": self._requests_pace, "tokens": self._tokens_pace}
        self._searching = False  # whether any of the two was needed
        self._by_day: set[Kind] = set()  # what the provider counts by the day without saying so
        self._closed_until = -math.inf
        self._closed_why = ""
        self._number = 0
        self._apply(0.0)

    def delay_s(self, now: float, need: Need) -> float:
        """Tell how long until one request of that need can be taken if nothing else happens; 0 means now."""
        delay_s = self._closed_until - now if self._closed_until > now else 0.0
        for quota in self._quotas:
            delay_s = max(delay_s, quota.delay_s(now, need.of(quota.kind)))
        if self._searching:
            for kind, pace in self._found.items():
                delay_s = max(delay_s, pace.delay_s(now, need.of(kind)))
        return delay_s

    def blocked(self, now: float, need: Need) -> Blocked | None:
        """Say what makes it wait; None when nothing does."""
        most = max(0.0, self._closed_until - now)
        by = f"closed: {self._closed_why}" if most > 0.0 else ""
        for quota in self._quotas:
            delay_s = quota.delay_s(now, need.of(quota.kind))
            if delay_s > most:
                most, by = delay_s, _name(quota.kind, quota.window_s)
        for kind, pace in self._found.items():
            delay_s = pace.delay_s(now, need.of(kind))
            if delay_s > most:
                most, by = delay_s, f"{_name(kind, MINUTE_S)} (found)"
        return Blocked(by, most) if most > 0.0 else None

    def earliest_s(self, now: float, requests: int) -> float:
        """Tell how long until the last of so many further requests can go, at the very least.

        Only requests are counted: they never come back, whereas tokens do when an attempt used fewer than expected.
        """
        delay_s = max(0.0, self._closed_until - now)
        for quota in self._quotas:
            rate = quota.rate_per_s()
            if quota.kind == "requests" and rate is not None:
                delay_s = max(delay_s, (requests - quota.level(now)) / rate)
        pace = self._requests_pace
        if pace.found:
            delay_s = max(delay_s, (requests - pace.level(now)) / pace.rate_per_s)
        return delay_s

    def share_s(self, need: Need) -> float:
        """Tell for how many seconds' worth of its quotas one request counts; 0 without any.

        The scarcest quota counts, so that callers with short and with long prompts get fair shares of what is scarce
        (dominant resource fairness: Ghodsi et al., NSDI 2011).
        """
        share_s = 0.0
        for quota in self._quotas:
            rate = quota.rate_per_s()
            if rate is not None and quota.window_s == MINUTE_S:
                share_s = max(share_s, max(1.0, need.of(quota.kind)) / rate)
        for kind, pace in self._found.items():
            if pace.found:
                share_s = max(share_s, max(1.0, need.of(kind)) / pace.rate_per_s)
        return share_s

    def take(self, now: float, need: Need) -> Grant:
        """Take one request and its tokens. Only when `delay_s` is 0 at the same moment."""
        self._number = number = self._number + 1
        quotas = self._quotas
        return Grant(
            number,
            now,
            need,
            tuple([quota.take(now, number, need.of(quota.kind)) for quota in quotas]) if quotas else (),
            self._requests_pace.take(now, 1.0),
            self._tokens_pace.take(now, need.input_tokens + need.output_tokens),
        )

    def settle(self, grant: Grant, used: Need, now: float) -> None:
        """Correct the tokens of a grant to what was used. The request is spent."""
        for taken in grant.taken:
            if taken.quota.kind != "requests":
                taken.quota.settle(taken, used.of(taken.quota.kind), now)
        need = grant.need
        self._tokens_pace.correct(need.input_tokens + need.output_tokens, used.input_tokens + used.output_tokens)

    def cancel(self, grant: Grant, now: float) -> None:
        """Give everything back: nothing was sent."""
        for taken in grant.taken:
            taken.quota.give_back(taken, now)
        self._found["requests"].correct(1.0, 0.0)
        self._found["tokens"].correct(grant.need.of("tokens"), 0.0)

    def hear(
        self,
        grant: Grant,
        now: float,
        kind: Kind,
        limit: float | None,
        remaining: float | None,
        reset_s: float | None,
        window_s: float | None,
    ) -> None:
        """Take what the answer to a grant said of one quota. Its ``window_s`` is None where it did not say."""
        day_sign = window_s is None and remaining and reset_s is not None and reset_s > _DAY_SIGN_S
        if day_sign and kind not in self._by_day:
            self._by_day.add(kind)
            # What was taken for a limit of a minute was none.
            self._quotas = [quota for quota in self._quotas if quota.kind != kind or quota.configured is not None]
        if window_s is None:
            window_s = DAY_S if kind in self._by_day else MINUTE_S
        quota = self._quota(kind, window_s)
        if quota is None:
            quota = PacedQuota(kind, window_s, None, margin=self._limits.margin, burst_s=self._limits.burst_s)
            self._quotas.append(quota)
        quota.hear(grant.number, grant.at, now, limit, remaining, reset_s)

    def refused(self, grant: Grant, now: float, about: Kind | None) -> float:
        """Hear that the provider refused a grant for its rate; ``about`` is the quota that it named. Gives how many tokens the
        request has at least, as far as that shows it.

        It counts no tokens for it. Where nothing that it tells explains the refusal, a pace is looked for.
        """
        tokens = grant.need.of("tokens")
        kind: Kind = "requests" if about in (None, "requests") else "tokens"
        explained, counted = False, tokens
        for taken in grant.taken:
            if (taken.quota.kind == "requests") == (kind == "requests"):
                least = taken.quota.explains(taken, now)
                explained |= least is not None
                if least is not None and kind == "tokens":
                    counted = max(counted, tokens + least - taken.amount)
            if taken.quota.kind != "requests":
                taken.quota.give_back(taken, now)
        if not explained:
            amount, before = (1.0, grant.requests_before) if kind == "requests" else (tokens, grant.tokens_before)
            self._searching = True
            self._found[kind].refused(now, grant.at, before, amount)
        if kind == "requests":
            self._found["tokens"].correct(tokens, 0.0)
        for quota in self._quotas:
            if quota.kind == kind:
                quota.drain(now)
        return counted

    def close(self, now: float, seconds: float, why: str = "the provider said not before") -> bool:
        """Grant nothing for ``seconds`` (cut to an hour); says whether the end moved.

        The later of two ends holds. A wait that is not a positive number is no information and is ignored.
        """
        if not seconds > 0.0:  # also NaN
            return False
        until = now + min(seconds, LONGEST_CLOSURE_S)
        if until <= self._closed_until:
            return False
        self._closed_until, self._closed_why = until, why
        return True

    def reconfigure(self, now: float, limits: Limits) -> None:
        """Change the limits live. Levels, debts, the closure and what was learned stay; a limit that is new starts full."""
        self._limits = limits
        self._apply(now)

    def closed_s(self, now: float) -> float:
        """Tell for how long nothing is granted yet."""
        return max(0.0, self._closed_until - now)

    def closed_why(self, now: float) -> str | None:
        """Say why it is closed; None when it is open."""
        return self._closed_why if self._closed_until > now else None

    def level(self, now: float, kind: Kind) -> float | None:
        """Tell what is left of the scarcest quota of a kind that is counted by the minute; None without a limit."""
        levels = [quota.level(now) for quota in self._quotas if quota.kind == kind and quota.window_s == MINUTE_S]
        pace = self._found.get(kind)
        if pace is not None and pace.found:
            levels.append(pace.level(now))
        least = min(levels, default=math.inf)
        return None if least == math.inf else least

    def views(self, now: float) -> list[QuotaView]:
        """Show every quota, the found pace among them."""
        views = [quota.view(now) for quota in self._quotas if quota.limit is not None or quota.reported]
        for kind, pace in self._found.items():
            if pace.found:
                views.append(QuotaView(kind, MINUTE_S, pace.rate_per_s * MINUTE_S, pace.level(now), "found"))
        return views

    def to_plain(self, now: float) -> dict[str, Any]:
        """Give everything as plain data."""
        return {
            "owner": self.name,
            "closed_s": self.closed_s(now),
            "closed_why": self.closed_why(now),
            "quotas": [
                {
                    "kind": view.kind,
                    "window_s": view.window_s,
                    "limit": view.limit,
                    "level": None if view.level == math.inf else view.level,
                    "source": view.source,
                    "outside_per_s": view.outside_per_s,
                }
                for view in self.views(now)
            ],
        }

    @property
    def limited(self) -> bool:
        """Whether the configuration names any limit here."""
        return any(limit is not None for _, _, limit in self._limits.each())

    def configures(self, kind: Kind) -> bool:
        """Whether the configuration names a limit of this kind here."""
        return any(limit is not None for each, _, limit in self._limits.each() if each == kind)

    def _quota(self, kind: Kind, window_s: float) -> PacedQuota | None:
        return next((each for each in self._quotas if each.kind == kind and each.window_s == window_s), None)

    def _apply(self, now: float) -> None:
        limits = self._limits
        for kind, window_s, limit in limits.each():
            quota = self._quota(kind, window_s)
            if quota is not None:
                quota.reconfigure(now, limit, margin=limits.margin, burst_s=limits.burst_s)
            elif limit is not None:
                self._quotas.append(PacedQuota(kind, window_s, limit, margin=limits.margin, burst_s=limits.burst_s))
        self._quotas = [quota for quota in self._quotas if quota.limit is not None or quota.reported]


def _name(kind: Kind, window_s: float) -> str:
    return f"{kind.replace('_', ' ')} a {'minute' if window_s == MINUTE_S else 'day'}"
