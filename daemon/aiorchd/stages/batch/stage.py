"""Who boards which batch, when it leaves, asking for all, and taking the answer apart.

The call for all is a flight: a task of the stage's nursery, as in `stages/coalesce`, and its deadline is the latest
passenger's. What makes the batch itself impossible (too long, withheld, beyond a limit of money, no JSON) sends everybody
back to ask alone; what would befall single calls too (nobody there, not now, no time) is told to everybody as it is, so
that trouble does not multiply calls.

It stands below Validate, so that each answer is checked, and asked again, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio
from msgspec.structs import replace

from aiorch.errors import CallError, DeadlineExceeded, GoingAway, InternalError
from aiorchd.calls.batching import BatchLearned, BatchMemory, BatchScope
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.core.batch_departure import Departure, departure, latest_of
from aiorchd.core.batch_form import batch_request, new_ids, split_answer
from aiorchd.stages.batch.comparison import CUT, Comparison
from aiorchd.stages.batch.flight import Flight, Item, Passenger, different, fit
from aiorchd.stages.batch.sharing import reply_from, share, share_failure, with_share
from aiorchd.stages.batch.singles import Singles

_OF_THE_BATCH: Final = frozenset(
    {"context_exceeded", "content_filtered", "too_large", "budget_exceeded", "invalid_request", "validation_failed"}
)
"""Errors that say nothing about how a question fares by itself."""
_CLOSED: Final = "the configuration has changed"
_LATE_S: Final = 0.001
_TURNS: Final = 6


@dataclass(frozen=True, slots=True)
class BatchStageStatistics:
    """Batches that gather or are under way and their passengers, and calls asked alone, now; batches that were cancelled because
    everybody had left, since this stage was built."""

    gathering: int
    flying: int
    passengers: int
    alone: int
    abandoned: int


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class Batch:
    """Ask questions together.

    ``scope_of`` gives what a question has in common with others; None for those that are no business of this stage, a sentence
    for those whose operation allows it and that go alone all the same. ``nursery`` holds the flights and must outlive the
    calls. ``draw`` chooses one of several at random, ``new_id`` makes an id for the call that is sent, and ``likeness`` gives the
    cosine of two long texts, 1 where that cannot be told.

    Raises what the batch raised, a copy for each passenger, and whatever asking alone raises.
    """

    def __init__(
        self,
        inner: Service[Call],
        memory: BatchMemory,
        nursery: trio.Nursery,
        log: Log,
        *,
        scope_of: Callable[[Call], BatchScope | str | None],
        draw: Callable[[Sequence[Any]], Any],
        new_id: Callable[[], str],
        likeness: Callable[[str, str], float],
    ) -> None:
        self._inner = inner
        self._singles = Singles(inner)
        self._comparison = Comparison(self._singles, likeness)
        self._memory = memory
        self._nursery = nursery
        self._log = log
        self._scope_of = scope_of
        self._draw = draw
        self._new_id = new_id
        # This is all the mutable state.
        self._gathering: dict[bytes, Flight] = {}
        """The last that was opened of each scope; it may have left already."""
        self._flights: set[Flight] = set()
        self._closed = False
        self._abandoned = 0

    def __call__(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Answer ``call``, together with others or alone."""
        scope = self._scope_of(call)
        return self._inner(call) if scope is None else self._answer(call, scope)

    async def _answer(self, call: Call, scope: BatchScope | str) -> Reply:
        now = trio.current_time()
        if isinstance(scope, str):
            call.journal.note(now, "batch", f"is asked alone: {scope}")
            return await self._inner(call)
        learned = self._memory.of(scope.operation, scope.model)
        pauses = self._memory.pauses(scope.key)
        pauses.came(now)
        if learned.allowed(scope.most) < 2:
            why = "answers from batches are not as good"
            learned.asked_alone(why, too_small=True)
            return await self._singles.instead(call, learned, why)
        if not fit(scope, learned, 2 * len(scope.text), 2):
            return await self._go_alone(call, learned, "another of its size would not fit beside it")
        latest = latest_of(now, call.deadline, learned.usual_s)
        if latest < latest_of(now, call.deadline, 0.0):
            learned.too_slow()
        if latest <= now:
            # On board it would make the others leave too soon, and be late all the same.
            return await self._go_alone(call, learned, "it has no time for a batch")
        flight = self._gathering.get(scope.key)
        if flight is not None and not flight.takes(scope):
            flight.depart("no more fits into it")
        if flight is None or flight.why is not None:
            flight = Flight(scope, self._name(), learned, now)
            at_once = _CLOSED if self._closed else self._decide(flight, now, items=1, latest=latest).why
            if at_once is not None:
                return await self._go_alone(call, learned, at_once)
            self._gathering[scope.key] = flight
            self._flights.add(flight)
            self._nursery.start_soon(self._carry, flight)
        passenger = flight.board(call, scope.text, now)
        if len(flight.on_board) >= learned.allowed(scope.most):
            flight.depart("it is full")
        return await self._travel(flight, passenger)

    def close(self) -> None:
        """Another generation has taken over: what gathers leaves now, and nothing gathers any more."""
        self._closed = True
        for flight in self._gathering.values():
            flight.depart(_CLOSED)

    def statistics(self) -> BatchStageStatistics:
        """Tell what goes on."""
        gathering = sum(flight.why is None for flight in self._flights)
        return BatchStageStatistics(
            gathering=gathering,
            flying=len(self._flights) - gathering,
            passengers=sum(len(flight.on_board) for flight in self._flights),
            alone=self._singles.under_way,
            abandoned=self._abandoned + sum(flight.abandoned for flight in self._flights),
        )

    # --- gathering

    def _name(self) -> str:
        return "".join(self._draw("0123456789abcdef") for _ in range(6))

    def _decide(self, flight: Flight, now: float, *, items: int, latest: float) -> Departure:
        scope = flight.scope
        return departure(
            now,
            opened_at=flight.opened_at,
            items=items,
            allowed=flight.learned.allowed(scope.most),
            latest=latest,
            pauses=self._memory.pauses(scope.key),
            max_wait_s=scope.max_wait_s,
            usual_s=flight.learned.usual_s,
            free=scope.free(),
        )

    async def _go_alone(self, call: Call, learned: BatchLearned, why: str) -> Reply:
        learned.asked_alone(why)
        return await self._singles.instead(call, learned, why)

    # --- the flight's own task

    async def _carry(self, flight: Flight) -> None:
        error: CallError | None = GoingAway(
            "the daemon is stopping; connect again to reach its successor", retry_after_s=1.0, stage="batch"
        )
        try:
            with flight.cancel:
                while flight.why is None:
                    decision = self._decide(
                        flight, trio.current_time(), items=len(flight.on_board), latest=flight.latest
                    )
                    if decision.why is not None:
                        flight.depart(decision.why)
                        break
                    flight.changed = trio.Event()
                    with trio.move_on_at(decision.look_at):
                        await flight.changed.wait()
                    if not flight.changed.is_set() and trio.current_time() > decision.look_at + _LATE_S:
                        # This process was held up, and who came meanwhile has not been read: the silence may be none.
                        await _let_in(flight)
                if len(flight.on_board) > 1:
                    await self._fly(flight)
                error = None
            if flight.cancel.cancelled_caught:
                error = DeadlineExceeded("the call it shared with others ran out of time", stage="batch")
        except CallError as raised:
            error = raised.again()  # without traceback and causes, which would hold the frames of the whole flight
        except Exception:  # barrier: shared flight
            self._log.exception("batch_failed", batch=flight.name)
            error = InternalError(
                "a defect in the daemon; its log has the details (journalctl -u aiorchd)", stage="batch"
            )
        finally:
            flight.error = error
            if flight.abandoned and flight.journal is not None:
                flight.learned.abandoned(trio.current_time() - flight.departed_at)
            self._flights.discard(flight)
            self._abandoned += flight.abandoned
            if self._gathering.get(flight.scope.key) is flight:
                del self._gathering[flight.scope.key]
            flight.land()

    async def _fly(self, flight: Flight) -> None:
        """Ask, and take the answer apart. Raises what befalls everybody."""
        scope, learned = flight.scope, flight.learned
        passengers = list(flight.on_board)
        common, items = different(passengers)
        flight.size = len(items)
        now = flight.departed_at = trio.current_time()
        assert flight.why is not None
        learned.departed(items=len(items), questions=len(passengers), why=flight.why)
        self._choose_checks(flight, items)
        leader = next((each for each in passengers if not each.checks), passengers[0])
        for each in passengers:
            place, of = items.index(each.item) + 1, len(items)
            each.call.journal.queue_s += now - each.came_at
            each.call.journal.batch_questions = len(passengers)
            each.call.journal.note(
                now,
                "batch",
                f"is asked as number {place} of {of} in the batch {flight.name}, which leaves because {flight.why}; "
                + (
                    "it makes the provider call"
                    if each is leader
                    else f"the call {leader.call.id} makes the provider call"
                ),
            )
            if each.checks:
                each.call.journal.note(now, "batch", "is asked alone, too, to compare the answers")
                each.wake()
        ids = new_ids(len(items), [common.head, common.tail, *common.texts], self._draw)
        flight.journal = Journal(started=leader.call.journal.started, at=leader.call.journal.at)
        asked = replace(
            leader.call,
            id=self._new_id(),
            # Answers to several are no measure of how long single ones are.
            task=f"{leader.call.task or scope.operation} in batches",
            request=batch_request(
                leader.call.request,
                common,
                ids,
                system=scope.system,
                structured=scope.structured,
                schema=scope.schema,
                most_tokens=scope.output_tokens,
            ),
            deadline=max(each.call.deadline for each in passengers),
            journal=flight.journal,
            key=None,
            exact_key=None,
            repeat_key=None,
        )
        flight.cancel.deadline = asked.deadline
        try:
            reply = await self._inner(asked)
        except CallError as error:
            if error.code not in _OF_THE_BATCH:
                raise
            learned.broke(error.code, items=len(items))
            share_failure(flight)
            for item in items:
                item.wrong = error.code
            return
        took_s = trio.current_time() - now
        learned.answered(items=len(items), took_s=took_s, usage=reply.usage, cost_usd=reply.cost_usd)
        self._take_apart(flight, reply, items, ids)
        flight.reply = reply
        share(flight, reply.usage, reply.cost_usd, reply.bill)

    def _choose_checks(self, flight: Flight, items: list[Item]) -> None:
        count = flight.learned.checks(len(items))
        may_be = [
            item.passengers[0] for item in items if len(item.passengers) == 1 and item.passengers[0] in flight.on_board
        ]
        for _ in range(min(count, len(may_be), len(flight.on_board) - 1)):
            chosen = self._draw(may_be)
            may_be.remove(chosen)
            chosen.checks = True

    def _take_apart(self, flight: Flight, reply: Reply, items: Sequence[Item], ids: Sequence[str]) -> None:
        learned = flight.learned
        if reply.tool_calls or reply.finish_reason in CUT:
            learned.broke("cut" if reply.finish_reason in CUT else "broken", items=len(items))
            for item in items:
                item.wrong = (
                    "the batch's answer was cut" if reply.finish_reason in CUT else "the batch's answer is broken"
                )
            return
        found = split_answer(reply.text, ids, structured=flight.scope.structured)
        if found.broken is not None:
            learned.broke("broken", items=len(items))
            for item in items:
                item.wrong = f"of the batch's answer: {found.broken}"
            return
        learned.taken_apart(items=len(items), wrong=found.wrong, extra=found.extra)
        for own, item in zip(ids, items, strict=True):
            item.wrong = found.wrong.get(own)
            if item.wrong is None:
                item.answer, item.answered = found.answers[own], True

    # --- a passenger's own task

    async def _travel(self, flight: Flight, passenger: Passenger) -> Reply:
        await flight.ride(passenger)
        if passenger.checks:
            return await self._comparison.answer(flight, passenger)
        flight.take_account(passenger)
        if flight.error is not None:
            raise flight.error.again()
        if passenger.item.answered:
            return reply_from(flight, passenger)
        call, learned = passenger.call, flight.learned
        waited_s = trio.current_time() - passenger.came_at
        if flight.journal is None:  # nobody else came
            learned.asked_alone("nobody came")
            call.journal.queue_s += waited_s
            reply = await self._singles.instead(call, learned, "nobody came to be asked together with")
            return replace(reply, queue_s=reply.queue_s + waited_s)
        call.journal.batch_left_out = True
        call.journal.note(trio.current_time(), "batch", f"is asked alone: {passenger.item.wrong}")
        reply = await self._singles.besides(call, learned)
        return with_share(flight, passenger, reply)


async def _let_in(flight: Flight) -> None:
    """Let the event loop turn until somebody boards, as often as it takes from a socket to here, and some more."""
    for _ in range(_TURNS):
        if flight.changed.is_set():
            return
        await trio.lowlevel.checkpoint()
