"""Calls for models that processes of the host answer for, beside the router for those of the configuration.

Such a model belongs to one user, so it has no place among everybody's targets; but what holds for a target holds for it, too:
it has a chain, a budget of attempts, a turnstile, a breaker. So it gets a router of its own, in which it stands first and the
configured models after it, and this stage sends its calls there. All others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply


@dataclass(frozen=True, slots=True)
class HostRoutesStatistics:
    """Calls for models of host processes inside now; since this stage was built: sent there, and answered."""

    inside: int
    sent: int
    answered: int


class HostRoutes:
    """Send a call where ``find`` says, and to ``inner`` when it says nothing. Adds no error of its own."""

    def __init__(self, inner: Service[Call], find: Callable[[Call], Service[Call] | None]) -> None:
        self._inner = inner
        self._find = find
        self._inside = self._sent = self._answered = 0

    def __call__(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Answer ``call``."""
        route = self._find(call)
        return self._inner(call) if route is None else self._answer(call, route)

    async def _answer(self, call: Call, route: Service[Call]) -> Reply:
        self._inside += 1
        self._sent += 1
        try:
            reply = await route(call)
        finally:
            self._inside -= 1
        self._answered += 1
        return reply

    def statistics(self) -> HostRoutesStatistics:
        """Tell how many are inside."""
        return HostRoutesStatistics(self._inside, self._sent, self._answered)
