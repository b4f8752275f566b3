"""Where money is reserved before an attempt starts, and settled when it has ended, however it ended.

It stands directly above Dispatch, below everything that asks again: each retry, hedge, re-ask and fallback is an attempt with a
reservation of its own. What an attempt cost is known from the usage that came back; where none came, all that was reserved is
taken as spent, because it may have been. Only what certainly was not billed is let go: nothing was sent, or the provider
answered with a refusal. It leaves in the notes of an attempt what that cost (``cost_usd``: None when it is unknown), and what
it is counted as where that is an estimate (``cost_estimate_usd``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio
from msgspec.structs import replace

from aiorch.errors import CallError
from aiorchd.calls.call import Attempt
from aiorchd.calls.outcome import never_sent
from aiorchd.calls.ports import Hold, Purse, Service
from aiorchd.calls.reply import Reply, Usage
from aiorchd.core.token_bound import answer_bound, implausible, token_bound
from aiorchd.core.token_estimate import prompt_tokens

_REFUSALS: Final = frozenset({*range(300, 500), 503, 529}) - {408, 499}
"""Statuses of answers that nobody bills: the request was turned away, or sent elsewhere, where nobody followed. With any other
error the work may have been done."""

_BYTES_PER_TOKEN: Final = 4
_DOUBTED_FROM_BYTES: Final = 100
"""A word or two of an answer may be told as nothing."""


@dataclass(frozen=True, slots=True)
class SpendStatistics:
    """Attempts that wait for money and that run holding it, now; since this stage was built: settled by what was reported,
    kept as estimates, and let go because they cost nothing."""

    waiting: int
    running: int
    settled: int
    estimated: int
    released: int


class Spend:
    """Reserve of ``purse`` what an attempt may cost, then ask ``inner``."""

    def __init__(self, inner: Service[Attempt], purse: Purse) -> None:
        self._inner = inner
        self._purse = purse
        self._waiting = self._running = 0
        self._settled = self._estimated = self._released = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Ask once it can be paid for. Raises `BudgetExceeded` and `StorageError` when it cannot be, and then nothing was
        sent."""
        hold = self._purse.reserve_at_once(attempt)
        if hold is None:
            self._waiting += 1
            try:
                hold = await self._purse.reserve(attempt)
            finally:
                self._waiting -= 1
        attempt.notes["price_source"] = attempt.target.price.source or None
        self._running += 1
        reply: Reply | None = None
        failure: CallError | None = None
        try:
            answer = await self._inner(attempt if hold.max_tokens is None else _capped(attempt, hold))
            reply = _believable(answer, attempt) if attempt.target.dialect == "host" else answer
        except CallError as error:
            failure = error
            raise
        finally:
            self._running -= 1
            if reply is None:
                self._end(attempt, hold, failure)
            del failure  # its traceback refers to this frame: no cycle that would keep the prompt
        usage = reply.usage
        if usage is not None and usage.estimated and not attempt.target.price.free:
            # Its cost follows from estimated tokens and is not known, though it was worked out.
            self._settle(attempt, hold, None, usage, reply.cost_usd)
            return replace(reply, cost_usd=None)
        self._settle(attempt, hold, reply.cost_usd, usage, None)
        return reply

    def statistics(self) -> SpendStatistics:
        """Tell who waits and who runs."""
        return SpendStatistics(self._waiting, self._running, self._settled, self._estimated, self._released)

    def _end(self, attempt: Attempt, hold: Hold, error: CallError | None) -> None:
        """Settle an attempt that gave no answer. No error: the caller left, or a defect; the provider may have worked all the
        same."""
        notes = attempt.notes
        cost_usd: float | None = notes.get("cost_usd")
        usage: Usage | None = notes.get("usage")  # of an answer that came and was no good
        if cost_usd is None and usage is None and error is not None and cost_nothing(attempt, error):
            self._released += 1
            notes["cost_usd"] = 0.0
            hold.release()
            return
        self._settle(attempt, hold, cost_usd, usage, None)

    def _settle(
        self,
        attempt: Attempt,
        hold: Hold,
        cost_usd: float | None,
        usage: Usage | None,
        estimate_usd: float | None,
    ) -> None:
        """Settle by what is known, and leave what it cost in the notes."""
        if cost_usd is None and attempt.target.price.free:
            cost_usd = 0.0
        attempt.notes["cost_usd"] = cost_usd
        if cost_usd is not None:
            self._settled += 1
            hold.settle(None, cost_usd)
        else:
            self._estimated += 1
            # Of what was sent a bound is known; where tokens are, though estimated ones or at no known price, they say more.
            attempt.notes["cost_estimate_usd"] = hold.settle(usage, estimate_usd)


def cost_nothing(attempt: Attempt, error: CallError) -> bool:
    """Tell whether a failed attempt was certainly not billed."""
    if attempt.notes.get("first_token_s") is not None:
        return False  # it had begun to answer
    return never_sent(error) or error.details.get("status") in _REFUSALS


def _believable(reply: Reply, attempt: Attempt) -> Reply:
    """Bound what a process of the host says that it used, where that is too little to be true: who counts so would pass any
    budget. What takes its place is the most it can be, and marked as an estimate."""
    usage, target, call = reply.usage, attempt.target, attempt.call
    if usage is None or target.price.free:
        return reply
    prompt, said = usage.input + usage.cache_read + usage.cache_write, usage.output + usage.reasoning
    most_said = answer_bound(reply.text, reply.tool_calls)
    short_prompt = implausible(prompt, prompt_tokens(call.request))
    short_answer = most_said >= _DOUBTED_FROM_BYTES and implausible(said, most_said / _BYTES_PER_TOKEN)
    if not short_prompt and not short_answer:
        return reply
    if short_prompt:
        most = token_bound(call.request, target.extra).prompt
        most = most if target.context_tokens is None else min(most, target.context_tokens)
        usage = Usage(most, 0, 0, usage.output, usage.reasoning, estimated=True)
    if short_answer:
        usage = replace(usage, output=most_said, reasoning=0, estimated=True)
    what = " and ".join(["prompt"] * short_prompt + ["answer"] * short_answer)
    note = f"{target.name}: too few tokens are told of the {what} to be true; the most it can be counts, as an estimate"
    call.journal.note(trio.current_time(), "spend", note)
    return replace(reply, usage=usage, cost_usd=None)


def _capped(attempt: Attempt, hold: Hold) -> Attempt:
    """Send a shorter ``max_tokens`` along where only that can be paid for."""
    call = attempt.call
    return replace(attempt, call=replace(call, request={**call.request, "max_tokens": hold.max_tokens}))
