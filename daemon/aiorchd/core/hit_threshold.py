"""From which probability on an answer is given, so that of those given no more than a target share is wrong.

Idea. What has to be held is the mean error of all answers that are given, and a threshold on p bounds only the worst of
them; so the threshold is looked for where the mean reaches the target. Three things are counted, by the log-odds of p, over
the last `WINDOW` of each: how often such a p came up at all, and how often it turned out right and wrong. Below the
threshold every lookup has an outcome, above it the checked share; but given p, having an outcome says nothing about it,
and so all outcomes together tell how far p can be believed:

    log-odds(right) = a + s log-odds(p)

fitted by maximum likelihood with a ridge that pulls to a = 0, s = 1 while outcomes are few (J. Platt, "Probabilistic
outputs for support vector machines", 1999; here p is what was said before the outcome was known). It is fitted to all of
them: a line through those near the threshold follows a bent curve better, but what it says of the rest is made up, and where
the curve has a step it runs away. The threshold is the lowest at which the mean of the corrected errors, over all p that came
up above it, is at most `MARGIN` of the target; the rest is for what estimates are off by, and for streams that change.

Moving the threshold itself by the checks alone, as a stochastic approximation, was tried before: one check in twenty
answers with one wrong in fifty checks is so little that the threshold was still on its way when 20,000 questions had
come, and where it stood was chance: 28 to 42 % hits by the order of the same questions. As a correction that only makes
stricter it is kept, for whatever this form of the curve does not see:

    wrong:  correction -= 0.1 (1 - target)        right:  correction += 0.1 target        the target counts exp(correction) times
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW: Final = 4000
MARGIN: Final = 0.85
_WIDTH: Final = 0.1
"""Of a class of log-odds; below 0 nothing is counted, since no answer is ever given there."""
_CLASSES: Final = 91
_TOP: Final = _WIDTH * (_CLASSES - 1)
_EVERY: Final = 25
"""So many outcomes lie between two looks."""
_RIDGE: Final = (5.0, 20.0)
_ROUNDS: Final = 10
_LEAST_SLOPE: Final = 0.1
_FEW: Final = 20
"""So many lookups at the top may be above the target without ending the search."""
_STEP: Final = 0.1
_LEAST_CORRECTION: Final = -2.5
_RIGHT: Final = 128
"""Marks an outcome as right in a byte that holds its class."""


class HitThreshold:
    """The threshold for one target. Pure; some tenths of a millisecond at every 25th outcome."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._came: deque[int] = deque()
        self._outcomes: deque[int] = deque()
        self._count_came = [0] * _CLASSES
        self._count_right = [0] * _CLASSES
        self._count_wrong = [0] * _CLASSES
        self._correction = 0.0
        self._unseen = 0
        self._line = (0.0, 1.0)
        self._log_odds = _log_odds(1.0 - target)

    @property
    def value(self) -> float:
        """The least probability with which an answer is given."""
        return _share(self._log_odds)

    def reconfigure(self, target: float) -> None:
        """Hold to another target from now on, by what is known already."""
        if target != self._target:
            self._target, self._correction = target, 0.0
            self._log_odds = _log_odds(1.0 - target)
            self.settle()

    def came_up(self, probability: float) -> None:
        """Count a lookup that had this probability, whatever becomes of it."""
        place = _class_of(probability)
        if place is None:
            return
        self._came.append(place)
        self._count_came[place] += 1
        if len(self._came) > WINDOW:
            self._count_came[self._came.popleft()] -= 1

    def turned_out(self, probability: float, *, right: bool) -> None:
        """Count what became of one."""
        place = _class_of(probability)
        if place is not None:
            self._outcomes.append(place | _RIGHT if right else place)
            (self._count_right if right else self._count_wrong)[place] += 1
            if len(self._outcomes) > WINDOW:
                old = self._outcomes.popleft()
                (self._count_right if old & _RIGHT else self._count_wrong)[old & ~_RIGHT] -= 1
        self._unseen += 1
        if self._unseen >= _EVERY:
            self.settle()

    def checked(self, *, right: bool) -> None:
        """Take one check of an answer that was, or would have been, given."""
        step = self._target if right else self._target - 1.0
        self._correction = min(0.0, max(_LEAST_CORRECTION, self._correction + _STEP * step))

    def settle(self) -> None:
        """Look for the threshold anew."""
        self._unseen = 0
        if not self._came:
            return
        offset, slope = self._line = self._fitted()
        wanted = MARGIN * self._target * math.exp(self._correction)
        lookups = errors = 0.0
        self._log_odds = _TOP
        for place in range(_CLASSES - 1, -1, -1):
            count = self._count_came[place]
            lookups += count
            errors += count * (1.0 - _share(offset + slope * _middle(place)))
            if lookups and errors <= wanted * lookups:
                self._log_odds = place * _WIDTH
            elif lookups > _FEW:
                return

    def state(self) -> tuple[bytes, bytes, float]:
        """Give what `restore` takes."""
        return bytes(self._came), bytes(self._outcomes), self._correction

    def restore(self, came: bytes, outcomes: bytes, correction: float) -> None:
        """Go on from a state. Raises ValueError for one that makes no sense."""
        known = all(place < _CLASSES for place in came) and all(one & ~_RIGHT < _CLASSES for one in outcomes)
        if not known or max(len(came), len(outcomes)) > WINDOW or not _LEAST_CORRECTION <= correction <= 0.0:
            raise ValueError("not the state of a threshold")
        self._came, self._outcomes, self._correction = deque(came), deque(outcomes), correction
        for place in range(_CLASSES):
            self._count_came[place] = came.count(place)
            self._count_right[place] = outcomes.count(place | _RIGHT)
            self._count_wrong[place] = outcomes.count(place)
        self.settle()

    def _fitted(self) -> tuple[float, float]:
        """Fit the line by Newton's method, from where it was."""
        offset, slope = self._line
        known = [
            (_middle(place), right, right + wrong)
            for place, (right, wrong) in enumerate(zip(self._count_right, self._count_wrong, strict=True))
            if right + wrong
        ]
        for _ in range(_ROUNDS):
            g0, g1 = _RIDGE[0] * offset, _RIDGE[1] * (slope - 1.0)
            h00, h01, h11 = _RIDGE[0], 0.0, _RIDGE[1]
            for at, right, count in known:
                likely = _share(offset + slope * at)
                missed, bend = count * likely - right, count * likely * (1.0 - likely)
                g0, g1 = g0 + missed, g1 + missed * at
                h00, h01, h11 = h00 + bend, h01 + bend * at, h11 + bend * at * at
            determinant = h00 * h11 - h01 * h01
            by_offset, by_slope = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
            offset, slope = offset - by_offset, slope - by_slope
            if abs(by_offset) + abs(by_slope) < 1e-4:
                break
        return (offset, max(_LEAST_SLOPE, slope)) if math.isfinite(offset + slope) else (0.0, 1.0)


def _middle(place: int) -> float:
    return (place + 0.5) * _WIDTH


def _class_of(probability: float) -> int | None:
    if probability < 0.5:
        return None
    return _CLASSES - 1 if probability >= 1.0 else min(_CLASSES - 1, int(_log_odds(probability) / _WIDTH))


def _share(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(40.0, max(-40.0, log_odds))))


def _log_odds(share: float) -> float:
    return math.log(share / (1.0 - share))
