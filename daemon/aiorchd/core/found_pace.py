"""Finds the pace of a provider that does not tell it, from what it refuses.

Idea: whoever is refused knows that the provider's bucket was empty at that moment. Between two such moments it let in
exactly what it allows for that time, give or take one. So each refusal is a mark (when the refused request was sent, how
much had been let in before it), and the rate follows from two marks: the longer apart, the more exact. The longest run of
marks that agree on one rate is used; when the newest ones no longer agree with the older, the limit has changed and the older
ones go.

    after a mark      98 % of the rate, growing by 2 % with each hundred requests (or 40 seconds, if that is sooner):
                      what the first hundred leave over, the second use up, and the next refusal comes after some 200
    no refusal then   the limit must have grown: 10 % more with each 20 requests, at most with each second
    early refusals    as long as the marks say too little, the rate is cut to 0.7, at most once a second, and grows by 10 %
                      with each 6 requests

Only use that meets the pace counts for growing, and only such stretches measure: otherwise the provider's bucket fills,
and what it lets in says nothing. Nothing is bounded until the first refusal. What was found is remembered. Who asks seldom
and is refused now and then, but not twice running, is bounded by it to no less than a request every few seconds.

Sources: additive increase and multiplicative decrease (Chiu and Jain, 1989), growth that speeds up when a limit seems to be
gone (CUBIC, RFC 9438); the measuring between refusals is this project's own.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

_MARKS: Final = 24
_OLDEST_MARK_S: Final = 180.0
_RECENT: Final = 32
_LATELY_S: Final = 10.0
_START: Final = 0.98
_STEP: Final = 0.02
_STEP_REQUESTS: Final = 100.0
_STEP_S: Final = 40.0
_OVERDUE_STEPS: Final = 2.4
_OVERDUE_RATE: Final = 0.095
"""10 % more."""
_OVERDUE_REQUESTS: Final = 20.0
_OVERDUE_S: Final = 1.0
_OVERDUE_LATEST_S: Final = 10.0
_UNSURE_REQUESTS: Final = 6.0
_CUT: Final = 0.7
_CUT_EVERY_S: Final = 1.0
_HOPE: Final = 0.4
_KEPT: Final = 0.985
_ENOUGH: Final = 5.0
"""So many units of what is counted between two marks make a rate; fewer only bound it."""
_SURE: Final = 30.0
_UNSURE_CUT: Final = 0.85
_LATELY_GOOD: Final = 0.92
_IN_USE: Final = 0.5
_EAGER: Final = 0.2
_SMOOTHING: Final = 0.05
_SLACK: Final = 1.5
_SLOWEST_PER_S: Final = 1.0 / 60.0
_BURST_S: Final = 1.0


_NONE_FOUND: Final = math.inf
"""The rate before the first refusal."""


class _Mark(NamedTuple):
    """A moment at which the provider had nothing left; ``loose`` when use fell short of the pace before it."""

    at: float
    let_in: float
    loose: bool


class FoundPace:
    """A pace for requests or tokens; ``unit`` is what a refused amount usually is (1 for requests)."""

    def __init__(self) -> None:
        # This is all the mutable state.
        self._rate_per_s = _NONE_FOUND  # what was found, before growth
        self._level = 0.0
        self._at = -math.inf
        self._let_in = 0.0  # everything ever taken, less what was refused
        self._steps = 0.0  # how far the growth since the last mark has come
        self._overdue = 0.0
        self._taken_at = -math.inf
        self._lost = 0.0  # what was not used of the pace since the last mark
        self._loose = True
        self._marks: deque[_Mark] = deque(maxlen=_MARKS)
        self._sure = False  # whether the pace was measured, or only cut
        self._cut_at = -math.inf
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._mean = 1.0

    @property
    def found(self) -> bool:
        """Whether there is a pace at all."""
        return self._rate_per_s < _NONE_FOUND

    @property
    def rate_per_s(self) -> float:
        """The present pace, growth included; infinity before the first refusal."""
        if self._rate_per_s == _NONE_FOUND:
            return math.inf
        steps = min(self._steps, _OVERDUE_STEPS)
        return self._rate_per_s * (_START + _STEP * steps) * math.exp(_OVERDUE_RATE * self._overdue)

    def level(self, now: float) -> float:
        """Tell what could be taken now; negative in debt, infinity before the first refusal."""
        if self._rate_per_s == _NONE_FOUND:
            return math.inf
        rate = self.rate_per_s
        return min(self._burst(rate), self._level + max(0.0, now - self._at) * rate)

    def delay_s(self, now: float, amount: float) -> float:
        """Tell how long until so much could be taken; 0 means now."""
        if self._rate_per_s == _NONE_FOUND:
            return 0.0
        rate = self.rate_per_s
        missing = min(amount, self._burst(rate)) - self.level(now)
        return missing / rate if missing > rate * 1e-6 else 0.0

    def take(self, now: float, amount: float) -> float:
        """Take so much; gives how much was let in before, for `refused`."""
        before = self._let_in
        self._let_in = before + amount
        if self._rate_per_s == _NONE_FOUND:
            self._recent.append((now, amount))
            return before
        self._mean += _SMOOTHING * (amount - self._mean)
        rate = self.rate_per_s
        burst = self._burst(rate)
        level = self._level + max(0.0, now - self._at) * rate
        if level > burst:
            self._lost += level - burst
            self._loose = self._loose or self._lost >= burst
        if level < max(_IN_USE * burst, amount + _EAGER * self._mean):
            self._grow(now, rate)
        self._level = min(level, burst) - amount
        self._at = self._taken_at = now
        return before

    def correct(self, taken: float, used: float) -> None:
        """Correct what one take was expected to use to what it used."""
        self._let_in += used - taken
        self._level += taken - used

    def refused(self, now: float, sent_at: float, before: float, amount: float) -> None:
        """Hear that what was taken at ``sent_at`` was refused; ``before`` is what its `take` gave."""
        self._let_in -= amount
        marks = self._marks
        if marks and sent_at < marks[-1].at:
            return  # sent before the last mark and heard after it
        let_in = min(before, self._let_in)
        if self._rate_per_s == _NONE_FOUND:
            marks.append(_Mark(sent_at, let_in, True))
            self._begin(now, sent_at)
            return
        # Who could speed up so far had been too slow: the provider's bucket was full for a while.
        marks.append(_Mark(sent_at, let_in, self._loose or (self._sure and self._overdue >= 1.0)))
        while len(marks) > 3 and sent_at - marks[0].at > _OLDEST_MARK_S:
            marks.popleft()
        self._rate_per_s = max(_SLOWEST_PER_S * self._mean, self._measured(now))
        self._steps = self._overdue = 0.0
        self._lost, self._loose = 0.0, False
        self._level = min(self._level, 0.0)
        self._at = now

    def _begin(self, now: float, sent_at: float) -> None:
        """The first refusal: what went lately is more than may go. What went long ago says nothing of it: whoever asks seldom
        and is refused once is not made to ask as seldom from then on."""
        for number, (taken_at, amount) in enumerate(self._recent):
            self._taken_at = taken_at
            self._mean = amount if number == 0 else self._mean + _SMOOTHING * (amount - self._mean)
        since = min(sent_at, now) - _LATELY_S
        recent = [taken for taken in self._recent if taken[0] >= since]
        first_at = recent[0][0] if recent else now
        lately = sum([amount for _, amount in recent] or [self._mean]) / max(0.5, now - first_at)
        self._rate_per_s = max(_SLOWEST_PER_S * self._mean, _CUT * lately)
        self._cut_at = now
        self._level = 0.0
        self._at = now
        self._loose = False

    def _measured(self, now: float) -> float:
        """Find the rate on which as many marks as possible agree, beginning with the newest."""
        marks = self._marks
        newest = marks[-1]
        unit = self._mean
        low, high = 0.0, math.inf
        best: float | None = None
        sure = False
        for index in range(len(marks) - 2, -1, -1):
            mark = marks[index]
            elapsed_s = newest.at - mark.at
            if elapsed_s <= 0.0:
                continue
            let_in = newest.let_in - mark.let_in
            most = (let_in + _SLACK * unit) / elapsed_s
            least = max(0.0, (let_in - _SLACK * unit) / elapsed_s)
            if marks[index + 1].loose:
                # The bucket may have been full in between: it would have let in more.
                low = max(low, least)
                break
            if least > high or most < low:
                for _ in range(index + 1):
                    marks.popleft()
                break
            low, high = max(low, least), min(high, most)
            if let_in >= _ENOUGH * unit:
                best = let_in / elapsed_s
                sure = let_in >= _SURE * unit
        present = self.rate_per_s
        if self._loose and newest.let_in - marks[-2].let_in >= unit:
            # Use fell short of the pace, and some was let in meanwhile: the refusal does not speak against the pace.
            return max(present, low)
        if best is not None:
            # Hopeful where little is known: too fast a pace is found out at once, too slow a one is not.
            best = min(max(best, low), high)
            best += (min(high, 2.0 * best) - best) * _HOPE
        was_sure, self._sure = self._sure, sure
        if self._overdue:
            # It sped up: by little from a guess, by much when the limit seemed to be gone.
            if was_sure:
                cut = max(_CUT, math.exp(-_OVERDUE_RATE * self._overdue))
            else:
                cut = _LATELY_GOOD if self._overdue >= 1.0 else _UNSURE_CUT
            return max(low if best is None else best, cut * present)
        if self._steps >= 1.0:
            # It went well for long, so it is not much too fast; what was let in may be less than was allowed meanwhile.
            return max(present * _KEPT, low if best is None else best)
        if best is not None:
            return best
        if now - self._cut_at >= _CUT_EVERY_S:
            self._cut_at = now
            present *= _CUT
        return min(max(present, low), max(high, low))

    def _grow(self, now: float, rate: float) -> None:
        elapsed_s = min(now - self._taken_at, 2.0 * self._mean / rate + 1.0)
        if self._sure and self._steps < _OVERDUE_STEPS:
            self._steps += max(1.0 / _STEP_REQUESTS, elapsed_s / _STEP_S)
        else:
            step = max(1.0 / _OVERDUE_REQUESTS, elapsed_s / _OVERDUE_LATEST_S) if self._sure else 1.0
            self._overdue += min(step, 1.0 / _UNSURE_REQUESTS, elapsed_s / _OVERDUE_S)

    def _burst(self, rate: float) -> float:
        return max(self._mean, rate * _BURST_S)
