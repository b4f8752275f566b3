"""When a call is late enough for a second try, and how many second tries there may be.

Late is what is slower than a share (0.95 by default) of what the same target did lately: its own running quantile, of whole
answers and of first tokens apart, and nothing as long as there are too few of them. Extra calls are bounded by a share of
the calls (`core.retry_budget`, without the part that comes with time): a target that has become slow for everybody would
otherwise get twice its load at that moment.

After Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiorchd.core.retry_budget import RetryBudget
from aiorchd.core.running_quantile import RunningQuantile

SAVED_UP = 5
"""Second tries that may be saved up."""


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """Which share of the calls is in time, how many samples that needs, and which share may be asked twice."""

    quantile: float = 0.95
    min_samples: int = 20
    max_share: float = 0.05


class HedgePace:
    """What is known of one target's times. Mutable; outlives the configuration that its policy comes from."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._whole = RunningQuantile()
        self._first_token = RunningQuantile()
        self._extra = RetryBudget(policy.max_share, SAVED_UP, refill_s=math.inf)

    def learn(self, seconds: float, *, streamed: bool) -> None:
        """An attempt was answered, or its first token came, so long after it was sent."""
        (self._first_token if streamed else self._whole).add(seconds)

    def patience_s(self, *, streamed: bool) -> float | None:
        """Tell after how long an attempt is late; None as long as that is not known."""
        times = self._first_token if streamed else self._whole
        return times.quantile(self._policy.quantile) if len(times) >= self._policy.min_samples else None

    def call(self, now: float) -> None:
        """A call came."""
        self._extra.call(now)

    def take(self, now: float) -> bool:
        """Take the right to one second try, if there is one."""
        return self._extra.take(now)

    def give_back(self) -> None:
        """A second try that was taken was never sent."""
        self._extra.give_back()

    def reconfigure(self, policy: HedgePolicy) -> None:
        """Change the policy live; what was learned stays."""
        self._policy = policy
        self._extra.reconfigure(policy.max_share, SAVED_UP)

    @property
    def samples(self) -> int:
        """How many times are known."""
        return len(self._whole) + len(self._first_token)
