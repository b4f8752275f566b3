"""Bounds the house: how many calls may be inside, in all and of one caller. Turns further ones away at once.

Calls that are answered from the cache or share another's flight never come here. Who is let in may still have to wait,
at the gate of its target; there it waits fairly. Here nobody waits: a bounded house under too much load says so in time.
"""

from __future__ import annotations

import trio

from aiorch.errors import Overloaded
from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.core.occupancy import Occupancy, OccupancyStatistics, Refusal


class Admit:
    """Let a call in while there is room. ``occupancy`` is shared by all generations and reconfigured, not replaced."""

    def __init__(self, inner: Service[Call], occupancy: Occupancy) -> None:
        self._inner = inner
        self._occupancy = occupancy
        self._now = trio.lowlevel.current_clock().current_time

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call`` inside. Raises `Overloaded` with ``retry_after_s`` when there is no room."""
        uid = call.caller.uid
        refusal = self._occupancy.enter(uid)
        if refusal is not None:
            raise _overloaded(refusal)
        entered_at = self._now()
        try:
            return await self._inner(call)
        finally:
            self._occupancy.leave(uid, self._now() - entered_at)

    def statistics(self) -> OccupancyStatistics:
        """Tell who is inside."""
        return self._occupancy.statistics()


def _overloaded(refusal: Refusal) -> Overloaded:
    if refusal.limit_of == "house":
        message = f"{refusal.limit} calls are inside, which is all that may be (queue.max_inside)"
    else:
        message = f"{refusal.limit} calls of yours are inside, which is all that one user may have (queue.max_inside_per_caller)"
    details = {"reason": "full", "limit_of": refusal.limit_of, "limit": refusal.limit}
    return Overloaded(message, retry_after_s=refusal.retry_after_s, stage="admit", details=details)
