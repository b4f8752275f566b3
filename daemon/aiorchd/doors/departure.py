"""In which order connections end when the daemon stops: those that answer for models after all that is worked on.

A call may have waited long when it comes to its model, and then somebody must be there to be asked. So a connection that answers
for models is let go when nothing is worked on any more, on any connection.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable


class Departure:
    """Shared by the sessions of one door; knows which of them are worked for once the daemon goes away."""

    def __init__(self) -> None:
        # This is all the mutable state.
        self._worked_for: set[Hashable] = set()
        self._waiting: dict[Hashable, Callable[[], None]] = {}

    @property
    def quiet(self) -> bool:
        """Whether nothing is worked on any more."""
        return not self._worked_for

    def expect(self, sessions: Iterable[Hashable]) -> None:
        """Count sessions as worked for until they say that they are `done`."""
        self._worked_for.update(sessions)

    def done(self, session: Hashable) -> None:
        """Nothing is worked on for this session, and nothing will be; whoever waits for the last one is told."""
        self._worked_for.discard(session)
        if self.quiet:
            waiting, self._waiting = self._waiting, {}
            for act in waiting.values():
                act()

    def when_quiet(self, session: Hashable, act: Callable[[], None]) -> None:
        """Have something done for a session once all is `quiet`."""
        self._waiting[session] = act
