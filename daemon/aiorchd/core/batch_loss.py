"""What a model loses by being asked much at once: how likely each of many curves of loss over size is, given all checks so far.

A check at one size says something of others: who answers worse in eights is likely to in sixes, and who does not in eights does
not in fours. So models are told apart by a curve, the share of answers lost in batches of each size: nothing; up to what is
tolerated; a line that begins with some size; a step behind one. Each is believed a little before anything is seen, mostly
that nothing is lost, and each goes with several degrees of a model's not agreeing with itself. All the checks, at whatever size
they were made, then say how many times likelier it is that more than the tolerated share is lost at a size than that it is not:
Bayes' rule, by summing over the curves (dose and response in a grid; A. Gelman et al., "Bayesian Data Analysis", 3.7).
Looking after every check does no harm: with a model that loses nothing, the odds pass k times what they were at first with a
probability of 1/k at most (J. Ville, 1939).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import compress
from operator import add, not_
from typing import Final, Literal, TypeAlias

Outcome: TypeAlias = Literal["agreed", "batch_odd", "single_odd", "all_differ"]
"""What three answers to one item say; ``agreed`` when the first two did."""

_NOTHING: Final = 0.56
_TOLERATED: Final = 0.15
_LINES: Final = 0.15
_STEPS: Final = 0.14
"""How much the kinds of curves are believed at first."""
_SLOPES: Final = (0.006, 0.012, 0.025, 0.05, 0.1)
"""Shares of answers lost for each further item."""
_LINES_FROM: Final = (1, 2, 4, 6)
_HEIGHTS: Final = (0.04, 0.1, 0.2, 0.4)
_STEPS_BEHIND: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24, 40, 64)
_NOT_ITSELF: Final = (
    (0.0, 0.5),
    (0.01, 0.14),
    (0.03, 0.1),
    (0.07, 0.08),
    (0.12, 0.07),
    (0.2, 0.05),
    (0.3, 0.03),
    (0.42, 0.03),
)
"""Probabilities that one of three answers is odd by itself, and how much each is believed at first."""
_MOST_LOST: Final = 0.9
_LEAST_CHANCE: Final = 1e-5
"""Nothing is impossible, so that no single check decides."""


@dataclass(frozen=True, slots=True)
class _Chances:
    """By curve and degree of not agreeing with itself, at one size: the logarithms of the chances of what a check may say; and
    which of them lose more than is tolerated."""

    batch_odd: tuple[float, ...]
    single_odd: tuple[float, ...]
    others: tuple[float, ...]
    too_much: tuple[bool, ...]


class LossCurves:
    """The curves, where a share ``tolerated`` of the answers may be lost. Can be shared: what it keeps is computed from that."""

    def __init__(self, tolerated: float) -> None:
        self.tolerated = tolerated
        believed: list[tuple[Callable[[int], float], float]] = [
            (_flat(0.0), _NOTHING),
            (_flat(tolerated / 2), _TOLERATED / 2),
            (_flat(tolerated), _TOLERATED / 2),
        ]
        lines = [_line(begin, slope) for begin in _LINES_FROM for slope in _SLOPES]
        steps = [_step(behind, height) for behind in _STEPS_BEHIND for height in _HEIGHTS]
        believed += [(curve, _LINES / len(lines)) for curve in lines] + [
            (curve, _STEPS / len(steps)) for curve in steps
        ]
        self._curves = [curve for curve, _ in believed]
        self.prior = tuple(math.log(weight * share) for _, weight in believed for _, share in _NOT_ITSELF)
        self._chances: dict[int, _Chances] = {}
        self._at_first: dict[int, float] = {}

    def odds_at_first(self, size: int) -> float:
        """Give the odds that more is lost at ``size`` than is tolerated, before anything was seen."""
        if (found := self._at_first.get(size)) is None:
            found = self._at_first[size] = self.odds(array("d", bytes(8 * len(self.prior))), size)
        return found

    def chances(self, size: int) -> _Chances:
        """Give what checks in batches of ``size`` may say."""
        if (found := self._chances.get(size)) is None:
            found = self._chances[size] = self._chances_at(size)
        return found

    def odds(self, seen: array[float], size: int) -> float:
        """Give the odds that more is lost at ``size`` than is tolerated; ``seen`` are the logarithms of the likelihoods."""
        weights = list(map(add, self.prior, seen))
        largest = max(weights)
        shares = [math.exp(weight - largest) for weight in weights]
        too_much = self.chances(size).too_much
        return sum(compress(shares, too_much)) / max(1e-12, sum(compress(shares, map(not_, too_much))))

    def _chances_at(self, size: int) -> _Chances:
        losses = [curve(size) for curve in self._curves]
        pairs = [(own, min(own + loss, 1.0)) for loss in losses for own, _ in _NOT_ITSELF]
        return _Chances(
            batch_odd=tuple(_log(odd) for _, odd in pairs),
            single_odd=tuple(_log(own) for own, _ in pairs),
            others=tuple(_log(1.0 - own - odd) for own, odd in pairs),
            too_much=tuple(loss > self.tolerated * (1.0 + 1e-9) for loss in losses for _ in _NOT_ITSELF),
        )


class Evidence:
    """What checks said, of about the last ``window``: what is older counts less. Begins with ``counts``, if there are any."""

    def __init__(
        self, curves: LossCurves, window: float, counts: Mapping[int, tuple[float, float, float]] | None = None
    ) -> None:
        self._curves = curves
        self._window = window
        self._counts: dict[int, list[float]] = {}
        """By size: how often the batch's answer was the odd one, how often the single one, and the rest."""
        self._seen = array("d", bytes(8 * len(curves.prior)))
        self._odds: dict[int, float] = {}
        for size, said in (counts or {}).items():
            chances = curves.chances(size)
            for count, likely in zip(said, (chances.batch_odd, chances.single_odd, chances.others), strict=True):
                self._seen = array("d", [sum_ + count * one for sum_, one in zip(self._seen, likely, strict=True)])
            self._counts[size] = list(said)

    @property
    def checks(self) -> float:
        """How many checks there are."""
        return math.fsum(map(math.fsum, self._counts.values()))

    @property
    def batch_odd(self) -> float:
        """In how many of them the batch's answer was the odd one."""
        return math.fsum(counts[0] for counts in self._counts.values())

    @property
    def counts(self) -> Mapping[int, tuple[float, float, float]]:
        """By size: in how many the batch's answer was odd, in how many the single one, and how many others there are."""
        return {size: (batch, single, rest) for size, (batch, single, rest) in self._counts.items()}

    def add(self, outcome: Outcome, size: int) -> None:
        """Count a check in a batch of ``size`` items."""
        chances = self._curves.chances(size)
        said = {"batch_odd": chances.batch_odd, "single_odd": chances.single_odd}.get(outcome, chances.others)
        self._seen = array("d", map(add, self._seen, said))
        counts = self._counts.setdefault(size, [0.0, 0.0, 0.0])
        counts[{"batch_odd": 0, "single_odd": 1}.get(outcome, 2)] += 1.0
        self._odds.clear()
        if (checks := self.checks) > self._window:
            self.scale(self._window / checks)

    def scale(self, factor: float) -> None:
        """Let everything count so much less."""
        self._seen = array("d", [likely * factor for likely in self._seen])
        for counts in self._counts.values():
            counts[:] = [count * factor for count in counts]
        self._odds.clear()

    def odds(self, size: int) -> float:
        """Give the odds that more is lost in batches of ``size`` than is tolerated."""
        if (found := self._odds.get(size)) is None:
            found = self._odds[size] = self._curves.odds(self._seen, size)
        return found

    def judged_by(self, curves: LossCurves) -> Evidence:
        """Give the same checks, to be judged by other curves."""
        return Evidence(curves, self._window, self.counts)

    def copy(self) -> Evidence:
        """Give a copy."""
        return self.judged_by(self._curves)


def _flat(loss: float) -> Callable[[int], float]:
    return lambda size: loss if size > 1 else 0.0


def _line(begin: int, slope: float) -> Callable[[int], float]:
    return lambda size: min(_MOST_LOST, slope * max(0, size - begin))


def _step(behind: int, height: float) -> Callable[[int], float]:
    return lambda size: height if size > behind else 0.0


def _log(chance: float) -> float:
    return math.log(max(_LEAST_CHANCE, chance))
