"""When to read on from those who were just refused: a little later, all of them in one go.

Refusing one request costs little, most of it for the reading: finding out that something came, taking it, writing back. So of
a flood that is refused one by one, a fair part of the machine goes into saying no. Whoever was refused because the line is too
long cannot be let in before the line is shorter; until then its requests may as well lie where they are, and be read and
refused together. Who is not refused is read from as ever.

The pause is short beside the shortest patience of those who were refused, so the line cannot run dry meanwhile: somebody was
refused because more work stood in it than this patience. And it is short for those who wait for their refusal.
"""

from __future__ import annotations

import math
from typing import Final

LONGEST_PAUSE_S: Final = 0.02
_SHARE: Final = 0.125


class ReadingPace:
    """One for all that are read from; seconds by any one clock."""

    def __init__(self) -> None:
        # This is all the mutable state.
        self._pause_s = LONGEST_PAUSE_S
        self._read_at = math.inf

    def refused(self, patience_s: float) -> None:
        """Note that somebody was refused who could have waited so long."""
        self._pause_s = min(self._pause_s, _SHARE * patience_s)

    def pause(self, now: float) -> None:
        """Note that somebody who was refused waits to be read from; who waits already is not made to wait longer."""
        self._read_at = min(self._read_at, now + self._pause_s)

    def due(self, now: float, *, crowded: bool) -> bool:
        """Tell whether those who wait are to be read from now: their pause is over, or nobody stands in line any more. Then all
        of them are, and it begins anew."""
        if now < self._read_at and crowded:
            return False
        self._pause_s = LONGEST_PAUSE_S
        self._read_at = math.inf
        return True
