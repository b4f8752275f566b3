"""One record for every call, however it ends: answered, refused, failed, cancelled, or broken by a defect.

It stands outside all other stages, so it sees refusals too, and closes the journal that they wrote. A defect that passes
through is recorded as ``internal`` and goes on to the barrier at the door, which logs it. A call that goes on without its
caller (`Journal.goes_on`) has not ended: `record_end` is for whoever sees its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import trio

from aiorch.errors import CallError, Cancelled, ValidationFailed
from aiorchd.calls.bill import Bill
from aiorchd.calls.call import Call
from aiorchd.calls.journal import CallRecord, Hit, Journal
from aiorchd.calls.ports import RecordSink, Service
from aiorchd.calls.reply import Reply
from aiorchd.core.quoting import content_of, unquote

_MESSAGE_CHARACTERS: Final = 500


class _Unknown(NamedTuple):
    """The tokens of an answer of which nobody said how many it took."""

    input: None = None
    cache_read: None = None
    cache_write: None = None
    output: None = None
    reasoning: None = None


_UNKNOWN: Final = _Unknown()


@dataclass(frozen=True, slots=True)
class ObserveStatistics:
    """Calls inside now; and since this stage was built, how they ended. ``hits`` are those answered from memory before
    they became calls."""

    inside: int
    hits: int
    answered: int
    failed: int
    cancelled: int


class Observe:
    """Tell ``records`` of every call, once, when it has ended. Adds no error of its own."""

    def __init__(self, inner: Service[Call], records: RecordSink) -> None:
        self._inner = inner
        self._records = records
        self._inside = 0
        self._hits = self._answered = self._failed = self._cancelled = 0

    async def __call__(self, call: Call) -> Reply:
        """Pass ``call`` on and record how it ended."""
        reply: Reply | None = None
        error: CallError | None = None
        cancelled = False
        self._inside += 1
        try:
            reply = await self._inner(call)
            return reply
        except Cancelled:
            cancelled = True
            raise
        except CallError as raised:
            error = raised
            raise
        except trio.Cancelled:
            cancelled = True
            raise
        finally:
            self._inside -= 1
            if reply is not None:
                self._answered += 1
            else:
                self._failed += not cancelled
                self._cancelled += cancelled
            if not call.journal.goes_on:
                record_end(self._records, call, reply, error, cancelled=cancelled)
            del error  # its traceback refers to this frame: no cycle that would keep the prompt

    def observe_hit(self, hit: Hit) -> None:
        """Take note of an answer that was given from memory before a call was made of it."""
        self._hits += 1
        self._records.record_hit(hit)

    def statistics(self) -> ObserveStatistics:
        """Tell how many calls are inside and how the others ended."""
        return ObserveStatistics(
            inside=self._inside,
            hits=self._hits,
            answered=self._answered,
            failed=self._failed,
            cancelled=self._cancelled,
        )


def record_end(
    records: RecordSink, call: Call, reply: Reply | None, error: CallError | None, *, cancelled: bool = False
) -> None:
    """Record how ``call`` ended: answered, failed, cancelled or, without any of these, broken by a defect."""
    total_s = trio.current_time() - call.journal.started
    if reply is not None:
        records.record(_answered(call, reply, total_s))
    else:
        records.record(_ended(call, error, total_s, cancelled=cancelled))


def _answered(call: Call, reply: Reply, total_s: float) -> CallRecord:
    journal, caller = call.journal, call.caller
    usage = _UNKNOWN if reply.usage is None else reply.usage
    saved_usd: float | None
    if reply.cache == "miss":
        bill = reply.bill or Bill.of([(reply.cost_usd, None)])
        attempts, tried, saved_usd, saved_s = reply.attempts, tuple(journal.attempts), 0.0, None
    else:
        bill, attempts, tried, saved_usd, saved_s = Bill(), 0, (), reply.cost_usd, reply.saved_s
    return CallRecord(
        id=call.id,
        at=journal.at,
        uid=caller.uid,
        pid=caller.pid,
        unit=caller.unit,
        kind=call.kind,
        operation=call.operation,
        task=call.task,
        model=reply.model or call.model,
        provider=reply.provider or None,
        cache=reply.cache,
        simulated=reply.simulated,
        streamed=call.sink is not None,
        attempts=attempts,
        throttled=journal.throttled,
        fallbacks=journal.fallbacks,
        context_fallbacks=journal.context_fallbacks,
        filter_fallbacks=journal.filter_fallbacks,
        hedges=journal.hedges,
        semantic_right=journal.semantic_right,
        batch_questions=journal.batch_questions,
        batch_left_out=journal.batch_left_out,
        input_tokens=usage.input,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        output_tokens=usage.output,
        reasoning_tokens=usage.reasoning,
        cost_usd=bill.cost_usd,
        cost_known_usd=bill.known_usd,
        cost_unknown_attempts=bill.unknown,
        cost_estimate_usd=bill.estimate_usd,
        saved_usd=saved_usd,
        saved_s=saved_s,
        queue_s=reply.queue_s,
        provider_s=reply.provider_s,
        total_s=total_s,
        source_id=reply.source_id,
        tags=call.tags,
        story=_story(journal),
        tried=tried,
    )


def _ended(call: Call, error: CallError | None, total_s: float, *, cancelled: bool) -> CallRecord:
    """Make the record of a call without an answer; what its attempts cost was spent all the same."""
    journal, caller = call.journal, call.caller
    last = journal.attempts[-1] if journal.attempts else None
    bill = _bill(journal)
    code = "cancelled" if cancelled else "internal" if error is None else error.code
    story = _story(journal) or {}
    if error is not None:
        story["error"] = {"message": _message(call, error), "stage": error.stage}
    return CallRecord(
        id=call.id,
        at=journal.at,
        uid=caller.uid,
        pid=caller.pid,
        unit=caller.unit,
        kind=call.kind,
        operation=call.operation,
        task=call.task,
        model=last.model if last is not None else call.model,
        provider=last.provider if last is not None else None,
        cache="none",
        error=code,
        streamed=call.streamed,
        attempts=len(journal.attempts),
        throttled=journal.throttled,
        fallbacks=journal.fallbacks,
        context_fallbacks=journal.context_fallbacks,
        filter_fallbacks=journal.filter_fallbacks,
        hedges=journal.hedges,
        semantic_right=journal.semantic_right,
        batch_questions=journal.batch_questions,
        batch_left_out=journal.batch_left_out,
        cost_usd=bill.cost_usd,
        cost_known_usd=bill.known_usd,
        cost_unknown_attempts=bill.unknown,
        cost_estimate_usd=bill.estimate_usd,
        saved_usd=0.0,
        queue_s=journal.queue_s,
        provider_s=journal.provider_s,
        total_s=total_s,
        tags=call.tags,
        story=story or None,
        tried=tuple(journal.attempts),
    )


def _message(call: Call, error: CallError) -> str:
    """Say what went wrong without quoting prompt or answer: records hold neither."""
    if isinstance(error, ValidationFailed):
        # Why it is wrong quotes the answer. Its caller was told; where is enough here.
        at = f" at {error.details['path']}" if "path" in error.details else ""
        return f"the answer of {error.details.get('model', 'the model')} is not what was asked for{at}"
    return unquote(error.message[:_MESSAGE_CHARACTERS], content_of(call.request))


def _bill(journal: Journal) -> Bill:
    """Add up what the attempts cost."""
    return Bill.of((attempt.cost_usd, attempt.cost_estimate_usd) for attempt in journal.attempts)


def _story(journal: Journal) -> dict[str, Any] | None:
    """Put notes and attempts in plain data; None when there is nothing to tell."""
    story: dict[str, Any] = {}
    if journal.notes:
        story["notes"] = [[round(at_s, 6), stage, what] for at_s, stage, what in journal.notes]
    if journal.attempts:
        story["attempts"] = msgspec.to_builtins(journal.attempts)
    return story or None
