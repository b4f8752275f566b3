"""How many questions may be asked in one prompt: as many as a model answers as well as alone, found out by asking again.

A share of the items is asked alone, too. Where both answers differ, the item is asked alone once more, and of the three one is
the odd one out. If being asked among others changed nothing, the three would be exchangeable, and the batch's answer would be
odd as often as the first of the single ones, however little the model agrees with itself. So with A the checks in which the
batch's was odd and C those in which the first single one was,

    (A - C) / checks    estimates    agreement of single answers with each other - agreement of batches with them

which is what "within one point" speaks of, and a model that is not deterministic is not blamed for it.

What the checks at all sizes say together of each size are odds (`core.batch_loss`), looked at after every check.

  - Checks are many at first, few when nothing was found, and half of a batch as soon as one answer was the odd one: only with
    a model that agrees is it a matter of saving calls.
  - When it is six times likelier than not that too much is lost, the size is halved, or as often as the odds at the smaller size
    ask for. Then the new one has to prove itself by many checks, and is halved sooner; the soonest are pairs, which save least.
  - While nothing was too large yet, the size grows by a quarter where the odds have fallen to half of what they were at first.
  - Below a size that once was too large half way to it is tried, in one batch of `TRIAL_EVERY`, half of whose items are
    checked. So looking whether a model has got better costs a small part of what it loses. Before each trial what was seen
    earlier is made to count less, so that no verdict is for ever; each time a size fails it takes twice as many checks to go
    there again.
  - Two windows are kept: of the last 60 checks, which sees a change soon, and of 2,000, which sees a small loss at last.

Limits: a loss of two or three points takes some hundred checks to see; one below the tolerated share is never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiorchd.core.batch_loss import Evidence, LossCurves, Outcome

FIRST_SIZE: Final = 8
LOWER: Final = 6.0
"""Odds of losing too much from which on a size is given up."""
_DOUBT: Final = 0.2
"""After an odd answer, as many as possible are checked while the odds are above this."""
_LOWER_AGAIN: Final = 12.0
_SETTLE: Final = 10.0
_TRUST: Final = 0.35
"""Times the odds before anything was seen, once a size was too large: to give up a smaller one, too; to pass it over on the way
down; and to believe that it has proved itself. So pairs, which save least, are to be the surest."""
_PROVED: Final = 0.5
_SURE: Final = 0.4
_TRIAL_PROVED: Final = 0.25
"""Shares of the odds before anything was seen: to grow, for checks to become fewer, and to grow where it failed before."""
_MANY_CHECKS: Final = 24
"""So many are made at the rate of the beginning; the rest, once it is sure, at a third of the usual one."""
_FIRST_SHARE: Final = 0.2
_DOUBTFUL_SHARE: Final = 2.0 / 3.0
"""Of what a batch saves this share at most is spent on checks in doubt, of its items at most half."""
_SHORT: Final = 60.0
_LONG: Final = 2000.0
_GROWTH: Final = 1.25
_LEAST_CHECKS: Final = 5
_PROVING_CHECKS: Final = 20
_CHECKS_BEFORE_TRIAL: Final = 40
TRIAL_EVERY: Final = 12
_OLD_SHARE: Final = 0.4
_OLD_ODD: Final = 2.0
"""In a trial what was seen earlier counts by this share, and as no more than so many odd answers."""
_NEARLY_FULL: Final = 0.75
_REMEMBERED: Final = 0.5
_CHECKS_ANEW: Final = 8
"""Of an earlier process's checks this share counts, and after a restart so many are made as in the beginning."""
_MISSHAPEN: Final = 0.2
_MISSHAPEN_SMOOTHING: Final = 0.15
_PATIENCE_ITEMS: Final = 300
"""So many items are asked alone before a model that lost even in pairs is tried again."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the checks say. Of ``checks``, ``agreed``; ``batch_odd``, ``single_odd`` and ``all_differ`` are the others that were
    asked once more. ``lost`` is the estimated share of answers that batches of up to about the present size lose against single
    ones; None without checks of such."""

    checks: int
    agreed: int
    batch_odd: int
    single_odd: int
    all_differ: int
    lost: float | None


@dataclass(frozen=True, slots=True)
class KeptSize:
    """What is worth remembering: the size, the most that it was allowed to be, how many checks were ``made``, which sizes were
    too large how often, and what checks said by size (`Evidence.counts`)."""

    size: int
    most: int
    made: int
    failed_at: Mapping[int, int]
    counts: Mapping[int, tuple[float, float, float]]


class BatchSize:
    """The size that is allowed now, for one kind of work and one model; ``curves`` say what share of the answers may be lost."""

    def __init__(self, curves: LossCurves, *, first: int = FIRST_SIZE) -> None:
        self._curves = curves
        self._size = self._most = first
        self._short, self._long = Evidence(curves, _SHORT), Evidence(curves, _LONG)
        self._failed_at: dict[int, int] = {}
        """Sizes that were too large, and how often."""
        self._trial: int | None = None
        """A size that is tried now and then."""
        self._tried = Evidence(curves, _LONG)
        self._trial_odd = False
        self._turn = 0
        self._misshapen = 0.0
        self._alone = 0
        self._credit = 0.0
        self._promised = self._since = self._made_before = 0
        """Checks that were asked for, those that were made at the present size, and those that an earlier process made."""
        self._lowered = self._raised = 0
        self._counts: dict[Outcome, int] = {"agreed": 0, "batch_odd": 0, "single_odd": 0, "all_differ": 0}

    @property
    def lowered(self) -> int:
        """How often the size was brought down."""
        return self._lowered

    @property
    def raised(self) -> int:
        """How often it was raised."""
        return self._raised

    def odds(self, size: int) -> float:
        """Give how many times likelier it is that too much is lost in batches of ``size`` than that it is not."""
        return max(self._short.odds(size), self._long.odds(size))

    def reconfigure(self, curves: LossCurves) -> None:
        """Tolerate another share: what was measured is judged by it from the next check on."""
        if curves is not self._curves:
            self._curves = curves
            self._short, self._long, self._tried = (
                evidence.judged_by(curves) for evidence in (self._short, self._long, self._tried)
            )

    def allowed(self, most: int) -> int:
        """Give how many items a batch may have, at most ``most``; 1 asks everything alone."""
        self._most = most
        return max(1, min(most, self._trial if self._trial is not None and self._turn == 0 else self._size))

    def lasting(self, most: int) -> int:
        """Give the same without what is tried now and then."""
        return max(1, min(most, self._size))

    def asked_alone(self) -> None:
        """An item was asked alone because the size is 1: after some hundred of them pairs are tried."""
        self._alone += 1
        self._next_turn()
        if self._size < 2 and self._alone >= _PATIENCE_ITEMS * 2 ** min(8, self._failed_at.get(2, 1) - 1):
            self._try(2)

    def checks(self, items: int, share: float) -> int:
        """Say how many items of a batch that leaves now are to be asked alone, too, at most half of them. ``share`` is what is
        wanted once batches have proved to be good; before, and while there is doubt, it is more, and less when it is
        sure."""
        self._next_turn()
        if self._is_trial(items):
            return max(1, items // 2)
        self._credit += self._wanted(share) * items
        # In a batch that is far from full a check says less; it waits for a fuller one, while these come.
        due = self._credit if items >= _NEARLY_FULL * self.lasting(self._most) else self._credit - 1.0
        count = min(max(0, int(due)), items // 2)
        self._credit = min(self._credit - count, 2.0)
        self._promised += count
        return count

    def checked(self, outcome: Outcome, items: int, most: int) -> None:
        """An item of a batch of ``items`` was compared; ``most`` is the size that the configuration allows."""
        self._counts[outcome] += 1
        if self._is_trial(items):
            self._tried.add(outcome, items)
            self._trial_odd |= outcome == "batch_odd"
            self._judge_trial()
            return
        for evidence in (self._short, self._long):
            evidence.add(outcome, items)
        self._since += 1
        size = self.lasting(most)
        if size > 1 and self.odds(size) >= (self._lower_again(size) if self._failed_at else LOWER):
            self._lower(size)
        elif size < most and self._trial is None:
            self._maybe_raise(size, most)

    def settled(self, items: int, wrong: int) -> None:
        """A batch was taken apart, and so many of its items had no answer of the right form: when that is many, it is cheaper
        to ask fewer together."""
        if self._is_trial(items):
            if wrong > _MISSHAPEN * items:
                self._end_trial()
            return
        self._misshapen += _MISSHAPEN_SMOOTHING * (wrong / items - self._misshapen)
        if self._misshapen > _MISSHAPEN and (size := self.lasting(self._most)) > 1:
            self._lower(size)

    def agreement(self) -> Agreement:
        """Tell what the checks said."""
        counts = self._counts
        about = [found for size, found in self._long.counts.items() if size <= 1.5 * self._size]
        checks = sum(map(sum, about))
        return Agreement(
            checks=sum(counts.values()),
            agreed=counts["agreed"],
            batch_odd=counts["batch_odd"],
            single_odd=counts["single_odd"],
            all_differ=counts["all_differ"],
            lost=sum(batch - single for batch, single, _ in about) / checks if checks else None,
        )

    def kept(self) -> KeptSize:
        """Give what is to be remembered."""
        made = max(self._made, self._promised)
        return KeptSize(self._size, self._most, made, dict(self._failed_at), self._long.counts)

    def remember(self, kept: KeptSize) -> None:
        """Begin where an earlier process ended. A model may have changed meanwhile, so what was seen counts less, and some checks
        are made anew."""
        self._size, self._most = kept.size, kept.most
        self._failed_at = dict(kept.failed_at)
        self._long = Evidence(self._curves, _LONG, kept.counts)
        self._long.scale(_REMEMBERED)
        self._made_before = max(0, min(kept.made, _MANY_CHECKS - _CHECKS_ANEW))
        self._promised = self._made_before

    @property
    def _made(self) -> int:
        return self._made_before + sum(self._counts.values())

    def _wanted(self, share: float) -> float:
        """Give the share of items that should be checked now."""
        size = self.lasting(self._most)
        odds = self.odds(size)
        in_doubt = self._short.batch_odd > 0.5 and odds > _DOUBT
        # Who was worse in larger batches is likely to be so in these, and is to prove more than that nothing was seen.
        if in_doubt or (
            self._failed_at and (odds > _TRUST * self._curves.odds_at_first(size) or self._since < _PROVING_CHECKS)
        ):
            return max(share, min(0.5, _DOUBTFUL_SHARE * (1.0 - 1.0 / max(2, size))))
        made = self._made
        asked_for = max(made, self._promised)
        # Where many leave at once, what was asked for is waited for before more is.
        if asked_for < _MANY_CHECKS or (made >= _MANY_CHECKS and odds > _SURE * self._curves.odds_at_first(size)):
            return max(share, _FIRST_SHARE)
        return share / 3 if size >= self._most or made < _MANY_CHECKS else share

    def _lower_again(self, size: int) -> float:
        return min(LOWER, _LOWER_AGAIN * self._curves.odds_at_first(size))

    def _lower(self, size: int) -> None:
        self._failed_at[size] = self._failed_at.get(size, 0) + 1
        self._lowered += 1
        smaller = size // 2
        while smaller > 1 and self.odds(smaller) > _SETTLE * self._curves.odds_at_first(smaller):
            smaller //= 2
        self._go_to(max(1, smaller))

    def _maybe_raise(self, size: int, most: int) -> None:
        failed = min((at for at in self._failed_at if at > size), default=None)
        if failed is not None:
            half_way = min(most, failed if size > 4 and failed - size <= 2 else max(size + 1, (size + failed) // 2))
            patience = _CHECKS_BEFORE_TRIAL * 2 ** min(6, self._failed_at.get(half_way, 1) - 1)
            if self._since >= patience and self.odds(size) <= _TRUST * self._curves.odds_at_first(size):
                self._try(half_way)
        elif self._since >= _LEAST_CHECKS:
            larger = min(most, max(size + 1, int(size * _GROWTH)))
            if self.odds(larger) <= _PROVED * self._curves.odds_at_first(larger):
                self._size = larger
                self._raised += 1

    def _next_turn(self) -> None:
        self._turn = (self._turn + 1) % TRIAL_EVERY

    def _try(self, size: int) -> None:
        if self._trial is None:
            self._trial, self._turn, self._trial_odd = size, 0, False
            self._tried = self._long.copy()
            self._tried.scale(min(_OLD_SHARE, _OLD_ODD / max(_OLD_ODD, self._tried.batch_odd)))

    def _is_trial(self, items: int) -> bool:
        return self._trial is not None and self._size < items <= self._trial

    def _judge_trial(self) -> None:
        assert self._trial is not None
        size, odds = self._trial, self._tried.odds(self._trial)
        if self._trial_odd and odds >= self._lower_again(size):
            self._end_trial()
        elif odds <= _TRIAL_PROVED * self._curves.odds_at_first(size):
            self._failed_at = {at: often for at, often in self._failed_at.items() if at > size}
            self._raised += 1
            self._short, self._long = Evidence(self._curves, _SHORT), self._tried
            self._go_to(size)

    def _end_trial(self) -> None:
        """It is too large, too; the next one comes after more checks."""
        assert self._trial is not None
        self._failed_at[self._trial] = self._failed_at.get(self._trial, 0) + 1
        self._long = self._tried
        self._trial = None
        self._alone = self._since = 0

    def _go_to(self, size: int) -> None:
        self._size = size
        self._trial = None
        self._alone = self._since = 0
        self._misshapen = 0.0
