"""By which a caller ends what runs for it."""

from __future__ import annotations

from collections.abc import Callable


class Leash:
    """Held by whoever hears of the caller. Whoever waits for it says by ``hold`` how that is ended; the latest counts."""

    __slots__ = ("_end", "cut")

    def __init__(self) -> None:
        self._end: Callable[[], object] | None = None
        self.cut = False
        """Whether the caller ended it."""

    def hold(self, end: Callable[[], object]) -> None:
        """Have ``end`` called when the caller ends it; at once, if that was before."""
        self._end = end
        if self.cut:
            end()

    def cancel(self) -> None:
        """End it."""
        self.cut = True
        if self._end is not None:
            self._end()
