"""When a batch leaves: as soon as waiting longer promises nothing.

What is to be expected is learned from the pauses between the questions that could have joined: a histogram of their lengths,
the older ones counting less. After so much silence, the chance that another comes within what is left of the wait is

    P(pause <= silence + left) - P(pause <= silence)
    -------------------------------------------------
              1 - P(pause <= silence)

which is right for a steady stream (wait), for single questions now and then (go at once) and for bursts (wait while one lasts,
and go some milliseconds after it has ended) alike. Nothing known counts as one short pause and one that never ends: then
the first question of all waits for some milliseconds, in case it is the first of many.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Protocol

EDGES_S: Final = tuple(0.004 * 1.6**power for power in range(18))
"""Upper ends of the classes of pauses, 4 ms to 12 s; what is longer has a class of its own."""
_MEMORY: Final = 64.0
_WORTH: Final = 0.4
"""The chance of company for which a question waits."""
_ROOM: Final = 1.5
"""A question leaves while there is as much time as a provider call takes usually, and half of that again."""
_WAITING_SHARE: Final = 0.2
"""Of a question's whole time at most this is spent waiting for company."""


class Pauses:
    """What is known of the pauses between questions that could be asked together."""

    def __init__(self) -> None:
        self._counts = [0.0] * (len(EDGES_S) + 1)
        self._counts[0] = self._counts[-1] = 1.0
        self._total = 2.0
        self._last: float | None = None

    def came(self, now: float) -> None:
        """A question came."""
        last, self._last = self._last, now
        if last is None:
            return
        self._counts[bisect_left(EDGES_S, now - last)] += 1.0
        self._total += 1.0
        if self._total > _MEMORY:
            self._counts = [count / 2 for count in self._counts]
            self._total /= 2

    def chance(self, silence_s: float, left_s: float) -> float:
        """Tell how likely another comes within ``left_s``, after ``silence_s`` without one."""
        before = self._share(silence_s)
        return (self._share(silence_s + left_s) - before) / (1.0 - before) if before < 1.0 else 0.0

    def expected_until(self, now: float, until: float) -> float:
        """Give the moment from which on nothing is expected any more, if nothing comes before; at most ``until``."""
        last = now if self._last is None else self._last
        if not self._promises(now, last, until):
            return now
        for edge in EDGES_S:
            at = last + edge
            if at > now and (at >= until or not self._promises(at, last, until)):
                return min(at, until)
        return until

    def _promises(self, at: float, last: float, until: float) -> bool:
        return self.chance(at - last, until - at) >= _WORTH

    def _share(self, length_s: float) -> float:
        """Give the share of pauses that are no longer; of a class that is not over yet, none."""
        ended = 0 if length_s < EDGES_S[0] else bisect_left(EDGES_S, length_s * (1.0 + 1e-9))
        return math.fsum(self._counts[:ended]) / self._total


class Expecting(Protocol):
    """As much of `Pauses` as deciding needs."""

    def expected_until(self, now: float, until: float) -> float:
        """Give the moment from which on nothing is expected any more."""
        ...


@dataclass(frozen=True, slots=True)
class Departure:
    """Why a batch leaves now; or (None) when to look again if nothing happens before."""

    why: str | None
    look_at: float = math.inf


def departure(
    now: float,
    *,
    opened_at: float,
    items: int,
    allowed: int,
    latest: float,
    pauses: Expecting,
    max_wait_s: float,
    free: bool,
) -> Departure:
    """Decide about a batch of ``items`` different questions that waits since ``opened_at``. ``latest`` is when one's own time
    makes it leave (see `latest_of`); ``free`` tells whether the model could be asked at once: where not, waiting costs nothing.
    """
    over = opened_at + max_wait_s
    if items >= allowed:
        return Departure("it is full")
    if now >= over:
        return Departure("its wait is over")
    if now >= latest:
        return Departure("a question in it has no time to wait")
    until = min(over, latest)
    if not free:
        return Departure(None, until)
    look_at = pauses.expected_until(now, until)
    if look_at <= now:
        return Departure("nothing else is expected")
    return Departure(None, look_at)


def latest_of(came_at: float, deadline: float, usual_s: float) -> float:
    """Give the moment by which a batch must have left so that a question in it is not late for waiting; ``usual_s`` is how long
    a batch takes usually."""
    return min(deadline - _ROOM * usual_s, came_at + _WAITING_SHARE * (deadline - came_at))
