"""How many questions may be asked in one prompt: as many as a model answers as well as alone, found out by asking again.

A share of the items is asked alone, too. Where both answers differ, the item is asked alone once more, and of the three one is
the odd one out. If being asked among others changed nothing, the three would be exchangeable, and the batch's answer would be
odd as often as the first of the single ones, however little the model agrees with itself. So with A the checks in which the
batch's was odd and C those in which the first single one was,

    (A - C) / checks    estimates    agreement of single answers with each other - agreement of batches with them

which is what "within one point" speaks of, and a model that is not deterministic is not blamed for it.

Decided is by a sequential test, so that it may be looked at after every check: the likelihood of the counts (A, C, others) is
averaged over a grid of models that lose nothing or a tolerated point in batches, and over one of models that lose more,
each for several degrees of not being deterministic. Their ratio is a Bayes factor, and a model that is as good in batches
passes 12 with a probability of at most 1/12 ever (Ville 1939; A. Wald, "Sequential Tests of Statistical Hypotheses", 1945;
H. Robbins, "Statistical methods related to the law of the iterated logarithm", 1970, for the mixture).

  - Above 12 the size is halved, and each time it was too large it takes twice as many checks to go there again.
  - Below 0.3 the size grows by a quarter, up to what is allowed; a check in a smaller batch counts in proportion.
  - Below a size that once was too large nothing grows by itself: half way to it is tried, in one batch of `TRIAL_EVERY`, half of
    whose items are checked. So looking whether a model has got better costs a small part of what it loses; and a trial has to
    be proved better than a growth, for it has failed before.
  - Two windows are kept: of the last 60 checks, which sees a change soon, and of 2,000, which sees a small loss at last.

Limits: a loss of two or three points takes some hundred checks to see; one below the tolerated share is never seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Outcome: TypeAlias = Literal["agreed", "batch_odd", "single_odd", "all_differ"]
"""What three answers to one item say; ``agreed`` when the first two did."""

FIRST_SIZE: Final = 8
LARGE: Final = 12.0
"""Bayes factor from which on batches are taken to be worse."""
PROVED: Final = 0.3
"""Bayes factor below which a larger size is tried."""
SURE: Final = 0.15
"""Bayes factor below which a third of the usual share is checked."""
_LOST: Final = (0.04, 0.08, 0.15, 0.25, 0.4)
"""Shares of answers that a worse model loses in batches, beyond what is tolerated."""
_NOT_ITSELF: Final = (
    (0.0, 0.4),
    (0.01, 0.13),
    (0.03, 0.12),
    (0.08, 0.12),
    (0.15, 0.1),
    (0.25, 0.06),
    (0.35, 0.04),
    (0.45, 0.03),
)
"""Probabilities that one of three answers is odd by itself, and how much each is believed at first."""
_SHORT: Final = 60.0
_LONG: Final = 2000.0
_GROWTH: Final = 1.25
TRIAL_EVERY: Final = 12
_TRIAL_PROVED: Final = 0.06
_NEARLY_FULL: Final = 0.75
_MISSHAPEN: Final = 0.2
_MISSHAPEN_SMOOTHING: Final = 0.15
_PATIENCE_ITEMS: Final = 300
"""So many items are asked alone before a model that lost even in pairs is tried again."""


class Evidence:
    """The counts of one window of about ``window`` checks: what is older counts less."""

    def __init__(self, window: float) -> None:
        self._window = window
        self.batch_odd = self.single_odd = self.rest = 0.0

    @property
    def checks(self) -> float:
        """How many checks there are."""
        return self.batch_odd + self.single_odd + self.rest

    def add(self, outcome: Outcome, weight: float = 1.0) -> None:
        """Count a check; one that says nothing against batches with a weight up to 1."""
        if outcome == "batch_odd":
            self.batch_odd += 1.0
        elif outcome == "single_odd":
            self.single_odd += 1.0
        else:
            self.rest += weight
        if self.checks > self._window:
            self.scale(self._window / self.checks)

    def scale(self, factor: float) -> None:
        """Let everything count so much less."""
        self.batch_odd *= factor
        self.single_odd *= factor
        self.rest *= factor

    def factor(self, tolerated: float) -> float:
        """Give the Bayes factor of losing more than ``tolerated`` in batches over not doing so."""
        good = self._likelihood((0.0, tolerated / 2, tolerated))
        bad = self._likelihood(tuple(tolerated + lost for lost in _LOST))
        return math.exp(min(50.0, max(-50.0, bad - good)))

    def _likelihood(self, losses: tuple[float, ...]) -> float:
        """Give the logarithm of the mean likelihood over models that lose so much."""
        terms = []
        weight = 0.0
        for loss in losses:
            for odd, believed in _NOT_ITSELF:
                first, second = odd + loss, odd
                others = 1.0 - first - second
                if others <= 0.0:
                    continue
                weight += believed
                if (first <= 0.0 < self.batch_odd) or (second <= 0.0 < self.single_odd):
                    continue
                terms.append(
                    math.log(believed)
                    + (self.batch_odd * math.log(first) if first > 0 else 0.0)
                    + (self.single_odd * math.log(second) if second > 0 else 0.0)
                    + self.rest * math.log(others)
                )
        if not terms:
            return -math.inf
        largest = max(terms)
        return largest + math.log(sum(math.exp(term - largest) for term in terms) / weight)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the checks say. Of ``checks``, ``agreed``; ``batch_odd``, ``single_odd`` and ``all_differ`` are the others that were
    asked once more. ``lost`` is the estimated share of answers that batches lose against single ones; None without checks."""

    checks: int
    agreed: int
    batch_odd: int
    single_odd: int
    all_differ: int
    lost: float | None
    factor: float


class BatchSize:
    """The size that is allowed now, for one kind of work and one model; a share ``tolerated`` of the answers may be lost."""

    def __init__(self, *, tolerated: float = 0.01, first: int = FIRST_SIZE) -> None:
        self._tolerated = tolerated
        self._size = float(first)
        self._most = first
        self._short, self._long = Evidence(_SHORT), Evidence(_LONG)
        self._failed_at: dict[int, int] = {}
        """Sizes that were too large, and how often."""
        self._trial: int | None = None
        """A size that is tried now and then."""
        self._tried = Evidence(_LONG)
        self._turn = 0
        self._misshapen = 0.0
        self._alone = 0
        self._credit = 0.0
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

    @property
    def factor(self) -> float:
        """How many times likelier the checks are with a model that is worse in batches."""
        return max(self._short.factor(self._tolerated), self._long.factor(self._tolerated))

    def reconfigure(self, tolerated: float) -> None:
        """Tolerate another share: what was measured is judged by it from the next check on."""
        self._tolerated = tolerated

    def allowed(self, most: int) -> int:
        """Give how many items a batch may have, at most ``most``; 1 asks everything alone."""
        self._most = most
        return max(1, min(most, self._trial if self._trial is not None and self._turn == 0 else int(self._size)))

    def lasting(self, most: int) -> int:
        """Give the same without what is tried now and then."""
        return max(1, min(most, int(self._size)))

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
        factor = self.factor
        doubtful = self._short.batch_odd > 0.5 and factor > 1.0
        # Who was worse in larger batches is likely to be so in these, and is to prove more than that nothing was seen.
        if doubtful or (self._failed_at and factor > _TRIAL_PROVED):
            wanted = max(share, 0.5) * items
        elif factor > SURE:
            wanted = max(share, 1.0 / FIRST_SIZE) * items
        else:
            wanted = (share / 3 if self._size >= self._most else share) * items
        self._credit += wanted
        # In a batch that is far from full a check says less; it waits for a fuller one, while these come.
        due = self._credit if items >= _NEARLY_FULL * self.lasting(self._most) else self._credit - 1.0
        count = min(max(0, int(due)), items // 2)
        self._credit = min(self._credit - count, 2.0)
        return count

    def checked(self, outcome: Outcome, items: int, most: int) -> None:
        """An item of a batch of ``items`` was compared; ``most`` is the size that the configuration allows."""
        self._counts[outcome] += 1
        if self._is_trial(items):
            self._tried.add(outcome)
            self._judge_trial()
            return
        allowed = self.lasting(most)
        weight = min(1.0, items / allowed)
        if items > 1.5 * allowed and outcome == "batch_odd":
            return  # it left before the size was brought down
        for evidence in (self._short, self._long):
            evidence.add(outcome, weight)
        factor = self.factor
        if factor >= LARGE:
            self._lower()
        elif factor <= PROVED and allowed < most and self._trial is None:
            self._maybe_raise(most)

    def settled(self, items: int, wrong: int) -> None:
        """A batch was taken apart, and so many of its items had no answer of the right form: when that is many, it is cheaper
        to ask fewer together."""
        if self._is_trial(items):
            if wrong > _MISSHAPEN * items:
                self._end_trial()
            return
        self._misshapen += _MISSHAPEN_SMOOTHING * (wrong / items - self._misshapen)
        if self._misshapen > _MISSHAPEN:
            self._lower()

    def agreement(self) -> Agreement:
        """Tell what the checks said."""
        counts = self._counts
        checks = sum(counts.values())
        window = self._long
        return Agreement(
            checks=checks,
            agreed=counts["agreed"],
            batch_odd=counts["batch_odd"],
            single_odd=counts["single_odd"],
            all_differ=counts["all_differ"],
            lost=(window.batch_odd - window.single_odd) / window.checks if window.checks else None,
            factor=self.factor,
        )

    def _lower(self) -> None:
        size = int(self._size)
        self._failed_at[size] = self._failed_at.get(size, 0) + 1
        self._lowered += 1
        self._go_to(max(1.0, float(size // 2)))

    def _maybe_raise(self, most: int) -> None:
        size = int(self._size)
        failed = min((at for at in self._failed_at if at > size), default=None)
        if failed is not None:
            half_way = min(most, max(size + 1, (size + failed) // 2))
            if self._long.checks >= 40.0 * 2 ** min(6, self._failed_at.get(half_way, 1) - 1):
                self._try(half_way)
        elif self._long.checks >= 8.0:
            self._raise_to(min(most, max(size + 1, int(size * _GROWTH))))

    def _raise_to(self, size: int) -> None:
        self._raised += 1
        kept = self._size / size
        self._size = float(size)
        self._short.scale(kept)
        self._long.scale(kept)

    def _next_turn(self) -> None:
        self._turn = (self._turn + 1) % TRIAL_EVERY

    def _try(self, size: int) -> None:
        if self._trial is None:
            self._trial, self._turn, self._tried = size, 0, Evidence(_LONG)

    def _is_trial(self, items: int) -> bool:
        return self._trial is not None and int(self._size) < items <= self._trial

    def _judge_trial(self) -> None:
        assert self._trial is not None
        size, factor = self._trial, self._tried.factor(self._tolerated)
        if factor >= LARGE:
            self._end_trial()
        elif factor <= _TRIAL_PROVED:
            self._failed_at = {at: often for at, often in self._failed_at.items() if at > size}
            self._raised += 1
            self._go_to(float(size))

    def _end_trial(self) -> None:
        """It is too large, too; the next one comes after more checks."""
        assert self._trial is not None
        self._failed_at[self._trial] = self._failed_at.get(self._trial, 0) + 1
        self._trial = None
        self._alone = 0
        self._long.scale(0.0)

    def _go_to(self, size: float) -> None:
        self._size = size
        self._trial = None
        self._alone = 0
        self._misshapen = 0.0
        self._short, self._long = Evidence(_SHORT), Evidence(_LONG)
