"""When a batch leaves: as soon as waiting longer promises nothing.

What is to be expected is learned from the pauses between the questions that could have joined. Of each class of lengths it is
counted how often a silence that had lasted so long was ended within it, the older ones counting less: the hazards of a life
table (Cutler and Ederer, J. Chronic Diseases 8(6), 1958). After some silence, another comes within what is left of the wait
with the chance

    1 - product over the classes from here to there of (1 - ended / reached)

which is right for a steady stream, for single questions now and then and for bursts alike. It is waited while that chance is
good, and where a short wait for a small chance is worth it: company saves a call, which takes far longer. So a single question
goes at once, and after a burst a batch goes some milliseconds after the longest silence that is usual within one. Each class
remembers as many silences of its own, however many short pauses a burst has. Of the first question of all nothing is known: it
waits for some milliseconds, in case it is the first of many.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Protocol

EDGES_S: Final = tuple(0.004 * 1.6**power for power in range(18))
"""Upper ends of the classes of pauses, 4 ms to 12 s; what is longer has a class of its own."""
_MEMORY: Final = 64.0
"""So many silences that reached a class are remembered of it at most; then all count half."""
_WORTH: Final = 0.4
"""The chance of company for which a question waits as long as it may."""
_PATIENCE: Final = 0.05
"""Of the time a batch takes usually, what is waited for company that is sure to come; for a chance of it, so much less."""
_ROOM: Final = 1.5
"""A question leaves while there is as much time as a provider call takes usually, and half of that again."""
_WAITING_SHARE: Final = 0.2
"""Of a question's whole time at most this is spent waiting for company."""


class Pauses:
    """What is known of the pauses between questions that could be asked together."""

    def __init__(self) -> None:
        self._reached = [0.0] * len(EDGES_S)
        self._ended = [0.0] * len(EDGES_S)
        self._last: float | None = None

    def came(self, now: float) -> None:
        """A question came."""
        last, self._last = self._last, now
        if last is None:
            return
        ended = bisect_left(EDGES_S, now - last)
        for at in range(min(ended + 1, len(EDGES_S))):
            self._reached[at] += 1.0
            self._ended[at] += at == ended
            if self._reached[at] > _MEMORY:
                self._reached[at] /= 2
                self._ended[at] /= 2

    def chance(self, silence_s: float, left_s: float) -> float:
        """Tell how likely another comes within ``left_s``, after ``silence_s`` without one. A class that is not over yet counts
        for nothing."""
        if not self._reached[0]:
            return 0.5 if silence_s < EDGES_S[0] <= silence_s + left_s else 0.0
        nobody = 1.0
        for at in range(_over(silence_s), _over(silence_s + left_s)):
            if self._ended[at]:
                nobody *= 1.0 - self._ended[at] / self._reached[at]
        return 1.0 - nobody

    def expected_until(self, now: float, until: float, usual_s: float) -> float:
        """Give the moment from which on nothing is expected any more, if nothing comes before; at most ``until``. A batch takes
        ``usual_s`` usually."""
        last = now if self._last is None else self._last
        worth_s = _PATIENCE * usual_s
        if not self._promises(now, last, until, worth_s):
            return now
        for edge in EDGES_S:
            at = last + edge
            if at > now and (at >= until or not self._promises(at, last, until, worth_s)):
                return min(at, until)
        return until

    def _promises(self, at: float, last: float, until: float, worth_s: float) -> bool:
        silence_s = at - last
        if self.chance(silence_s, until - at) >= _WORTH:
            return True
        for edge in EDGES_S[_over(silence_s) :]:
            wait_s = edge - silence_s
            if wait_s > worth_s or last + edge > until:
                return False
            if self.chance(silence_s, wait_s) * worth_s >= wait_s:
                return True
        return False


def _over(length_s: float) -> int:
    """Count the classes that so long a silence has passed; a clock that started long ago is right to a tenth of a nanosecond."""
    return bisect_left(EDGES_S, length_s * (1.0 + 1e-6))


class Expecting(Protocol):
    """As much of `Pauses` as deciding needs."""

    def expected_until(self, now: float, until: float, usual_s: float) -> float:
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
    usual_s: float,
    free: bool,
) -> Departure:
    """Decide about a batch of ``items`` different questions that waits since ``opened_at``. ``latest`` is when one's own time
    makes it leave (see `latest_of`); ``usual_s`` is how long a batch takes; ``free`` tells whether the model could be asked
    at once: where not, waiting costs nothing.
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
    look_at = pauses.expected_until(now, until, usual_s)
    if look_at <= now:
        return Departure("nothing else is expected")
    return Departure(None, look_at)


def latest_of(came_at: float, deadline: float, usual_s: float) -> float:
    """Give the moment by which a batch must have left so that a question in it is not late for waiting; ``usual_s`` is how long
    a batch takes usually."""
    return min(deadline - _ROOM * usual_s, came_at + _WAITING_SHARE * (deadline - came_at))
