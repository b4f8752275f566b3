"""Tasks that do one piece of work after the other, each in a cancel scope that serves for all it does.

To wake a task that rests takes a third of the steps of making one, and to move the deadline of a scope that is open a third of
opening another. So whoever has many short pieces of work side by side gives them to a crew instead of to a nursery.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec
import trio

_LATER_S: Final = 1.0
_MOST_RESTING: Final = 64

Work: TypeAlias = Callable[..., Awaitable[None]]


class _Place(msgspec.Struct, eq=False):
    """A task of the crew: its scope and, once it has rested and something was found for it, what that is."""

    scope: trio.CancelScope
    task: trio.lowlevel.Task | None = None
    then: tuple[Work, tuple[Any, ...]] | None = None


class Crew:
    """Runs in ``nursery``; at most ``most_resting`` of its tasks, 2 kB each, wait for further work.

    A task that rests keeps the deadline of what it did last, and ends when that has passed: so none rests for ever. Deadlines
    are kept to a second: they are for what nobody ends in time, and to move one takes longer than to wake its task.
    """

    def __init__(self, nursery: trio.Nursery, *, most_resting: int = _MOST_RESTING) -> None:
        self._nursery = nursery
        self._most_resting = most_resting
        # This is all the mutable state: who rests, the latest last.
        self._resting: list[_Place] = []
        self._closed = False

    @property
    def resting(self) -> int:
        """How many tasks wait for work."""
        return len(self._resting)

    def begin(self, deadline: float, work: Work, *args: Any) -> trio.CancelScope:
        """Carry out ``work(*args)`` in a task of its own, and give the scope around it, whose deadline this is, or up to a second
        later. An error that ``work`` raises is its nursery's."""
        if self._resting:
            place = self._resting.pop()
            scope = place.scope
            if not deadline <= scope.deadline <= deadline + _LATER_S:
                scope.deadline = deadline + _LATER_S  # so that it serves for what comes in the next second, too
            place.then = (work, args)
            assert place.task is not None
            trio.lowlevel.reschedule(place.task)
            return scope
        scope = trio.CancelScope(deadline=deadline)
        self._nursery.start_soon(self._work_on, _Place(scope), work, args)
        return scope

    def close(self) -> None:
        """Let those go that rest, and the others once they have done what they do. What is begun yet is carried out."""
        self._closed = True
        while self._resting:
            place = self._resting.pop()
            assert place.task is not None
            trio.lowlevel.reschedule(place.task)

    async def _work_on(self, place: _Place, work: Work, args: tuple[Any, ...]) -> None:
        place.task = trio.lowlevel.current_task()

        def leave(_raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            """It ends, and may not be woken any more."""
            self._resting.remove(place)
            return trio.lowlevel.Abort.SUCCEEDED

        with place.scope:
            while True:
                await work(*args)
                if self._closed or len(self._resting) >= self._most_resting:
                    return
                del work, args  # it may rest for long, and holds nothing of what it did
                self._resting.append(place)
                # Where the scope was cancelled, this ends at once.
                await trio.lowlevel.wait_task_rescheduled(leave)
                if place.then is None:
                    return
                (work, args), place.then = place.then, None
