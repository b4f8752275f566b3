"""Whether it is worth standing still for what mostly comes at once.

Handing something to another task or thread and being woken for its answer can cost many times what the answer takes. Where it
nearly always takes microseconds, waiting for it costs less; but whoever waits holds up everybody, so the wait has a limit,
and what was late is not waited for again for a while. That while doubles with each that is late in a row: of all time no more
than ``limit_s`` in ``FIRST_PAUSE_S`` is lost, and ``limit_s`` in ``LONGEST_PAUSE_S`` where nothing ever comes in time.
"""

from __future__ import annotations

import math
from typing import Final

LIMIT_S: Final = 0.001
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 10.0


class BriefWait:
    """Of one thing that is waited for, one at a time."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        """How long one wait may last."""
        # This is all the mutable state.
        self._not_before = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def worth_it(self, now: float) -> bool:
        """Tell whether to wait."""
        return now >= self._not_before

    def came(self) -> None:
        """It came in time."""
        self._pause_s = FIRST_PAUSE_S

    def was_late(self, now: float) -> None:
        """It did not."""
        self._not_before = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
