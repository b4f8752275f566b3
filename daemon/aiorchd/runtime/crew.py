"""Tasks that do one piece of work after the other, each in a cancel scope that serves for all it does.

To wake a task that rests takes a third of the steps of making one. So whoever has many short pieces of work side by side gives
them to a crew instead of to a nursery. Their deadlines are kept by one more task: to move the deadline of a `trio.CancelScope`
takes longer than to wake a task, and hardly any work comes to its deadline. A task stands in the row of deadlines once, with an
early one; only when that has passed is it looked up which deadline its present work has.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio

_MOST_RESTING: Final = 64
_ENDED_IN_ROW: Final = 64
"""So many tasks that have ended may stand in the row beside as many as there are."""

Work: TypeAlias = Callable[..., Awaitable[None]]


class Place:
    """One task of a crew, for whoever gave it the work that it does now. When that has ended it may do somebody else's: then
    neither `end_at` nor `cancel` may be called any more."""

    __slots__ = ("_crew", "deadline", "looked_at", "number", "scope", "task", "then")

    def __init__(self, crew: Crew, number: int) -> None:
        self._crew = crew
        self.number = number
        self.scope = trio.CancelScope()
        self.deadline = math.inf
        """When its work is cancelled; see `end_at`."""
        self.looked_at = math.inf
        """When its deadline is looked at; never later than that."""
        self.task: trio.lowlevel.Task | None = None
        self.then: tuple[Work, tuple[Any, ...]] | None = None
        """What was found for it while it rested."""

    def end_at(self, deadline: float) -> None:
        """Have the work cancelled at another time."""
        self.deadline = deadline
        if deadline < self.looked_at:
            self._crew.look_at(self, deadline)

    def cancel(self) -> None:
        """Cancel the work."""
        self.scope.cancel()

    @property
    def cancel_called(self) -> bool:
        """Whether the work was cancelled, here or by its deadline."""
        return self.scope.cancel_called


class Crew:
    """Runs in ``nursery``; at most ``most_resting`` of its tasks, 2 kB each, wait for further work.

    A task that rests keeps the deadline of what it did last, and ends when that has passed: so none rests for ever whose work
    had one.
    """

    def __init__(self, nursery: trio.Nursery, *, most_resting: int = _MOST_RESTING) -> None:
        self._nursery = nursery
        self._most_resting = most_resting
        self._now = trio.lowlevel.current_clock().current_time
        # This is all the mutable state: all tasks, who of them rests (the latest last), and the row of deadlines.
        self._places: set[Place] = set()
        self._resting: list[Place] = []
        self._closed = False
        self._made = 0
        self._row: list[tuple[float, int, Place]] = []
        """When to look at which deadline, a heap."""
        self._pause: trio.CancelScope | None = None
        """In which the first of these is waited for; None while nobody does."""

    @property
    def resting(self) -> int:
        """How many tasks wait for work."""
        return len(self._resting)

    def begin(self, deadline: float, work: Work, *args: Any) -> Place:
        """Carry out ``work(*args)`` in a task of its own, until it ends or this deadline has passed. An error that ``work``
        raises is its nursery's."""
        if self._resting:
            place = self._resting.pop()
            place.then = (work, args)
            assert place.task is not None
            trio.lowlevel.reschedule(place.task)
        else:
            self._made += 1
            place = Place(self, self._made)
            self._places.add(place)
            self._nursery.start_soon(self._work_on, place, work, args)
        place.deadline = deadline
        if deadline < place.looked_at:
            self.look_at(place, deadline)
        return place

    def look_at(self, place: Place, at: float) -> None:
        """Look at the deadline of one task no later than this; for a `Place`."""
        if len(self._row) > 2 * len(self._places) + _ENDED_IN_ROW:
            self._row = [(one.looked_at, one.number, one) for one in self._places if one.looked_at < math.inf]
            heapq.heapify(self._row)
        place.looked_at = at
        heapq.heappush(self._row, (at, place.number, place))
        if self._pause is None:
            self._pause = trio.CancelScope(deadline=at)
            self._nursery.start_soon(self._keep_deadlines, self._pause)
        elif at < self._pause.deadline:
            self._pause.deadline = at

    def close(self) -> None:
        """Let those go that rest, and the others once they have done what they do. What is begun yet is carried out."""
        self._closed = True
        while self._resting:
            place = self._resting.pop()
            assert place.task is not None
            trio.lowlevel.reschedule(place.task)

    async def _work_on(self, place: Place, work: Work, args: tuple[Any, ...]) -> None:
        place.task = trio.lowlevel.current_task()

        def leave(_raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            """It ends, and may not be woken any more."""
            self._resting.remove(place)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
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
        finally:
            self._places.remove(place)
            if not self._places and self._pause is not None:
                self._pause.cancel()

    async def _keep_deadlines(self, pause: trio.CancelScope) -> None:
        """Cancel whose deadline has passed, as long as there are any to come."""
        while True:
            with pause:
                await trio.sleep_forever()
            self._cancel_late(self._now())
            if not self._row or not self._places:
                self._row.clear()
                self._pause = None
                return
            self._pause = pause = trio.CancelScope(deadline=self._row[0][0])

    def _cancel_late(self, now: float) -> None:
        """Cancel whose deadline has passed, and have those looked at later that have moved on."""
        row = self._row
        while row and row[0][0] <= now:
            at, _, place = heapq.heappop(row)
            if at != place.looked_at or place not in self._places:
                continue  # it was to be looked at earlier, and was; or it is gone
            place.looked_at = math.inf
            if place.deadline <= now:
                place.deadline = math.inf  # it may take time to end
                place.scope.cancel()
            elif place.deadline < math.inf:
                place.looked_at = place.deadline
                heapq.heappush(row, (place.deadline, place.number, place))
