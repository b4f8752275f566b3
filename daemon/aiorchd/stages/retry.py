"""Asks the same target again after a failure that may pass, as long as there are attempts and time left.

There is one owner of retries for a whole call: the budget that Route made and that all its attempts carry. Between two
attempts nothing is held: no permit, no quota, no connection. A provider's word on when to come back is a floor, and a
wait that would end after the deadline (or after the attempt's ``start_by``) is not begun: the error then goes up at once,
while there is time for another target, and says how long the wait would have been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import trio
from msgspec.structs import replace

from aiorch.errors import CallError
from aiorchd.calls.call import Attempt
from aiorchd.calls.journal import AttemptRecord
from aiorchd.calls.outcome import REFUSED_BY_US, Verdict, judge, never_sent
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.core.backoff import Backoff
from aiorchd.core.quoting import content_of, unquote
from aiorchd.core.retry_budget import RetryBudget

_MESSAGE_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class RetryStatistics:
    """Attempts under way below and calls asleep between two attempts, now; since this stage was built: attempts sent again,
    calls answered after a failure, and calls given up because the attempts, the time or the target's retry budget were used
    up. ``budget_left`` is how many retries the target may still get at once, None without a budget."""

    inside: int
    sleeping: int
    retries: int
    recovered: int
    out_of_attempts: int
    out_of_time: int
    out_of_budget: int = 0
    budget_left: float | None = None


class Retry:
    """Ask ``inner`` until it answers or there is no point. Writes every attempt that was sent into the journal.

    ``budget`` bounds how many retries this target gets from all calls together, over all generations; None does not. What
    was throttled does not draw on it: the target's turnstile says when that may come again.
    """

    def __init__(self, inner: Service[Attempt], backoff: Backoff, budget: RetryBudget | None = None) -> None:
        self._inner = inner
        self._backoff = backoff
        self._budget = budget
        self._now = trio.lowlevel.current_clock().current_time
        self._inside = self._sleeping = 0
        self._retries = self._recovered = self._out_of_attempts = self._out_of_time = self._out_of_budget = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Answer ``attempt``, asking again under new numbers. Raises the last error."""
        failures = 0
        began_at = self._now()
        if self._budget is not None:
            self._budget.call(began_at)
        while True:
            attempt.budget.used += 1
            reply: Reply | None = None
            error: CallError | None = None
            self._inside += 1
            try:
                reply = await self._inner(attempt)
            except CallError as raised:
                error = raised
            finally:
                self._inside -= 1
                if attempt.notes.get("unsent") or (error is not None and error.code in REFUSED_BY_US):
                    attempt.budget.give_back()
                else:
                    _record(attempt, began_at, self._now, reply, error)
            if error is None:
                assert reply is not None
                self._recovered += failures > 0
                return reply
            failures += 1
            delay_s, code = self._wait_before_next(attempt, error, failures), error.code
            try:
                if delay_s is None:
                    raise error
            finally:
                del error  # its traceback refers to this frame: no cycle that would keep the prompt
            await self._sleep(attempt, code, delay_s)
            self._retries += 1
            began_at = self._now()
            attempt = replace(attempt, number=attempt.call.journal.next_number(), notes=_again(attempt.notes))

    def statistics(self) -> RetryStatistics:
        """Tell who is inside and who sleeps."""
        return RetryStatistics(
            inside=self._inside,
            sleeping=self._sleeping,
            retries=self._retries,
            recovered=self._recovered,
            out_of_attempts=self._out_of_attempts,
            out_of_time=self._out_of_time,
            out_of_budget=self._out_of_budget,
            budget_left=None if self._budget is None else self._budget.left(self._now()),
        )

    def _wait_before_next(self, attempt: Attempt, error: CallError, failures: int) -> float | None:
        """Decide how long to wait before asking this target again; None when it is not to be asked again."""
        call = attempt.call
        rule = judge(error)
        if call.sink is not None and call.sink.started:
            return None
        if attempt.notes.get("at_once") and self._now() < min(attempt.start_by, call.deadline):
            # There is another key that can start now. Of a key that was refused nothing was used, so it costs no attempt.
            if rule.verdict is Verdict.FAULT or error.details.get("no_credit"):
                attempt.budget.give_back()
                return 0.0
            return 0.0 if attempt.budget.may_retry else None
        if not rule.retry:
            return None
        if not attempt.budget.may_retry:
            self._out_of_attempts += 1
            return None
        delay_s = self._backoff.delay_s(failures, error.retry_after_s)
        now = self._now()
        if now + delay_s >= min(attempt.start_by, call.deadline):
            self._out_of_time += 1
            if error.retry_after_s is None:
                error.retry_after_s = delay_s
            call.journal.note(now, "retry", f"{attempt.target.name}: there is no time to wait {delay_s:.3g} s")
            return None
        if self._budget is not None and rule.verdict is not Verdict.THROTTLED and not self._budget.take(now):
            self._out_of_budget += 1
            call.journal.note(
                now, "retry", f"{attempt.target.name}: too many retries of late, so this one is not asked again"
            )
            return None
        return delay_s

    async def _sleep(self, attempt: Attempt, code: str, delay_s: float) -> None:
        """Wait, holding nothing."""
        if not delay_s:
            await trio.lowlevel.checkpoint()
            return
        began_at = self._now()
        journal = attempt.call.journal
        journal.note(began_at, "retry", f"{attempt.target.name}: {code}; asking again in {delay_s:.3g} s")
        self._sleeping += 1
        try:
            await trio.sleep(delay_s)
        finally:
            self._sleeping -= 1
            journal.queue_s += self._now() - began_at


def _again(notes: dict[str, Any]) -> dict[str, Any]:
    """Begin the notes of the next attempt: what it is does not change."""
    return {"hedge": True} if notes.get("hedge") else {}


def _record(
    attempt: Attempt, began_at: float, clock: Callable[[], float], reply: Reply | None, error: CallError | None
) -> None:
    """Add the attempt to the journal. Neither reply nor error: the caller went away, or a defect is on its way to the door."""
    journal, notes, target = attempt.call.journal, attempt.notes, attempt.target
    queue_s, provider_s = notes.get("queue_s", 0.0), notes.get("provider_s")
    if reply is not None:
        verdict, usage = Verdict.OK, reply.usage
        cost_usd = notes.get("cost_usd", reply.cost_usd)
    else:
        verdict = Verdict.IGNORED if error is None else judge(error).verdict
        cost_usd, usage = _cost_usd(notes), notes.get("usage")
        journal.throttled += verdict is Verdict.THROTTLED
    record = AttemptRecord(
        attempt.number,
        target.name,
        target.provider,
        began_at - journal.started,
        queue_s,
        clock() - began_at - queue_s if provider_s is None else provider_s,
        str(verdict),
        status=notes.get("status"),
        tokens=None if usage is None else usage.total,
        cost_usd=cost_usd,
        usage=usage,
        price_source=notes.get("price_source"),
    )
    more = notes.keys() & _TOLD_SELDOM
    if more or reply is None:
        told = {name: notes[name] for name in more}
        record = replace(record, **(told if reply is not None else told | _went_wrong(attempt, error)))
    journal.attempts.append(record)


_TOLD_SELDOM: Final = frozenset(
    "first_token_s key hedge cost_estimate_usd reserved_usd settled_usd settled_by_estimate".split()
)
"""What stands in the notes of some attempts by the names that their records have for it."""


def _went_wrong(attempt: Attempt, error: CallError | None) -> dict[str, Any]:
    """Give what the record of an attempt that gave no answer has besides."""
    stayed = {"sent": False} if _stayed_here(attempt.notes, error) else {}
    if error is None:
        return {"code": "cancelled", **stayed}
    told = {"code": error.code, "message": _message(error, attempt), "retry_after_s": error.retry_after_s, **stayed}
    return told if "status" not in error.details else {**told, "status": error.details["status"]}


def _cost_usd(notes: dict[str, Any]) -> float | None:
    """What an attempt without an answer cost, as it was settled; without having been sent it cost nothing."""
    cost: float | None = notes.get("cost_usd", None if "sent_at" in notes else 0.0)
    return cost


def _stayed_here(notes: dict[str, Any], error: CallError | None) -> bool:
    """Tell whether nothing was sent: it was refused here, or its call went away before."""
    if error is None:
        return "sent_at" not in notes
    return never_sent(error) and notes.get("status") is None


def _message(error: CallError, attempt: Attempt) -> str:
    """Shorten what went wrong, and leave out what it quotes of the prompt: journals hold none."""
    return unquote(error.message[:_MESSAGE_CHARACTERS], content_of(attempt.call.request))
