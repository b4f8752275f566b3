"""By which a caller ends what runs for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Scope(Protocol):
    """What is around the work of one task, until that has ended."""

    def end_at(self, deadline: float) -> None:
        """Have it cancelled at this time, and not at another."""
        ...

    @property
    def cancel_called(self) -> bool:
        """Whether it was cancelled, or its deadline has passed."""
        ...

    def cancel(self) -> None:
        """Cancel what is within it."""
        ...


class Leash:
    """Held by whoever hears of the caller. Whoever waits for it says by ``hold`` how that is ended; the latest counts."""

    __slots__ = ("_end", "cut", "scope")

    def __init__(self) -> None:
        self._end: Callable[[], object] | None = None
        self.cut = False
        """Whether the caller ended it."""
        self.scope: Scope | None = None
        """What the task is in that works for the caller and for nobody else meanwhile: whoever needs a scope in it may cancel
        this, and no other has to be opened. After that the task only says how it ended, without waiting."""

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
