"""Observe, Deadline, Cache, Coalesce and Validate on top of each other: what only shows when they stand together."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from harness import InnerService, a_call, a_reply, ask, cancel_at_every_checkpoint
from kept_log import KeptLog

from aiorch.errors import CallError, DeadlineExceeded
from aiorchd.calls.call import Call
from aiorchd.calls.journal import AttemptRecord, CallRecord, Hit
from aiorchd.calls.kept import Kept
from aiorchd.calls.leash import Leash
from aiorchd.calls.reply import Reply
from aiorchd.core.memory_cache import MemoryCache
from aiorchd.core.s3_fifo import S3FifoCache
from aiorchd.runtime.crew import Crew
from aiorchd.stages.cache import Cache
from aiorchd.stages.coalesce import Coalesce
from aiorchd.stages.deadline import Deadline
from aiorchd.stages.json_schema import JsonSchemas
from aiorchd.stages.observe import Observe
from aiorchd.stages.relay import Relay
from aiorchd.stages.validate import Validate

SCHEMA = {"type": "object", "required": ["a"]}


class Records:
    def __init__(self) -> None:
        self.rows: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.rows.append(record)

    def record_hit(self, hit: Hit) -> None:
        self.rows.append(hit.record())


class Stack:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.inner: InnerService[Call] = InnerService()
        self.records = Records()
        self.validate = Validate(self.inner, JsonSchemas())
        self.coalesce = Coalesce(self.validate, Crew(nursery), KeptLog(), Relay)
        memory: MemoryCache[Kept] = S3FifoCache(100, 10**7)
        self.cache = Cache(
            self.coalesce, strategy="memory", memory=memory, store=None, wall_clock=lambda: 1_700_000_000.0, ttl_s=60.0
        )
        self.deadline = Deadline(self.cache)
        self.observe = Observe(self.deadline, self.records)

    def assert_idle(self) -> None:
        assert self.observe.statistics().inside == 0
        assert self.deadline.statistics().inside == 0
        assert self.cache.statistics().busy == 0
        assert self.coalesce.statistics().flights == self.coalesce.statistics().passengers == 0
        assert self.validate.statistics().inside == 0


def asking(key: bytes = b"k", **fields: Any) -> Call:
    request = {"messages": [{"role": "user", "content": "?"}], "output_schema": SCHEMA}
    return a_call(**{"key": key, "request": request, **fields})


async def test_a_call_that_times_out_tells_the_attempt_that_was_broken_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        stack = Stack(nursery)

        async def hang(call: Call) -> Reply:
            call.journal.note(trio.current_time(), "dispatch", "waits for small")
            try:
                await trio.sleep_forever()
            finally:
                call.journal.attempts.append(
                    AttemptRecord(
                        number=1, model="small", provider="main", began_s=0, queue_s=0, provider_s=5, verdict="ignored"
                    )
                )
            raise AssertionError("never")

        stack.inner.answer = hang
        with pytest.raises(DeadlineExceeded, match="dispatch: waits for small"):
            await stack.observe(asking(timeout_s=5))
        (row,) = stack.records.rows
        assert (row.error, row.attempts, row.model, row.total_s) == ("deadline_exceeded", 1, "small", 5.0)
        stack.assert_idle()


class GoingOn(trio.abc.Clock):
    """Time passes with every look at it, as where thousands are busy; and jumps where nobody is."""

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        self._now += 1e-4
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline < math.inf:
            self._now = max(self._now, deadline)
        return deadline - self._now


def test_whoever_times_out_is_told_by_its_own_deadline_and_not_by_the_flight_s() -> None:
    told: list[tuple[str | None, str]] = []

    async def hang(_: Call) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        async with trio.open_nursery() as flights, trio.open_nursery() as connection:
            deadline = Deadline(Coalesce(hang, Crew(flights), KeptLog(), Relay))
            crew = Crew(connection)
            for number in range(200):
                leash = Leash()

                async def tell(call: Call) -> None:
                    with pytest.raises(DeadlineExceeded) as error:
                        await deadline(call)
                    told.append((error.value.stage, error.value.message))

                call = a_call(key=b"%d" % number, timeout_s=5, leash=leash)
                leash.scope = crew.begin(math.inf, tell, call)
            crew.close()
        assert deadline.statistics().expired == 200

    trio.run(main, clock=GoingOn())
    assert told == [("deadline", "no answer within 5 s")] * 200


async def test_many_callers_of_one_question_make_one_miss(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stack = Stack(nursery)

        async def answer(_: Call) -> Reply:
            await trio.sleep(1)
            return a_reply('{"a": 1}', cost_usd=0.5)

        stack.inner.answer = answer
        early = [ask(nursery, stack.observe, asking()) for _ in range(5)]
        for one in early:
            assert (await one.reply()).data == {"a": 1}
        assert (await stack.observe(asking())).cache == "exact"
        rows = stack.records.rows
        assert sorted(row.cache for row in rows) == ["coalesced"] * 4 + ["exact", "miss"]
        assert sum(row.cost_usd or 0 for row in rows) == 0.5
        assert sum(row.saved_usd or 0 for row in rows) == 2.5
        source = next(row.id for row in rows if row.cache == "miss")
        assert {row.source_id for row in rows if row.cache != "miss"} == {source}
        stack.assert_idle()


async def test_a_bad_answer_is_shared_as_an_error_and_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stack = Stack(nursery)
        stack.inner.answer = lambda _: a_reply("no JSON")
        asked = [ask(nursery, stack.observe, asking()) for _ in range(3)]
        assert {(await one.error()).code for one in asked} == {"validation_failed"}
        assert stack.inner.asked == 2  # asked for again once
        stack.inner.answer = lambda _: a_reply('{"a": 1}')
        assert (await stack.observe(asking())).cache == "miss"
        stack.assert_idle()


@pytest.mark.parametrize("fate", ["good", "bad", "late"])
async def test_cancelled_anywhere_all_are_idle_and_every_call_told_once(
    autojump_clock: trio.testing.MockClock, fate: str
) -> None:
    callers = 4

    def scenario(nursery: trio.Nursery) -> Any:
        stack = Stack(nursery)

        async def answer(_: Call) -> Reply:
            await trio.sleep(20 if fate == "late" else 1)
            return a_reply('{"a": 1}' if fate == "good" else "no JSON")

        stack.inner.answer = answer

        async def one(number: int) -> None:
            try:
                await stack.observe(asking(b"%d" % (number % 2), timeout_s=5 + number))
            except CallError as error:
                assert error.code in ("validation_failed", "deadline_exceeded")

        async def run() -> None:
            async with trio.open_nursery() as asking_nursery:
                for number in range(callers):
                    asking_nursery.start_soon(one, number)

        return stack, run

    async def idle(stack: Stack) -> None:
        stack.assert_idle()
        ids = [row.id for row in stack.records.rows]
        assert len(ids) == len(set(ids)) <= callers
        assert len(ids) == sum(
            getattr(stack.observe.statistics(), name) for name in ("answered", "failed", "cancelled")
        )

    await cancel_at_every_checkpoint(scenario, idle, at_least=8)
