"""Token buckets and the limits of one model, told as OpenAI tells them. Pure: the time is handed in.

A limit of N a minute is a bucket that fills evenly with N / 60 a second and holds `burst_s` seconds' worth of that
(at least one). A full bucket lets that much through at once; after it, calls pass at exactly the rate. A call takes
from the requests bucket and from the tokens bucket together or from neither; it takes its prompt's and its answer's
tokens when it is let in, since the simulator knows its answer before it gives it, so nothing is settled afterwards. A
call with more tokens than the bucket holds passes when the bucket is full and leaves it in debt; one with more than a
minute's worth never passes.

Headers: `limit` is the figure a minute, `remaining` what the bucket holds now, `reset` the time until it is full
again, as a Go duration ("12ms", "1s", "6m0s").
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

EPSILON: Final = 1e-9


class TokenBucket:
    """Fills at `rate_per_s` up to `capacity`; full in the beginning."""

    __slots__ = ("_at", "_level", "capacity", "rate_per_s")

    def __init__(self, rate_per_s: float, capacity: float, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.capacity = capacity
        self._level = capacity
        self._at = now

    def level(self, now: float) -> float:
        """What the bucket holds now; negative when in debt."""
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.rate_per_s)
            self._at = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until so much can be taken; 0 when it can be now. More than the capacity needs a full bucket."""
        missing = min(amount, self.capacity) - self.level(now)
        return missing / self.rate_per_s if missing > EPSILON else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take so much, into debt if need be."""
        self._level = self.level(now) - amount

    def full_in_s(self, now: float) -> float:
        """Seconds until the bucket is full again when nothing more is taken."""
        return (self.capacity - self.level(now)) / self.rate_per_s


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that was not let in: which limit, how much of it was there, and when it may come again (never, when
    None).
    """

    limited_by: str
    limit: int
    used: int
    requested: int
    retry_after_s: float | None


class Told(NamedTuple):
    """What can be told of one limit now."""

    kind: str
    """requests or tokens"""
    limit: int
    """The figure a minute."""
    remaining: int
    full_in_s: float


class RateLimits:
    """The limits of one model; either may be absent. `count_refused`: a refused call uses up a request all the
    same.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        burst_s: float,
        now: float,
        *,
        count_refused: bool = False,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._requests = _bucket(requests_per_minute, burst_s, now)
        self._tokens = _bucket(tokens_per_minute, burst_s, now)
        self._count_refused = count_refused

    def change(
        self, requests_per_minute: int | None, tokens_per_minute: int | None, burst_s: float, now: float
    ) -> None:
        """Other limits from now on; what is left in a bucket stays, cut to its new size, and a new bucket begins full."""
        self._requests = _changed(self._requests, requests_per_minute, burst_s, now)
        self._tokens = _changed(self._tokens, tokens_per_minute, burst_s, now)
        self._requests_per_minute, self._tokens_per_minute = requests_per_minute, tokens_per_minute

    def admit(self, tokens: int, now: float) -> Refused | None:
        """Let a call in and charge it, or say why not; then nothing is charged (but see `count_refused`)."""
        requests_wait_s = self._requests.wait_s(1, now) if self._requests else 0.0
        tokens_wait_s = self._tokens.wait_s(tokens, now) if self._tokens else 0.0
        too_large = self._tokens_per_minute is not None and tokens > self._tokens_per_minute
        if not too_large and requests_wait_s == 0.0 and tokens_wait_s == 0.0:
            if self._requests:
                self._requests.take(1, now)
            if self._tokens:
                self._tokens.take(tokens, now)
            return None
        if self._requests and self._count_refused and self._requests.level(now) >= 1:
            self._requests.take(1, now)
        if too_large or tokens_wait_s > requests_wait_s:
            assert self._tokens is not None
            assert self._tokens_per_minute is not None
            wait_s = None if too_large else max(requests_wait_s, tokens_wait_s)
            return Refused("tokens", self._tokens_per_minute, self._used(self._tokens, now), tokens, wait_s)
        assert self._requests is not None
        assert self._requests_per_minute is not None
        return Refused("requests", self._requests_per_minute, self._used(self._requests, now), 1, requests_wait_s)

    def header_lines(self, now: float) -> bytes:
        """The `x-ratelimit-*` header lines of a response given now, each ended; empty without limits."""
        return "".join(
            f"x-ratelimit-limit-{kind}: {limit}\r\nx-ratelimit-remaining-{kind}: {remaining}\r\n"
            f"x-ratelimit-reset-{kind}: {duration(full_in_s)}\r\n"
            for kind, limit, remaining, full_in_s in self.told(now)
        ).encode("ascii")

    def told(self, now: float) -> list[Told]:
        """Each limit as it stands now."""
        told = []
        if self._requests and self._requests_per_minute is not None:
            told.append(_told("requests", self._requests_per_minute, self._requests, now))
        if self._tokens and self._tokens_per_minute is not None:
            told.append(_told("tokens", self._tokens_per_minute, self._tokens, now))
        return told

    def eat(self, now: float) -> None:
        """Use up all that is left, as another user of the same quota would."""
        for bucket in (self._requests, self._tokens):
            if bucket:
                bucket.take(max(0.0, bucket.level(now)), now)

    def _used(self, bucket: TokenBucket, now: float) -> int:
        return math.ceil(bucket.capacity - bucket.level(now))


def duration(seconds: float) -> str:
    """A duration as OpenAI's headers write it: whole milliseconds below a second, else hours, minutes and seconds."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{rest}"
    return f"{minutes}m{rest}" if minutes else rest


def retry_after_lines(seconds: float) -> bytes:
    """The `retry-after` (whole seconds, at least 1) and `retry-after-ms` header lines, both rounded up."""
    return f"retry-after: {max(1, math.ceil(seconds - 1e-6))}\r\nretry-after-ms: {math.ceil(seconds * 1000 - 1e-6)}\r\n".encode(
        "ascii"
    )


def _bucket(per_minute: int | None, burst_s: float, now: float) -> TokenBucket | None:
    if per_minute is None:
        return None
    return TokenBucket(per_minute / 60, max(1.0, per_minute / 60 * burst_s), now)


def _told(kind: str, limit: int, bucket: TokenBucket, now: float) -> Told:
    return Told(kind, limit, max(0, math.floor(bucket.level(now) + EPSILON)), bucket.full_in_s(now))


def _changed(bucket: TokenBucket | None, per_minute: int | None, burst_s: float, now: float) -> TokenBucket | None:
    changed = _bucket(per_minute, burst_s, now)
    if bucket is not None and changed is not None:
        changed.take(max(0.0, changed.capacity - bucket.level(now)), now)
    return changed
