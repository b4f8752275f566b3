"""Questions of the same kind are asked together in one provider call, and each gets its own answer out of it.

A question whose operation allows it waits for a moment for others with the same scope (same user and unit, operation, model,
parameters, partition, priority; `pipeline.batch_scope`), when others are to be expected (`core.batch_departure`). What has
gathered is put into one prompt (`core.batch_form`), equal ones once (`core.same_question`), and the answer is taken apart
strictly: what has no answer of the right form is asked alone, once, by whoever asked it.

The call for all is a flight: a task of the stage's nursery, as in `stages/coalesce`. A passenger who leaves harms nobody, the
last one to leave cancels it and stays until it has unwound, and its deadline is the latest passenger's. What makes the batch
itself impossible (too long, withheld, beyond a limit of money, no JSON) sends everybody back to ask alone; what would
befall single calls too (nobody there, not now, no time) is told to everybody as it is, so that trouble does not multiply calls.

Some items are asked alone, too: their passengers get the single answer, and the two are compared; where they differ, the
item is asked alone once more. How large batches may be follows from that (`core.batch_size`).

Money. Usage and cost of the call are divided between those on board, to the last token; what is asked alone besides is its
passenger's own. The attempts are in the journal of one of them.

It stands below Validate, so that each answer is checked, and asked again, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import trio
from msgspec.structs import replace

from aiorch.errors import CallError, DeadlineExceeded, GoingAway, InternalError
from aiorchd.calls.batching import BatchLearned, BatchMemory, BatchScope, Compared
from aiorchd.calls.bill import Bill
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply, Usage, with_cost_of
from aiorchd.core.answer_likeness import answer_mark, prose_alike
from aiorchd.core.batch_departure import Departure, departure, latest_of
from aiorchd.core.batch_form import Common, answer_text, batch_request, common_parts, fits, new_ids, split_answer
from aiorchd.core.json_answer import NotOneJsonValueError, read_json_answer
from aiorchd.core.same_question import question_form
from aiorchd.core.shares import exact_shares, parts_of

_OF_THE_BATCH: Final = frozenset(
    {"context_exceeded", "content_filtered", "too_large", "budget_exceeded", "invalid_request", "validation_failed"}
)
"""Errors that say nothing about how a question fares by itself."""
_CUT: Final = frozenset({"length", "content_filter"})
_LEAST_PATIENCE_S: Final = 0.05
_USUAL_MARGIN: Final = 1.5
"""Where nobody bounds an answer, room for one that is longer than usual."""
_CLOSED: Final = "the configuration has changed"


@dataclass(frozen=True, slots=True)
class BatchStageStatistics:
    """Batches that gather or are under way and their passengers, and calls asked alone, now; batches that were cancelled because
    everybody had left, since this stage was built."""

    gathering: int
    flying: int
    passengers: int
    alone: int
    abandoned: int


@dataclass(slots=True, eq=False)
class _Item:
    """A question in the batch, and whoever asks it; an answer, or what was wrong with it."""

    text: str
    passengers: list[_Passenger]
    answer: Any = None
    answered: bool = False
    wrong: str | None = None


@dataclass(slots=True, eq=False)
class _Passenger:
    """One call on board. ``parked`` is its task while it waits. ``checks`` tells that it is asked alone, too."""

    call: Call
    item: _Item
    came_at: float
    parked: trio.lowlevel.Task | None = None
    checks: bool = False
    pays: bool = False
    """Whether the account of the attempts is in its journal."""
    accounted: bool = False
    usage: Usage | None = None
    cost_usd: float | None = None
    bill: Bill | None = None


class _Batch:
    """Questions that gather, and then fly."""

    def __init__(self, scope: BatchScope, name: str, learned: BatchLearned, now: float) -> None:
        self.scope = scope
        self.name = name
        self.learned = learned
        self.opened_at = now
        self.on_board: dict[_Passenger, None] = {}
        """In order of boarding."""
        self.characters = 0
        self.size = 0
        """How many different questions were asked, once it has left."""
        self.why: str | None = None
        """Why it leaves; None while it gathers."""
        self.changed = trio.Event()
        self.cancel = trio.CancelScope()
        self.left: Callable[[], NoReturn] | None = None
        """Raises the cancellation of the last passenger, who waits for it to unwind."""
        self.departed_at = now
        self.journal: Journal | None = None
        self.landed = False
        self.reply: Reply | None = None
        self.error: CallError | None = None

    @property
    def latest(self) -> float:
        """When it must have left for the sake of a passenger's own time."""
        usual_s = self.learned.usual_s
        return min(latest_of(each.came_at, each.call.deadline, usual_s) for each in self.on_board)

    def takes(self, scope: BatchScope) -> bool:
        """Tell whether another question fits in."""
        return _fits(scope, self.learned, self.characters + len(scope.text), len(self.on_board) + 1)


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
        self._memory = memory
        self._nursery = nursery
        self._log = log
        self._scope_of = scope_of
        self._draw = draw
        self._new_id = new_id
        self._likeness = likeness
        # This is all the mutable state.
        self._gathering: dict[bytes, _Batch] = {}
        self._closed = False
        self._carried = self._passengers = self._alone = self._abandoned = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call``, together with others or alone."""
        scope = self._scope_of(call)
        if scope is None:
            return await self._inner(call)
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
            return await self._ask_alone(call, learned, why)
        if not _fits(scope, learned, 2 * len(scope.text), 2):
            return await self._go_alone(call, learned, "another of its size would not fit beside it")
        batch = self._gathering.get(scope.key)
        if batch is not None and not batch.takes(scope):
            self._depart(batch, "no more fits into it")
            batch = None
        if batch is None:
            batch = _Batch(scope, self._name(), learned, now)
            latest = latest_of(now, call.deadline, learned.usual_s)
            at_once = _CLOSED if self._closed else self._decide(batch, now, items=1, latest=latest).why
            if at_once is not None:
                return await self._go_alone(call, learned, at_once)
            self._gathering[scope.key] = batch
            self._carried += 1
            self._nursery.start_soon(self._carry, batch)
        passenger = self._board(batch, call, scope.text, now)
        if len(batch.on_board) >= learned.allowed(scope.most):
            self._depart(batch, "it is full")
        return await self._travel(batch, passenger)

    def close(self) -> None:
        """Another generation has taken over: what gathers leaves now, and nothing gathers any more."""
        self._closed = True
        for batch in list(self._gathering.values()):
            self._depart(batch, _CLOSED)

    def statistics(self) -> BatchStageStatistics:
        """Tell what goes on."""
        return BatchStageStatistics(
            gathering=len(self._gathering),
            flying=self._carried - len(self._gathering),
            passengers=self._passengers,
            alone=self._alone,
            abandoned=self._abandoned,
        )

    # --- gathering

    def _name(self) -> str:
        return "".join(self._draw("0123456789abcdef") for _ in range(6))

    def _board(self, batch: _Batch, call: Call, text: str, now: float) -> _Passenger:
        passenger = _Passenger(call, _Item(text, []), now)
        passenger.item.passengers.append(passenger)
        batch.characters += len(text)
        batch.on_board[passenger] = None
        self._passengers += 1
        call.journal.note(now, "batch", f"waits for others to be asked together with, in the batch {batch.name}")
        batch.changed.set()
        return passenger

    def _decide(self, batch: _Batch, now: float, *, items: int, latest: float) -> Departure:
        scope = batch.scope
        return departure(
            now,
            opened_at=batch.opened_at,
            items=items,
            allowed=batch.learned.allowed(scope.most),
            latest=latest,
            pauses=self._memory.pauses(scope.key),
            max_wait_s=scope.max_wait_s,
            free=scope.free(),
        )

    def _depart(self, batch: _Batch, why: str) -> None:
        """Let nobody board any more, and let it leave."""
        if batch.why is None:
            batch.why = why
        if self._gathering.get(batch.scope.key) is batch:
            del self._gathering[batch.scope.key]
        batch.changed.set()

    # --- the flight's own task

    async def _carry(self, batch: _Batch) -> None:
        error: CallError | None = GoingAway(
            "the daemon is stopping; connect again to reach its successor", retry_after_s=1.0, stage="batch"
        )
        try:
            with batch.cancel:
                while batch.why is None:
                    decision = self._decide(batch, trio.current_time(), items=len(batch.on_board), latest=batch.latest)
                    if decision.why is not None:
                        self._depart(batch, decision.why)
                        break
                    batch.changed = trio.Event()
                    with trio.move_on_at(decision.look_at):
                        await batch.changed.wait()
                if len(batch.on_board) > 1:
                    await self._fly(batch)
                error = None
            if batch.cancel.cancelled_caught:
                error = DeadlineExceeded("the call it shared with others ran out of time", stage="batch")
        except CallError as raised:
            error = raised.again()  # without traceback and causes, which would hold the frames of the whole flight
        except Exception:  # barrier: shared flight
            self._log.exception("batch_failed", batch=batch.name)
            error = InternalError(
                "a defect in the daemon; its log has the details (journalctl -u aiorchd)", stage="batch"
            )
        finally:
            batch.error = error
            self._land(batch)

    async def _fly(self, batch: _Batch) -> None:
        """Ask, and take the answer apart. Raises what befalls everybody."""
        scope, learned = batch.scope, batch.learned
        passengers = list(batch.on_board)
        common, items = _different(passengers)
        batch.size = len(items)
        now = batch.departed_at = trio.current_time()
        assert batch.why is not None
        learned.departed(items=len(items), questions=len(passengers), why=batch.why)
        self._choose_checks(batch, items)
        leader = next((each for each in passengers if not each.checks), passengers[0])
        for each in passengers:
            place, of = items.index(each.item) + 1, len(items)
            each.call.journal.queue_s += now - each.came_at
            each.call.journal.note(
                now,
                "batch",
                f"is asked as number {place} of {of} in the batch {batch.name}, which leaves because {batch.why}; "
                + (
                    "it makes the provider call"
                    if each is leader
                    else f"the call {leader.call.id} makes the provider call"
                ),
            )
            if each.checks:
                each.call.journal.note(now, "batch", "is asked alone, too, to compare the answers")
                self._wake(each)
        ids = new_ids(len(items), [common.head, common.tail, *common.texts], self._draw)
        batch.journal = Journal(started=leader.call.journal.started, at=leader.call.journal.at)
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
            journal=batch.journal,
            key=None,
            exact_key=None,
            repeat_key=None,
        )
        batch.cancel.deadline = asked.deadline
        try:
            reply = await self._inner(asked)
        except CallError as error:
            if error.code not in _OF_THE_BATCH:
                raise
            learned.broke(error.code, items=len(items))
            lost = Bill.of((attempt.cost_usd, attempt.cost_estimate_usd) for attempt in batch.journal.attempts)
            self._share(batch, Usage(0, 0, 0, 0, 0), lost.known_usd, lost)
            for item in items:
                item.wrong = error.code
            return
        took_s = trio.current_time() - now
        learned.answered(items=len(items), took_s=took_s, usage=reply.usage, cost_usd=reply.cost_usd)
        self._take_apart(batch, reply, items, ids)
        batch.reply = reply
        self._share(batch, reply.usage, reply.cost_usd, reply.bill)

    def _choose_checks(self, batch: _Batch, items: list[_Item]) -> None:
        count = batch.learned.checks(len(items))
        may_be = [
            item.passengers[0] for item in items if len(item.passengers) == 1 and item.passengers[0] in batch.on_board
        ]
        for _ in range(min(count, len(may_be), len(batch.on_board) - 1)):
            chosen = self._draw(may_be)
            may_be.remove(chosen)
            chosen.checks = True

    def _take_apart(self, batch: _Batch, reply: Reply, items: Sequence[_Item], ids: Sequence[str]) -> None:
        learned = batch.learned
        if reply.tool_calls or reply.finish_reason in _CUT:
            learned.broke("cut" if reply.finish_reason in _CUT else "broken", items=len(items))
            for item in items:
                item.wrong = (
                    "the batch's answer was cut" if reply.finish_reason in _CUT else "the batch's answer is broken"
                )
            return
        found = split_answer(reply.text, ids, structured=batch.scope.structured)
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

    def _share(self, batch: _Batch, usage: Usage | None, cost_usd: float | None, bill: Bill | None) -> None:
        """Divide what the flight took between those who are on board."""
        on_board = list(batch.on_board)
        if not on_board:
            return
        asked = [float(len(each.item.text) + 40) / len(each.item.passengers) for each in on_board]
        answered = [float(len(str(each.item.answer)) + 40) / len(each.item.passengers) for each in on_board]
        counts = usage if usage is not None else Usage(0, 0, 0, 0, 0)
        inputs = (counts.input, counts.cache_read, counts.cache_write, counts.cache_write_1h)
        parts = parts_of(inputs, (counts.output, counts.reasoning), cost_usd, asked, answered)
        for each, part in zip(on_board, parts, strict=True):
            if usage is not None:
                (fresh, read, written, hourly), (said, thought) = part.inputs, part.outputs
                each.usage = Usage(fresh, read, written, said, thought, usage.estimated, hourly)
            each.cost_usd = part.cost
        if bill is not None:
            weights = [sum(part.inputs) + sum(part.outputs) + 1.0 for part in parts]
            guesses: Sequence[float | None] = [None] * len(parts)
            if bill.estimate_usd is not None:
                guesses = exact_shares(bill.estimate_usd, weights)
            known = (
                [part.cost for part in parts] if cost_usd == bill.known_usd else exact_shares(bill.known_usd, weights)
            )
            for each, known_usd, guess in zip(on_board, known, guesses, strict=True):
                # Of attempts that nobody told the cost of, everybody is told.
                each.bill = Bill(known_usd or 0.0, bill.unknown, guess)

    def _land(self, batch: _Batch) -> None:
        """Wake everybody; one of those who are on board gets the account."""
        batch.landed = True
        self._carried -= 1
        self._depart(batch, "")
        on_board = list(batch.on_board)
        payer = next((each for each in on_board if not each.checks), on_board[0] if on_board else None)
        if payer is not None:
            payer.pays = True
        self._passengers -= len(on_board)
        batch.on_board.clear()
        for each in on_board:
            self._wake(each)

    # --- a passenger's own task

    async def _travel(self, batch: _Batch, passenger: _Passenger) -> Reply:
        await self._ride(batch, passenger)
        if passenger.checks:
            return await self._compare(batch, passenger)
        self._take_account(batch, passenger)
        if batch.error is not None:
            raise batch.error.again()
        if passenger.item.answered:
            return self._reply(batch, passenger)
        call, learned = passenger.call, batch.learned
        waited_s = trio.current_time() - passenger.came_at
        if batch.journal is None:  # nobody else came
            learned.asked_alone("nobody came")
            call.journal.queue_s += waited_s
            reply = await self._ask_alone(call, learned, "nobody came to be asked together with")
            return replace(reply, queue_s=reply.queue_s + waited_s)
        call.journal.note(trio.current_time(), "batch", f"is asked alone: {passenger.item.wrong}")
        reply = await self._ask_besides(call, learned)
        return self._with_share(batch, passenger, reply)

    async def _compare(self, batch: _Batch, passenger: _Passenger) -> Reply:
        """Ask alone, too; give that answer, and compare it to the batch's."""
        call, learned, item = passenger.call, batch.learned, passenger.item
        began = trio.current_time()
        single, failure = await self._ask_beside(batch, passenger)
        self._take_account(batch, passenger)
        if single is None:
            assert failure is not None
            if item.answered:
                call.journal.note(
                    trio.current_time(), "batch", f"alone it failed ({failure.code}); the batch's answer serves"
                )
                return self._reply(batch, passenger)
            raise failure
        reply = single
        took_s = trio.current_time() - began
        if item.answered and single.finish_reason not in _CUT and not single.tool_calls:
            outcome: Compared | None = "agreed"
            batchs = answer_text(item.answer, structured=batch.scope.structured)
            if not self._alike(batch, batchs, single.text):
                outcome = None
                if call.deadline - trio.current_time() > 2 * took_s:
                    reply, outcome = await self._ask_once_more(batch, passenger, batchs, single)
            if outcome is not None:
                learned.checked(outcome, batch.size)
            call.journal.note(trio.current_time(), "batch", _OUTCOMES[outcome])
        return self._with_share(batch, passenger, reply)

    async def _ask_beside(self, batch: _Batch, passenger: _Passenger) -> tuple[Reply | None, CallError | None]:
        """Ask alone while the batch is under way, and wait for that, too, as long as there is time."""
        call = passenger.call
        single: Reply | None = None
        failure: CallError | None = None
        settled = False
        try:
            try:
                single = await self._ask_besides(call, batch.learned)
            except CallError as error:
                failure = error
            if not batch.landed:
                left_s = call.deadline - trio.current_time()
                with trio.move_on_at(call.deadline - max(_LEAST_PATIENCE_S, 0.05 * left_s)):
                    await self._ride(batch, passenger)
            settled = True
        finally:
            if not settled:
                if passenger in batch.on_board and self._is_last(batch, passenger):
                    passenger.parked = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
                self._take_account(batch, passenger)
        return single, failure

    async def _ask_once_more(
        self, batch: _Batch, passenger: _Passenger, batchs: str, single: Reply
    ) -> tuple[Reply, Compared | None]:
        """Where two answers differ a third one says which is the odd one out."""
        try:
            third = await self._ask_besides(passenger.call, batch.learned, again=True)
        except CallError:
            return single, None
        reply = with_cost_of(
            single, usage=third.usage, cost_usd=third.cost_usd, bill=third.bill, attempts=third.attempts
        )
        reply = replace(reply, provider_s=reply.provider_s + third.provider_s, queue_s=reply.queue_s + third.queue_s)
        if third.finish_reason in _CUT or third.tool_calls:
            return reply, None
        if self._alike(batch, single.text, third.text):
            return reply, "batch_odd"
        return reply, "single_odd" if self._alike(batch, batchs, third.text) else "all_differ"

    async def _ride(self, batch: _Batch, passenger: _Passenger) -> None:
        """Wait until it is woken: by the landing, or to ask alone, too."""
        if batch.landed:
            return
        passenger.parked = trio.lowlevel.current_task()

        def leave(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            if not self._is_last(batch, passenger):
                passenger.parked = None
                return trio.lowlevel.Abort.SUCCEEDED
            batch.left = raise_cancel
            return trio.lowlevel.Abort.FAILED  # the landing wakes us

        await trio.lowlevel.wait_task_rescheduled(leave)
        if batch.left is not None and not passenger.item.answered:
            batch.left()
        # An answer that came while leaving is paid for, so it is taken.

    def _is_last(self, batch: _Batch, passenger: _Passenger) -> bool:
        """Let a passenger leave; unless it is the last: then the batch is called off, and it has to wait for that."""
        if len(batch.on_board) > 1:
            del batch.on_board[passenger]
            self._passengers -= 1
            passenger.item.passengers.remove(passenger)
            if batch.why is None:
                batch.characters -= len(passenger.item.text)
            return False
        self._abandoned += 1
        self._depart(batch, "everybody has left")
        batch.cancel.cancel()
        return True

    @staticmethod
    def _wake(passenger: _Passenger) -> None:
        task, passenger.parked = passenger.parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    @staticmethod
    def _take_account(batch: _Batch, passenger: _Passenger) -> None:
        if passenger.pays and not passenger.accounted and batch.journal is not None:
            passenger.accounted = True
            passenger.call.journal.take_over(batch.journal)

    # --- asking alone

    async def _go_alone(self, call: Call, learned: BatchLearned, why: str) -> Reply:
        learned.asked_alone(why)
        return await self._ask_alone(call, learned, why)

    async def _ask_alone(self, call: Call, learned: BatchLearned, why: str) -> Reply:
        call.journal.note(trio.current_time(), "batch", f"is asked alone: {why}")
        self._alone += 1
        try:
            reply = await self._inner(call)
        finally:
            self._alone -= 1
        learned.single(reply.usage, reply.cost_usd)
        return reply

    async def _ask_besides(self, call: Call, learned: BatchLearned, *, again: bool = False) -> Reply:
        self._alone += 1
        try:
            reply = await self._inner(call)
        finally:
            self._alone -= 1
        learned.single(reply.usage, reply.cost_usd)
        learned.besides(reply.usage, reply.cost_usd, again=again)
        return reply

    # --- replies

    def _reply(self, batch: _Batch, passenger: _Passenger) -> Reply:
        """Address an answer out of the batch to the one who asked. The calls that were made are told by one of them alone."""
        whole = batch.reply
        assert whole is not None
        return Reply(
            text=answer_text(passenger.item.answer, structured=batch.scope.structured),
            finish_reason="stop",
            model=whole.model,
            provider=whole.provider,
            provider_model=whole.provider_model,
            simulated=whole.simulated,
            usage=passenger.usage,
            cost_usd=passenger.cost_usd,
            bill=passenger.bill,
            batched=True,
            attempts=_attempts_of(batch, passenger),
            queue_s=batch.departed_at - passenger.came_at + whole.queue_s,
            provider_s=whole.provider_s,
        )

    def _with_share(self, batch: _Batch, passenger: _Passenger, reply: Reply) -> Reply:
        """Add what the batch took to an answer that was asked for alone."""
        flown = batch.journal
        if flown is None or not batch.landed or (batch.error is not None and passenger.cost_usd is None):
            return reply
        summed = with_cost_of(
            reply,
            usage=passenger.usage,
            cost_usd=passenger.cost_usd,
            bill=passenger.bill,
            attempts=_attempts_of(batch, passenger),
        )
        queue_s = summed.queue_s + batch.departed_at - passenger.came_at
        if passenger.checks:  # both were under way at the same time
            return replace(summed, queue_s=queue_s)
        return replace(summed, queue_s=queue_s + flown.queue_s, provider_s=summed.provider_s + flown.provider_s)

    def _alike(self, batch: _Batch, one: str, other: str) -> bool:
        if batch.scope.structured:
            try:
                first, second = read_json_answer(one).value, read_json_answer(other).value
            except NotOneJsonValueError:
                return False
            return answer_mark("", [first], ()) == answer_mark("", [second], ())
        (first_mark, prose), (second_mark, other_prose) = answer_mark(one, None, ()), answer_mark(other, None, ())
        if first_mark == second_mark:
            return True
        return prose and other_prose and prose_alike(one, other, self._likeness(one, other))


def _different(passengers: Sequence[_Passenger]) -> tuple[Common, list[_Item]]:
    """Find what the prompts have in common, and put together those whose own parts ask the same. Who bypasses the cache asks
    for an answer of its own."""
    common = common_parts([each.item.text for each in passengers])
    items: dict[str, _Item] = {}
    texts: list[str] = []
    for each, text in zip(passengers, common.texts, strict=True):
        form = f"\n\n{each.call.id}" if each.call.cache == "bypass" else question_form(text)
        item = items.setdefault(form, each.item)
        if item is each.item:
            texts.append(text)
        else:
            item.passengers.append(each)
            each.item = item
    return Common(common.head, common.tail, tuple(texts)), list(items.values())


def _fits(scope: BatchScope, learned: BatchLearned, characters: int, items: int) -> bool:
    usual = (learned.answer_tokens or 0.0) * _USUAL_MARGIN
    return fits(
        characters,
        items,
        answer_tokens=scope.max_tokens if scope.max_tokens is not None else usual,
        context_tokens=scope.context_tokens,
        output_tokens=scope.output_tokens,
    )


def _attempts_of(batch: _Batch, passenger: _Passenger) -> int:
    """Count the calls that were made for the batch, for the one of its passengers who tells them."""
    if not passenger.pays:
        return 0
    if batch.reply is not None:
        return batch.reply.attempts
    return 0 if batch.journal is None else len(batch.journal.attempts)


_OUTCOMES: Final[Mapping[Compared | None, str]] = {
    "agreed": "the batch's answer is the same",
    "batch_odd": "the batch's answer is another; asked once more, it is the odd one out",
    "single_odd": "the batch's answer is another; asked once more, it is the one that comes again",
    "all_differ": "the batch's answer is another; asked once more, a third one comes",
    None: "the batch's answer is another, and it could not be asked once more",
}
