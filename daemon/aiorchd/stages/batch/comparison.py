"""Some items of a batch are asked alone, too: their passengers get the single answer, and the two are compared.

Where they differ, the item is asked alone once more, which says which of the two is the odd one out. What comes of it decides
how large batches may be (`core.batch_size`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import trio
from msgspec.structs import replace

from aiorch.errors import CallError
from aiorchd.calls.batching import Compared
from aiorchd.calls.reply import Reply, with_cost_of
from aiorchd.core.answer_likeness import answer_mark, prose_alike
from aiorchd.core.batch_form import answer_text
from aiorchd.core.json_answer import NotOneJsonValueError, read_json_answer
from aiorchd.stages.batch.flight import Flight, Passenger
from aiorchd.stages.batch.sharing import reply_from, with_share
from aiorchd.stages.batch.singles import Singles

CUT: Final = frozenset({"length", "content_filter"})
"""Finish reasons of answers that are not whole."""

_LEAST_PATIENCE_S: Final = 0.05

_OUTCOMES: Final[Mapping[Compared | None, str]] = {
    "agreed": "the batch's answer is the same",
    "batch_odd": "the batch's answer is another; asked once more, it is the odd one out",
    "single_odd": "the batch's answer is another; asked once more, it is the one that comes again",
    "all_differ": "the batch's answer is another; asked once more, a third one comes",
    None: "the batch's answer is another, and it could not be asked once more",
}


class Comparison:
    """Asks alone, too, and compares. ``likeness`` gives the cosine of two long texts, 1 where that cannot be told."""

    def __init__(self, singles: Singles, likeness: Callable[[str, str], float]) -> None:
        self._singles = singles
        self._likeness = likeness

    async def answer(self, flight: Flight, passenger: Passenger) -> Reply:
        """Ask a passenger's question alone, too; give that answer, and compare it to the batch's.

        Raises what asking alone raises, if the batch has no answer either.
        """
        call, learned, item = passenger.call, flight.learned, passenger.item
        began = trio.current_time()
        single, failure = await self._ask_beside(flight, passenger)
        flight.take_account(passenger)
        if single is None:
            assert failure is not None
            if item.answered:
                call.journal.note(
                    trio.current_time(), "batch", f"alone it failed ({failure.code}); the batch's answer serves"
                )
                return reply_from(flight, passenger)
            raise failure
        reply = single
        took_s = trio.current_time() - began
        if item.answered and single.finish_reason not in CUT and not single.tool_calls:
            outcome: Compared | None = "agreed"
            batchs = answer_text(item.answer, structured=flight.scope.structured)
            if not self._alike(flight, batchs, single.text):
                outcome = None
                if call.deadline - trio.current_time() > 2 * took_s:
                    reply, outcome = await self._ask_once_more(flight, passenger, batchs, single)
            if outcome is not None:
                learned.checked(outcome, flight.size)
            call.journal.note(trio.current_time(), "batch", _OUTCOMES[outcome])
        return with_share(flight, passenger, reply)

    async def _ask_beside(self, flight: Flight, passenger: Passenger) -> tuple[Reply | None, CallError | None]:
        """Ask alone while the batch is under way, and wait for that, too, as long as there is time."""
        call = passenger.call
        single: Reply | None = None
        failure: CallError | None = None
        settled = False
        try:
            try:
                single = await self._singles.besides(call, flight.learned)
            except CallError as error:
                failure = error
            if not flight.landed:
                left_s = call.deadline - trio.current_time()
                with trio.move_on_at(call.deadline - max(_LEAST_PATIENCE_S, 0.05 * left_s)):
                    await flight.ride(passenger)
            settled = True
        finally:
            if not settled:
                await flight.leave(passenger)
                flight.take_account(passenger)
        return single, failure

    async def _ask_once_more(
        self, flight: Flight, passenger: Passenger, batchs: str, single: Reply
    ) -> tuple[Reply, Compared | None]:
        """Where two answers differ a third one says which is the odd one out."""
        try:
            third = await self._singles.besides(passenger.call, flight.learned, again=True)
        except CallError:
            return single, None
        reply = with_cost_of(
            single, usage=third.usage, cost_usd=third.cost_usd, bill=third.bill, attempts=third.attempts
        )
        reply = replace(reply, provider_s=reply.provider_s + third.provider_s, queue_s=reply.queue_s + third.queue_s)
        if third.finish_reason in CUT or third.tool_calls:
            return reply, None
        if self._alike(flight, single.text, third.text):
            return reply, "batch_odd"
        return reply, "single_odd" if self._alike(flight, batchs, third.text) else "all_differ"

    def _alike(self, flight: Flight, one: str, other: str) -> bool:
        if flight.scope.structured:
            try:
                first, second = read_json_answer(one).value, read_json_answer(other).value
            except NotOneJsonValueError:
                return False
            return answer_mark("", [first], ()) == answer_mark("", [second], ())
        (first_mark, prose), (second_mark, other_prose) = answer_mark(one, None, ()), answer_mark(other, None, ())
        if first_mark == second_mark:
            return True
        return prose and other_prose and prose_alike(one, other, self._likeness(one, other))
