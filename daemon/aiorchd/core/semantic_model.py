"""When the answer to one question may be given to another: learned from answers that were compared.

Idea. A fixed likeness threshold is wrong for every stream but the one it was chosen on. Here every call that asks the
model anyway, though a kept question was near, says whether the kept answer would have been right: a label for the
features of that pair. One logistic regression over all pairs tells the probability p that the next one is right, and
an answer is given when p reaches a threshold that keeps the share of wrong ones below the target whatever the calibration
of p (`core.hit_threshold`). Features are standardised and clipped to +-3, and the weights held by an L2 of 5: without
both, the history of single entries runs away with the model.

`Proof` keeps it honest: it holds the outcome of the last checks, lets answers be given only after enough of them were
right, and forbids it when they show that the target is not kept; then it has to be proved anew.

Sources: E. B. Wilson 1927 for the interval. The idea of verifying a share of the hits
is common to the literature on semantic caches; no code of others is used.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from aiorchd.core.hit_threshold import HitThreshold
from aiorchd.core.text_sketch import Difference

FEATURES: Final = 16
FIRST_LABELS: Final = 200
MOST_LABELS: Final = 6000
CLIP: Final = 3.0
L2: Final = 5.0
_HISTORY_CAP: Final = 8.0

Row: TypeAlias = tuple[float, ...]
"""The features of one pair."""


class Neighbourhood(NamedTuple):
    """What the nearest kept question looks like from the asked one: the cosine of their vectors, by how much it is nearer
    than the best with another answer, how many of the nearest six have its answer, and how often it was right and wrong."""

    cosine: float
    margin: float
    agreeing: int
    right: int
    wrong: int


def features(near: Neighbourhood, words: Difference) -> Row:
    """Give what the model looks at."""
    right, wrong = (min(_HISTORY_CAP, math.log1p(count)) for count in (near.right, near.wrong))
    cosine = near.cosine
    return (
        cosine,
        cosine * cosine,
        max(0.0, cosine - 0.9),
        near.margin,
        float(near.agreeing),
        words.token_jaccard,
        words.bigram_jaccard,
        float(words.numbers_differ),
        float(words.negation_differs),
        float(words.question_words_differ),
        float(words.least_content),
        float(words.most_content),
        words.length_ratio,
        right,
        wrong,
        (near.right + 1.0) / (near.right + near.wrong + 2.0),
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """A fitted model: what standardises the features, and what weighs them."""

    mean: Row
    scale: Row
    weights: Row
    bias: float

    def probability(self, row: Row) -> float:
        """Give the probability that a pair has the same answer."""
        total = self.bias
        for value, mean, scale, weight in zip(row, self.mean, self.scale, self.weights, strict=True):
            standard = (value - mean) * scale
            if -CLIP < standard < CLIP:
                total += weight * standard
            else:
                total += weight * (CLIP if standard > 0 else -CLIP)
        return 1.0 / (1.0 + math.exp(-min(40.0, max(-40.0, total))))


class SemanticModel:
    """The labels, the weights in force, and the threshold. Who owns it refits: see `due` and `fitted`.

    Rows are kept as they are handed on, packed: making six thousand of them into arrays would take as long as an answer."""

    def __init__(self, target: float) -> None:
        self._threshold = HitThreshold(target)
        self._rows = array("f")
        self._labels = bytearray()
        self._oldest = 0
        """The place of the next label, once there are as many as are kept."""
        self._weights: Weights | None = None
        self._unfitted = 0
        self._fitting = False

    @property
    def labels(self) -> int:
        """How many pairs are known."""
        return len(self._labels)

    @property
    def trained(self) -> bool:
        """Whether there are weights."""
        return self._weights is not None

    @property
    def threshold(self) -> float:
        """The least probability with which an answer is given."""
        return self._threshold.value

    @property
    def due(self) -> bool:
        """Whether there are enough new labels for another fit, and none is under way."""
        if self._fitting or len(self._labels) < FIRST_LABELS:
            return False
        return self._weights is None or self._unfitted >= max(50, len(self._labels) // 20)

    def reconfigure(self, target: float) -> None:
        """Hold to another target from now on."""
        self._threshold.reconfigure(target)

    def probability(self, row: Row) -> float | None:
        """Tell how surely a pair has the same answer; None before there are weights."""
        return None if self._weights is None else self._weights.probability(row)

    def came_up(self, probability: float) -> None:
        """A lookup had this probability, whether its answer is given or not."""
        self._threshold.came_up(probability)

    def learn(self, row: Row, *, right: bool, said: float | None = None) -> None:
        """Take a label; ``said`` is the probability that was told of this pair, where one was."""
        if said is None and self._weights is not None:
            said = self._weights.probability(row)
        if said is not None:
            self._threshold.turned_out(said, right=right)
        if len(self._labels) < MOST_LABELS:
            self._rows.extend(row)
            self._labels.append(right)
        else:
            at = self._oldest * FEATURES
            self._rows[at : at + FEATURES] = array("f", row)
            self._labels[self._oldest] = right
            self._oldest = (self._oldest + 1) % MOST_LABELS
        self._unfitted += 1

    def adapt(self, *, right: bool) -> None:
        """Take one check of an answer that was, or would have been, given."""
        self._threshold.checked(right=right)

    def take(self) -> tuple[bytes, bytes]:
        """Give all rows, packed as float32, and a byte for each label, for a fit that begins now; `fitted` ends it."""
        self._fitting = True
        self._unfitted = 0
        return self._packed()

    def state(self) -> tuple[bytes, bytes, tuple[bytes, bytes, float]]:
        """Give what `restore` takes: packed rows, labels, and what the threshold knows."""
        return *self._packed(), self._threshold.state()

    def restore(self, rows: bytes, labels: bytes, threshold: tuple[bytes, bytes, float]) -> None:
        """Go on from a state. Raises ValueError for one that makes no sense."""
        values = array("f")
        values.frombytes(rows)
        if len(values) != FEATURES * len(labels) or not all(map(math.isfinite, values)):
            raise ValueError("not the state of a semantic model")
        self._threshold.restore(*threshold)
        self._rows = values[-MOST_LABELS * FEATURES :]
        self._labels = bytearray(map(bool, labels[-MOST_LABELS:]))
        self._oldest = 0
        self._unfitted = len(self._labels)

    def fitted(self, weights: Weights | None) -> None:
        """The fit that was begun has ended; without weights the old ones stay."""
        self._fitting = False
        if weights is not None:
            self._weights = weights
            self._threshold.settle()

    def _packed(self) -> tuple[bytes, bytes]:
        """The oldest first."""
        at = self._oldest
        rows = self._rows[at * FEATURES :] + self._rows[: at * FEATURES]
        return rows.tobytes(), bytes(self._labels[at:] + self._labels[:at])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether answers may be given, or in a sentence why not; of ``checked`` ones in the window ``wrong`` were, and with 95 %
    confidence their true share lies between ``low`` and ``high`` (None: nothing was checked)."""

    allowed: bool
    why: str
    checked: int
    wrong: int
    rate: float | None
    low: float | None
    high: float | None


class Proof:
    """The last checks of answers that were given or would have been. ``needed`` checks must be there before any is given,
    with no larger share of wrong ones than the target. While answers are given, it shuts off when even the lower end of the
    interval is above the target, forgets what it knew, and has to be convinced anew."""

    WINDOW: Final = 1000

    def __init__(self, target: float, *, needed: int) -> None:
        self._target = target
        self._needed = needed
        self._checks: deque[bool] = deque(maxlen=self.WINDOW)
        self._wrong = 0
        self._allowed = False
        self._trips = 0

    @property
    def allowed(self) -> bool:
        """Whether answers may be given."""
        return self._allowed

    @property
    def trips(self) -> int:
        """How often it was shut off."""
        return self._trips

    def reconfigure(self, target: float, *, needed: int) -> None:
        """Hold to another target: what was measured is judged anew."""
        self._target, self._needed = target, needed
        self._allowed = self._allowed and not self._broken()
        self._allowed = self._allowed or self._proved()

    def check(self, *, right: bool) -> bool:
        """Take one outcome; tell whether this shut it off."""
        if len(self._checks) == self._checks.maxlen:
            self._wrong -= not self._checks[0]
        self._checks.append(right)
        self._wrong += not right
        if not self._allowed:
            self._allowed = self._proved()
        elif self._broken():
            self._allowed = False
            self._trips += 1
            self._checks.clear()
            self._wrong = 0
            return True
        return False

    def state(self) -> tuple[bytes, bool]:
        """Give what `restore` takes."""
        return bytes(self._checks), self._allowed

    def restore(self, checks: bytes, *, allowed: bool) -> None:
        """Go on from a state."""
        self._checks.extend(map(bool, checks))
        self._wrong = sum(not check for check in self._checks)
        self._allowed = allowed and len(self._checks) >= self._needed and not self._broken()

    def verdict(self) -> Verdict:
        """Tell how it stands."""
        checked, wrong = len(self._checks), self._wrong
        low, high = wilson_interval(wrong, checked) if checked else (None, None)
        why = ""
        if not self._allowed:
            if self._trips and checked < self._needed:
                why = f"shut off: too many were wrong; {checked} of {self._needed} new checks are there"
            elif checked < self._needed:
                why = f"not proved yet: {checked} of {self._needed} checks are there"
            else:
                why = f"not proved yet: {wrong} of {checked} checked were wrong, more than {self._target:.2%}"
        return Verdict(self._allowed, why, checked, wrong, wrong / checked if checked else None, low, high)

    def _proved(self) -> bool:
        recent = len(self._checks)
        return recent >= self._needed and self._wrong <= self._target * recent

    def _broken(self) -> bool:
        return len(self._checks) >= 20 and wilson_interval(self._wrong, len(self._checks))[0] > self._target


def wilson_interval(events: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Give Wilson's score interval of a share, 95 % by default. ``trials`` must not be 0."""
    share = events / trials
    shrink = 1.0 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
