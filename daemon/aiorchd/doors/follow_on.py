"""Whether a caller who has just been answered is worth looking for at once, before the event loop goes round.

A caller on this CPU asks again as soon as it is let run. So it is let run, once, and looked for: that spares a wait in the
kernel and a turn of the scheduler, which is more than everything else a known answer takes. For a caller on another CPU, or
when somebody else was let run instead, it costs and gains nothing; then it is tried ever more rarely, and at once again
when it has paid.
"""

from __future__ import annotations

from typing import Final

AT_ONCE: Final = 16
"""So many answers at most before the others have their turn: a quarter of a millisecond."""

SOMEBODY_ELSE_S: Final = 0.0005
"""Who let the CPU go for longer than that gave it to somebody else than a caller of ours."""

_PAUSE_AT_MOST: Final = 255
_LONG_PAUSE: Final = 4095
"""After the CPU went to somebody else: milliseconds are lost with each such look."""


class FollowOn:
    """Remembers of one connection whether looking at once paid lately."""

    __slots__ = ("_answers_to_skip", "_pause", "pays")

    def __init__(self) -> None:
        self._answers_to_skip = 0
        self._pause = 0
        self.pays = True
        """Whether it paid lately: no note need be taken of one more look that found somebody within `SOMEBODY_ELSE_S`."""

    def worth_trying(self) -> bool:
        """Tell whether to look after this answer; asked once for each."""
        if self._answers_to_skip:
            self._answers_to_skip -= 1
            return False
        return True

    def looked(self, *, found: bool, took_s: float) -> bool:
        """Take note of what came of it; tells whether to look again after the next answer without going round."""
        if found and took_s <= SOMEBODY_ELSE_S:
            self._pause = 0
            self.pays = True
            return True
        longest, growth = (_PAUSE_AT_MOST, 2) if took_s <= SOMEBODY_ELSE_S else (_LONG_PAUSE, 16)
        self.pays = False
        self._answers_to_skip = self._pause = max(self._pause, min(growth * self._pause + 1, longest))
        return False
