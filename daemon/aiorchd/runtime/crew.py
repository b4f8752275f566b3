"""Tasks that do one piece of work after the other, each in a cancel scope that serves for all it does.

To wake a task that rests takes a third of the steps of making one. So whoever has many short pieces of work side by side gives
them to a crew instead of to a nursery. Their deadlines are kept by one more task, which looks when the next one passes: to
move the deadline of a `trio.CancelScope` takes longer than to wake a task, and hardly any work comes to its deadline.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio

_MOST_RESTING: Final = 64

Work: TypeAlias = Callable[..., Awaitable[None]]


class Place:
    """One task of a crew, for whoever gave it the work that it does now."""

    __slots__ = ("_crew", "deadline", "scope", "task", "then")

    def __init__(self, crew: Crew, deadline: float) -> None:
        self._crew = crew
        self.scope = trio.CancelScope()
        self.deadline = deadline
        """When its work is cancelled; see `end_at`."""
        self.task: trio.lowlevel.Task | None = None
        self.then: tuple[Work, tuple[Any, ...]] | None = None
        """What was found for it while it rested."""

    def end_at(self, deadline: float) -> None:
        """Have the work cancelled at another time."""
        self.deadline = deadline
        if deadline < self._crew.looks_at:
            self._crew.look_at(deadline)

    def cancel(self) -> None:
        """Cancel the work."""
        self.scope.cancel()

    @property
    def cancel_called(self) -> bool:
        """Whether the work was cancelled, here or by its deadline."""
        return self.scope.cancel_called


class Crew:
    """Runs in ``nursery``; at most ``most_resting`` of its tasks, 2 kB each, wait for further work.

    A task that rests keeps the deadline of what it did last, and ends when that has passed: so none rests for ever.
    """

    def __init__(self, nursery: trio.Nursery, *, most_resting: int = _MOST_RESTING) -> None:
        self._nursery = nursery
        self._most_resting = most_resting
        self._now = trio.lowlevel.current_clock().current_time
        # This is all the mutable state: all tasks, who of them rests (the latest last), and who keeps the deadlines.
        self._places: set[Place] = set()
        self._resting: list[Place] = []
        self._closed = False
        self._pause: trio.CancelScope | None = None
        """In which deadlines are waited for; None while nobody does."""
        self.looks_at = math.inf
        """No deadline passes before; for a `Place`."""

    @property
    def resting(self) -> int:
        """How many tasks wait for work."""
        return len(self._resting)

    def begin(self, deadline: float, work: Work, *args: Any) -> Place:
        """Carry out ``work(*args)`` in a task of its own, until it ends or this deadline has passed. An error that ``work``
        raises is its nursery's."""
        if self._resting:
            place = self._resting.pop()
            place.deadline = deadline
            place.then = (work, args)
            assert place.task is not None
            trio.lowlevel.reschedule(place.task)
        else:
            place = Place(self, deadline)
            self._places.add(place)
            self._nursery.start_soon(self._work_on, place, work, args)
        if deadline < self.looks_at:
            self.look_at(deadline)
        return place

    def look_at(self, deadline: float) -> None:
        """Look at the deadlines no later than this; for a `Place`."""
        self.looks_at = deadline
        if self._pause is None:
            self._pause = trio.CancelScope(deadline=deadline)
            self._nursery.start_soon(self._keep_deadlines, self._pause)
        else:
            self._pause.deadline = deadline

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
            now, next_at = self._now(), math.inf
            for place in self._places:
                if place.deadline <= now:
                    place.deadline = math.inf  # it may take time to end
                    place.scope.cancel()
                elif place.deadline < next_at:
                    next_at = place.deadline
            self.looks_at = next_at
            if next_at == math.inf:
                self._pause = None
                return
            self._pause = pause = trio.CancelScope(deadline=next_at)
