"""How many are inside, in all and for each caller, and how long they stay: what bounds the house.

A count with two limits. It outlives reloads, so that a new generation cannot let in twice as many, and it knows for how
long a place is taken (an exponentially weighted average), so that whoever is turned away hears when to come again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

_SMOOTHING: Final = 0.05
_FIRST_GUESS_STAY_S: Final = 1.0
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """No room: whose limit was reached (``house`` or ``caller``), what it is, and when a place is likely to be free."""

    limit_of: Literal["house", "caller"]
    limit: int
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class OccupancyStatistics:
    """Idle when ``inside`` is 0. ``inside_by_caller`` is by uid; ``entered`` and the two refusals count since the start."""

    inside: int
    max_inside: int
    max_inside_per_caller: int
    inside_by_caller: Mapping[int, int]
    mean_stay_s: float
    entered: int
    refused_house: int
    refused_caller: int


class Occupancy:
    """At most ``max_inside`` at once, and of one caller at most ``max_inside_per_caller`` (0: no bound of its own)."""

    def __init__(self, max_inside: int, max_inside_per_caller: int = 0) -> None:
        # This is all the mutable state.
        self._max_inside = max_inside
        self._max_inside_per_caller = max_inside_per_caller
        self._inside = 0
        self._by_caller: dict[int, int] = {}
        self._mean_stay_s = _FIRST_GUESS_STAY_S
        self._entered = self._refused_house = self._refused_caller = 0

    def enter(self, uid: int) -> Refusal | None:
        """Take a place, to be given back with `leave`; or say why there is none."""
        if self._inside >= self._max_inside:
            self._refused_house += 1
            return Refusal("house", self._max_inside, self._retry_after_s())
        inside = self._by_caller.get(uid, 0)
        if 0 < self._max_inside_per_caller <= inside:
            self._refused_caller += 1
            return Refusal("caller", self._max_inside_per_caller, self._retry_after_s())
        self._inside += 1
        self._by_caller[uid] = inside + 1
        self._entered += 1
        return None

    def leave(self, uid: int, stay_s: float) -> None:
        """Give a place back after so many seconds."""
        self._inside -= 1
        inside = self._by_caller.pop(uid) - 1
        if inside:
            self._by_caller[uid] = inside
        self._mean_stay_s += _SMOOTHING * (stay_s - self._mean_stay_s)

    def reconfigure(self, max_inside: int, max_inside_per_caller: int = 0) -> None:
        """Change the limits live; who is inside stays."""
        self._max_inside = max_inside
        self._max_inside_per_caller = max_inside_per_caller

    def statistics(self) -> OccupancyStatistics:
        """Tell the present state."""
        return OccupancyStatistics(
            inside=self._inside,
            max_inside=self._max_inside,
            max_inside_per_caller=self._max_inside_per_caller,
            inside_by_caller=dict(self._by_caller),
            mean_stay_s=self._mean_stay_s,
            entered=self._entered,
            refused_house=self._refused_house,
            refused_caller=self._refused_caller,
        )

    def _retry_after_s(self) -> float:
        """By then about everybody who is inside now has left."""
        return min(max(self._mean_stay_s, _SHORTEST_S), _LONGEST_S)
