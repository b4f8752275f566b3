"""A limit for a day, kept over every stretch of 24 hours: what was used comes back when it is a day old.

Providers count a day from midnight somewhere, or let it come back evenly. Whoever never uses more than the limit within any
24 hours is inside both. Use is added up in slots of a quarter of an hour, so it comes back at most that much late.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_DAY_S: Final = 86_400.0
_SLOT_S: Final = 900.0


class DayWindow:
    """At most ``limit`` within any 24 hours, as far as it was there to count."""

    def __init__(self, limit: float) -> None:
        # This is all the mutable state.
        self.limit = limit
        self._slots: deque[list[float]] = deque()  # [number of the slot, used in it], oldest first
        self._used = 0.0

    def level(self, now: float) -> float:
        """Tell how much is left; negative when more was used than the limit is now."""
        self._forget(now)
        return self.limit - self._used

    def delay_s(self, now: float, amount: float) -> float:
        """Tell how long until so much could be taken if nothing else happens; 0 means now. More than the limit needs all of
        it."""
        missing = min(amount, self.limit) - self.level(now)
        if missing <= 0.0:
            return 0.0
        for slot, used in self._slots:
            missing -= used
            if missing <= 0.0:
                return (slot + 1) * _SLOT_S + _DAY_S - now
        return _DAY_S

    def add(self, now: float, amount: float) -> None:
        """Count so much as used now; a negative amount takes back."""
        slot = math.floor(now / _SLOT_S)
        if self._slots and self._slots[-1][0] >= slot:
            self._slots[-1][1] += amount
        else:
            self._slots.append([slot, amount])
        self._used += amount

    def _forget(self, now: float) -> None:
        while self._slots and (self._slots[0][0] + 1) * _SLOT_S + _DAY_S <= now:
            self._used -= self._slots.popleft()[1]
        if not self._slots:
            self._used = 0.0
