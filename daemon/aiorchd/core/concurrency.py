"""How many attempts may run at one target at once: grows while that goes well, shrinks at once when it does not.

``aimd``: doubling in the beginning and up to where it was before the last cut, then one more for each limit's worth of
answers; a refusal (429, 529) cuts to 0.7, once for everything that was under way together (TCP's slow start and congestion
avoidance: RFC 5681).

``gradient``: follows the latency (Netflix' concurrency-limits, Gradient2): the limit times long-term over recent latency, plus
a queue of 4, smoothed by 0.2; recent latency may be 1.5 times the long-term one before it counts. A refusal cuts as above.
It suits a server of one's own whose answers take alike; where answers differ much in length it sees ghosts.

Neither grows while less than half of the limit is in use: then it is not what bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Algorithm: TypeAlias = Literal["aimd", "gradient", "fixed"]

_CUT: Final = 0.7
_QUEUE: Final = 4.0
_TOLERANCE: Final = 1.5
_SMOOTHING: Final = 0.2
_LONG_WINDOW: Final = 600.0
_WARM_UP: Final = 10


@dataclass(frozen=True, slots=True)
class ConcurrencyBounds:
    """Where it starts, between what it moves, and by which algorithm; ``fixed`` stays at ``most``."""

    initial: int = 3
    least: int = 1
    most: int = 10
    algorithm: Algorithm = "aimd"

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"permits need 1 <= least <= most, got {self.least} and {self.most}")


class AdaptiveConcurrency:
    """The limit of one target."""

    def __init__(self, bounds: ConcurrencyBounds) -> None:
        # This is all the mutable state.
        self._bounds = bounds
        self._limit = float(bounds.most if bounds.algorithm == "fixed" else self._clamped(bounds.initial))
        self._slow_start_until = math.inf
        self._cut_at = -math.inf
        self._long_s = 0.0
        self._samples = 0
        self.why = "start"
        """What changed it last, for people."""
        self.changed_at = -math.inf

    @property
    def bounds(self) -> ConcurrencyBounds:
        """Between what it moves."""
        return self._bounds

    @property
    def limit(self) -> int:
        """How many may run at once."""
        return int(self._limit)

    def succeeded(self, now: float, took_s: float, in_use: int) -> None:
        """Hear of an answer, which took so long while ``in_use`` were under way, itself included."""
        bounds = self._bounds
        if bounds.algorithm == "gradient":
            self._follow_latency(now, took_s, in_use)
        elif bounds.algorithm == "aimd" and self._limit < bounds.most and 2 * in_use >= self._limit:
            step = 1.0 if self._limit < self._slow_start_until else 1.0 / self._limit
            self._move(now, self._limit + step, "it goes well")

    def refused(self, now: float, started_at: float, why: str) -> None:
        """Hear that the provider would not take an attempt that started then. Of what ran together only the first counts."""
        if self._bounds.algorithm == "fixed" or started_at <= self._cut_at:
            return
        self._cut_at = now
        self._slow_start_until = self._limit
        self._move(now, math.floor(self._limit * _CUT), why)

    def reconfigure(self, now: float, bounds: ConcurrencyBounds) -> None:
        """Change the bounds live; what was learned within them stays."""
        if bounds == self._bounds:
            return
        before, self._bounds = self._bounds, bounds
        if bounds.algorithm == "fixed":
            self._move(now, float(bounds.most), "configured")
        elif bounds.initial > before.initial:
            self._move(now, max(self._limit, float(bounds.initial)), "configured")
        else:
            self._move(now, self._limit, "configured")

    def _follow_latency(self, now: float, took_s: float, in_use: int) -> None:
        took_s = max(took_s, 1e-6)
        self._samples += 1
        if self._samples <= _WARM_UP:
            self._long_s += (took_s - self._long_s) / self._samples
        else:
            self._long_s += (took_s - self._long_s) * 2.0 / (_LONG_WINDOW + 1.0)
        if self._long_s / took_s > 2.0:
            self._long_s *= 0.95  # it came down from a bad time: follow faster
        if 2 * in_use < self._limit:
            return
        gradient = max(0.5, min(1.0, _TOLERANCE * self._long_s / took_s))
        goal = self._limit * gradient + _QUEUE
        limit = self._limit * (1.0 - _SMOOTHING) + goal * _SMOOTHING
        self._move(now, limit, "it goes well" if limit >= self._limit else "answers take longer")

    def _move(self, now: float, limit: float, why: str) -> None:
        limit = self._clamped(limit)
        if int(limit) != int(self._limit):
            self.why, self.changed_at = why, now
        self._limit = limit

    def _clamped(self, limit: float) -> float:
        return min(max(limit, float(self._bounds.least)), float(self._bounds.most))
