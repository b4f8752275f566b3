"""The one cancel scope of a call: whatever it is doing when its time runs out, or when its caller ends it, it stops doing it.

It is the scope of the task that works for the call, where its leash lends that one: to open another takes as long as several
stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from aiorch.errors import Cancelled, DeadlineExceeded
from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply


@dataclass(frozen=True, slots=True)
class DeadlineStatistics:
    """Calls inside now, and how many ran out of time since this stage was built."""

    inside: int
    expired: int


class Deadline:
    """End a call at its deadline with `DeadlineExceeded`, saying what it was doing last; and with `Cancelled` when its caller
    ended it by its leash. Where it waits for what it shares with others, and that ends in the same moment for want of time, it
    is told of its own deadline all the same.

    A call whose deadline has passed when it arrives is refused without anything being begun. A reply that arrives is
    given even if the clock has just passed the deadline: it is paid for.
    """

    def __init__(self, inner: Service[Call]) -> None:
        self._inner = inner
        self._now = trio.lowlevel.current_clock().current_time
        self._inside = 0
        self._expired = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call`` in its time. Raises `DeadlineExceeded` and `Cancelled`."""
        if call.deadline <= self._now():
            self._expired += 1
            raise DeadlineExceeded("the deadline had passed before anything was begun", stage="deadline")
        leash = call.leash
        self._inside += 1
        try:
            if leash is not None and (lent := leash.scope) is not None:
                lent.end_at(call.deadline)
                leash.hold(lent.cancel)
                try:
                    return await self._inner(call)
                except (trio.Cancelled, BaseExceptionGroup) as error:
                    if not lent.cancel_called:
                        raise
                    _raise_others(error)
            else:
                with trio.CancelScope(deadline=call.deadline) as scope:
                    if leash is not None:
                        leash.hold(scope.cancel)
                    return await self._inner(call)
        except DeadlineExceeded:
            # Another task keeps the deadline of what is shared, and either may be the first.
            if self._now() < call.deadline:
                raise
        finally:
            self._inside -= 1
        if leash is not None and leash.cut:
            raise Cancelled("cancelled by the caller", stage="deadline")
        self._expired += 1
        raise _expired(call)

    def statistics(self) -> DeadlineStatistics:
        """Tell how many calls are inside."""
        return DeadlineStatistics(inside=self._inside, expired=self._expired)


def _raise_others(error: BaseException) -> None:
    """Raise what there is in it besides cancellations, as a scope does where it ends."""
    if isinstance(error, BaseExceptionGroup):
        others = error.split(trio.Cancelled)[1]
        if others is not None:
            raise others


def _expired(call: Call) -> DeadlineExceeded:
    allowed_s = call.deadline - call.journal.started
    message = f"no answer within {allowed_s:.3g} s"
    if call.bounded_by != "timeout_s":
        message += f" ({call.bounded_by})"
    details: dict[str, object] = {"allowed_s": round(allowed_s, 3), "timeout": call.bounded_by}
    if call.journal.notes:
        at_s, stage, what = call.journal.notes[-1]
        message += f"; the last thing it did, after {at_s:.3g} s, was in {stage}: {what}"
        details["last_stage"] = stage
    return DeadlineExceeded(message, stage="deadline", details=details)
