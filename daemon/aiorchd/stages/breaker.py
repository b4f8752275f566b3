"""Refuses at once for a target that is sick, and lets single probes find out when it has recovered.

It stands above the Gate: who is refused here never queued. A refusal is ours and no attempt, so the call goes on to its
next target without having lost anything. When a call has no other target left, Route sends it here again as *forced*:
somebody who may be able to answer is better than nobody.

What an attempt says about its target follows from its verdict (`calls.outcome`): one that was cancelled, or that we refused
further down, says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import trio

from aiorch.errors import CallError, Overloaded
from aiorchd.calls.call import Attempt
from aiorchd.calls.outcome import judge
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Target
from aiorchd.core.circuit_breaker import BreakerStatistics, CircuitBreaker, Outcome, Refused, State


@dataclass(frozen=True, slots=True)
class BreakerStageStatistics:
    """Attempts of this generation below now, and how many it refused; ``breaker`` is the state that all generations share."""

    inside: int
    refused: int
    breaker: BreakerStatistics


class Log(Protocol):
    """As much of a log as this stage needs."""

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Tell of something that somebody should look at."""
        ...

    def info(self, event: str, /, **fields: Any) -> Any:
        """Tell of something that went well again."""
        ...


class Breaker:
    """Ask ``inner`` unless ``breaker`` is open. Raises `Overloaded` with ``retry_after_s`` when it is. ``log`` is told once when
    a target is left alone, and once when it answers again."""

    def __init__(self, inner: Service[Attempt], breaker: CircuitBreaker, log: Log) -> None:
        self._inner = inner
        self._breaker = breaker
        self._log = log
        self._now = trio.lowlevel.current_clock().current_time
        self._inside = self._refused = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Pass one attempt, or refuse it."""
        now = self._now()
        ticket = self._breaker.admit(now, forced=attempt.forced)
        if isinstance(ticket, Refused):
            self._refused += 1
            raise _refusal(attempt, ticket)
        if ticket.probe:
            attempt.call.journal.note(now, "breaker", f"{attempt.target.name}: this call finds out if it has recovered")
        outcome = Outcome.NOTHING
        self._inside += 1
        try:
            reply = await self._inner(attempt)
            outcome = Outcome.ANSWERED
            return reply
        except CallError as error:
            outcome = Outcome(judge(error).health)
            raise
        finally:
            self._inside -= 1
            now = self._now()
            if self._breaker.settle(ticket, now, outcome):
                self._tell(attempt.target, now)

    def statistics(self) -> BreakerStageStatistics:
        """Tell who is below, and the state."""
        return BreakerStageStatistics(self._inside, self._refused, self._breaker.statistics(self._now()))

    def _tell(self, target: Target, now: float) -> None:
        """A call changed the state: it opened, or the target answered after all."""
        shut = self._breaker.would_refuse(now)
        if shut is None:
            self._log.info("model answers again", model=target.name)
        else:
            self._log.warning(
                "model is left alone",
                model=target.name,
                for_s=round(shut.retry_after_s, 1),
                failed_share=round(shut.failure_rate, 3),
            )


def _refusal(attempt: Attempt, refused: Refused) -> Overloaded:
    name = attempt.target.name
    what = {
        State.OPEN: f"failed too often and is left alone for {refused.retry_after_s:.3g} s",
        State.HALF_OPEN: "failed too often; another call is finding out whether it has recovered",
        State.RECOVERING: "has just recovered and is given its calls back little by little",
    }[refused.state]
    return Overloaded(
        f"{name} {what}",
        retry_after_s=max(refused.retry_after_s, 0.1),
        stage="breaker",
        details={
            "reason": "breaker",
            "model": name,
            "state": str(refused.state),
            "failure_rate": round(refused.failure_rate, 3),
        },
    )
