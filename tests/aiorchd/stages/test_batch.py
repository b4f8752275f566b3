"""Batch: questions share a call, each gets its own answer and its share of the bill, and whoever leaves harms nobody."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from forgetting import Prompt, forgotten_at_once
from harness import Asked, InnerService, a_call, a_reply, a_usage, ask, cancel_at_every_checkpoint, harness
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_log import KeptLog

from aiorch.errors import (
    BudgetExceeded,
    CallError,
    ContentFiltered,
    ContextExceeded,
    InternalError,
    NoModels,
    ProviderError,
    RateLimited,
)
from aiorchd.calls.batching import BatchScope
from aiorchd.calls.call import Call
from aiorchd.calls.journal import AttemptRecord
from aiorchd.calls.reply import Reply
from aiorchd.config.schema import Batch as Section
from aiorchd.core.batch_schema import batch_schema
from aiorchd.core.token_estimate import prompt_tokens
from aiorchd.runtime.batch_memory import BatchMemory, BatchStatistics
from aiorchd.stages.batch import Batch, BatchStageStatistics


class Memory(BatchMemory):
    """The true memory; how many are checked is said by the test, unless it says "as it is"."""

    def __init__(self, checks: int | None = 0, **section: Any) -> None:
        super().__init__(Section(**section))
        self.checks = checks

    def of(self, operation: str, model: str) -> Any:
        learned = super().of(operation, model)
        if self.checks is not None:
            learned.checks = lambda items: self.checks  # type: ignore[method-assign]
        return learned

    @property
    def told(self) -> BatchStatistics:
        [found] = self.statistics()
        return found


def scope_of(call: Call, **fields: Any) -> BatchScope | str | None:
    if call.operation is None:
        return None
    if not call.batch:
        return "it says so itself"
    wanted = call.request.get("output_schema")
    schema = batch_schema(wanted)
    assert schema is not None
    return BatchScope(
        **{
            "key": call.partition.encode(),
            "operation": call.operation,
            "model": call.model or "",
            "text": call.request["messages"][-1]["content"],
            "system": None,
            "structured": wanted is not None,
            "schema": schema,
            "most": 4,
            "max_wait_s": 0.3,
            "context_tokens": None,
            "output_tokens": None,
            "max_tokens": call.request.get("max_tokens"),
            "free": lambda: True,
            **fields,
        }
    )


def stage_of(
    nursery: trio.Nursery, memory: BatchMemory | None = None, log: Any = None, **scope: Any
) -> tuple[Batch, InnerService[Call]]:
    rng = random.Random(5)
    numbers = iter(range(10_000))
    return harness(
        Batch,
        memory if memory is not None else Memory(),
        nursery,
        log if log is not None else KeptLog(),
        scope_of=partial(scope_of, **scope),
        draw=rng.choice,
        new_id=lambda: f"sent-{next(numbers)}",
        likeness=lambda one, other: 1.0,
    )


def asking(text: str = "cats", **fields: Any) -> Call:
    request = {"messages": [{"role": "user", "content": f"Tag this:\n{text}"}], **fields.pop("request", {})}
    return a_call(**{"operation": "tag", "request": request, **fields})


def items_of(call: Call) -> dict[str, str] | None:
    """The items of a batch by text; None for a single question."""
    *_, last = call.request["messages"]
    start = last["content"].find('{"items":')
    if start < 0:
        return None
    head = last["content"][:start]
    return {
        (head if head != "Tag this:\n" else "") + item["text"]: item["id"]
        for item in json.loads(last["content"][start:])["items"]
    }


def answered(call: Call, answers: Callable[[str], Any] = str.upper, **fields: Any) -> Reply:
    """Answer a batch or a single question with what ``answers`` makes of each text."""
    items = items_of(call)
    fields = {"usage": a_usage(100, 50), "cost_usd": 0.1, "attempts": 1, **fields}
    if items is None:
        return a_reply(str(answers(call.request["messages"][-1]["content"].removeprefix("Tag this:\n"))), **fields)
    entries = [{"id": one, "answer": answers(text)} for text, one in items.items()]
    return a_reply(json.dumps({"answers": entries}), **fields)


def idle(stage: Batch) -> None:
    now = stage.statistics()
    assert (now.gathering, now.flying, now.passengers, now.alone) == (0, 0, 0, 0)
    assert not stage._gathering


async def burst(nursery: trio.Nursery, stage: Batch, *calls: Call) -> list[Asked]:
    """Ask at the same moment, in this order."""
    asked = []
    for call in calls:
        asked.append(ask(nursery, stage, call))
        await trio.testing.wait_all_tasks_blocked()
    return asked


async def test_a_burst_is_asked_in_one_call(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory()
        stage, inner = stage_of(nursery, memory)
        calls = [asking(text) for text in ("cats", "dogs", "mice", "owls")]
        asked = await burst(nursery, stage, *calls)
        received = await inner.next()
        assert set(items_of(received.request) or ()) == {"cats", "dogs", "mice", "owls"}
        assert received.request.id == "sent-0"
        assert received.request.key is None
        assert stage.statistics() == BatchStageStatistics(gathering=0, flying=1, passengers=4, alone=0, abandoned=0)
        await trio.sleep(2)
        received.request.journal.attempts.append(AttemptRecord(1, "small", "main", 0.0, 0.0, 2.0, "ok"))
        received.reply(answered(received.request, provider_s=2.0))
        replies = [await one.reply() for one in asked]
    assert [reply.text for reply in replies] == ["CATS", "DOGS", "MICE", "OWLS"]
    assert all(reply.batched and reply.cache == "miss" for reply in replies)
    assert sum(reply.usage.input for reply in replies if reply.usage) == 100
    assert sum(reply.usage.output for reply in replies if reply.usage) == 50
    assert sum(reply.cost_usd or 0.0 for reply in replies) == 0.1
    assert [reply.attempts for reply in replies] == [1, 0, 0, 0]
    assert [len(call.journal.attempts) for call in calls] == [1, 0, 0, 0]
    assert {reply.provider_s for reply in replies} == {2.0}
    notes = [what for _, _, what in calls[1].journal.notes]
    assert "number 2 of 4" in notes[-1]
    assert "leaves because it is full" in notes[-1]
    assert calls[0].id in notes[-1]
    assert (memory.told.batches, memory.told.items, memory.told.questions) == (1, 4, 4)
    assert memory.told.left == {"it is full": 1}
    assert memory.told.calls_saved == 3
    idle(stage)


@pytest.mark.parametrize("fails", [False, True])
async def test_those_on_board_are_forgotten_at_once(autojump_clock: trio.testing.MockClock, fails: bool) -> None:
    ended = []
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        inner.answer = lambda call: ProviderError("broken") if fails else answered(call)

        async def travel(prompts: list[Prompt]) -> None:
            try:
                reply = await stage(a_call(operation="tag", request=prompts.pop()))
            except ProviderError:
                ended.append("failed")
            else:
                ended.append(reply.text)

        with forgotten_at_once(*(asking(text).request for text in ("cats", "dogs", "dogs", "owls"))) as prompts:
            for _ in range(4):
                nursery.start_soon(travel, prompts)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)
            inner.requests.clear()
    assert sorted(ended) == (["failed"] * 4 if fails else ["CATS", "DOGS", "DOGS", "OWLS"])
    idle(stage)


async def test_unknown_stays_unknown(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        asked = await burst(nursery, stage, *map(asking, "abcd"))
        received = await inner.next()
        received.reply(answered(received.request, usage=None, cost_usd=None))
        assert {(each.usage, each.cost_usd) for each in [await one.reply() for one in asked]} == {(None, None)}


async def test_a_burst_that_does_not_fill_it_leaves_soon(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        asked = await burst(nursery, stage, asking("cats"), asking("dogs"))
        received = await inner.next()
        assert trio.current_time() < 0.01
        received.reply(answered(received.request))
        assert [(await one.reply()).text for one in asked] == ["CATS", "DOGS"]


async def test_who_came_while_the_process_was_held_up_boards(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory()
        stage, inner = stage_of(nursery, memory)
        asked = await burst(nursery, stage, asking("cats"))
        autojump_clock.jump(0.05)  # the wait is over by far when the event loop turns again
        for _ in range(3):  # and only then are its sockets read
            await trio.lowlevel.checkpoint()
        asked += await burst(nursery, stage, asking("dogs"))
        received = await inner.next()
        assert set(items_of(received.request) or ()) == {"cats", "dogs"}
        received.reply(answered(received.request))
        assert [(await one.reply()).text for one in asked] == ["CATS", "DOGS"]
    assert memory.told.alone == {}


async def test_a_lone_question_does_not_wait_where_none_are_expected(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory()
        stage, inner = stage_of(nursery, memory)
        inner.answer = answered
        waits = []
        for number in range(6):
            began = trio.current_time()
            call = asking(f"cats {number}")
            reply = await stage(call)
            waits.append(trio.current_time() - began)
            assert not reply.batched
            await trio.sleep(10)
        assert waits[0] < 0.005
        assert waits[-1] == 0
        assert items_of(inner.requests[-1]) is None
        assert call.journal.notes[-1][2] == "is asked alone: nothing else is expected"
        assert memory.told.alone["nothing else is expected"] >= 3
        assert memory.told.batches == 0
    idle(stage)


async def test_a_steady_stream_gathers_until_the_wait_is_over(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, most=10)
        inner.answer = answered
        for number in range(60):
            ask(nursery, stage, asking(f"cats {number}"))
            await trio.sleep(0.1)
        await trio.sleep(1)
        sizes = [len(items_of(call) or ("",)) for call in inner.requests]
        assert sum(sizes) == 60
        assert max(sizes) in (3, 4)
        assert len(inner.requests) <= 35
    idle(stage)


async def test_where_the_model_could_not_begin_it_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, free=lambda: False)
        await burst(nursery, stage, asking("cats"), asking("dogs"))
        received = await inner.next()
        assert trio.current_time() == pytest.approx(0.3)
        received.reply(answered(received.request))


async def test_who_has_no_time_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, free=lambda: False)
        call = asking("cats", timeout_s=1.0)
        await burst(nursery, stage, call)
        assert (await inner.next()).request is call
        assert call.journal.notes[-1][2] == "is asked alone: it has no time for a batch"
        await burst(nursery, stage, asking("dogs", timeout_s=60), asking("mice", timeout_s=2.5))
        await inner.next()
        assert trio.current_time() == pytest.approx(0.3)
        nursery.cancel_scope.cancel()


async def test_who_has_no_time_for_a_batch_goes_alone_and_hurries_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, free=lambda: False)
        hurried = asking("mice", timeout_s=1.0)
        await burst(nursery, stage, asking("cats"), hurried, asking("dogs"))
        assert (await inner.next()).request is hurried
        assert hurried.journal.notes[-1][2] == "is asked alone: it has no time for a batch"
        assert sorted(items_of((await inner.next()).request) or ()) == ["cats", "dogs"]
        assert trio.current_time() == pytest.approx(0.3)
        nursery.cancel_scope.cancel()


async def test_batches_that_nobody_could_wait_for_are_learned_from(autojump_clock: trio.testing.MockClock) -> None:
    """A batch takes three seconds and a question half a one, and everybody has two."""
    memory, late = Memory(), 0
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, memory)

        async def provider(call: Call) -> Reply:
            await trio.sleep(0.5 if items_of(call) is None else 3.0)
            return answered(call)

        async def host(text: str) -> None:
            nonlocal late
            with trio.move_on_after(2.0) as time:
                await stage(asking(text, timeout_s=2.0))
            late += time.cancelled_caught

        inner.answer = provider
        for number in range(100):
            async with trio.open_nursery() as hosts:
                for one in range(4):
                    hosts.start_soon(host, f"{number} {one}")
        assert 0 < late <= 20  # the first ones, and when it is tried again
        assert memory.told.batches > 1  # it is
        nursery.cancel_scope.cancel()


async def test_what_is_not_alike_is_not_joined(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        inner.answer = answered
        other = asking("x", operation=None)
        own = asking("y", batch=False)
        await burst(
            nursery, stage, asking("a"), asking("b", partition="p"), asking("c"), asking("d", partition="p"), other, own
        )
        await trio.sleep(1)
        assert sorted(sorted(items_of(call) or {"one": ""}) for call in inner.requests) == [
            ["a", "c"],
            ["b", "d"],
            ["one"],
            ["one"],
        ]
        assert other.journal.notes == []
        assert own.journal.notes[0][2] == "is asked alone: it says so itself"


async def test_questions_that_are_the_same_are_asked_once(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory()
        stage, inner = stage_of(nursery, memory, most=5)
        calls = [asking("How long is it"), asking("how long is it?"), asking("5 mm"), asking("5 cm"),
                 asking("how long is it", cache="bypass")]  # fmt: skip
        asked = await burst(nursery, stage, *calls)
        received = await inner.next()
        assert len(json.loads(received.request.request["messages"][-1]["content"].split("\n", 1)[1])["items"]) == 4
        received.reply(answered(received.request))
        replies = [await one.reply() for one in asked]
        assert [reply.text for reply in replies[:4]] == ["HOW LONG IS IT", "HOW LONG IS IT", "5 MM", "5 CM"]
        assert sum(reply.cost_usd or 0 for reply in replies) == 0.1
    assert (memory.told.items, memory.told.questions) == (4, 5)


async def test_what_the_batch_does_not_answer_is_asked_alone_and_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory()
        stage, inner = stage_of(nursery, memory)
        calls = [asking(text) for text in ("cats", "dogs", "mice", "owls")]
        asked = await burst(nursery, stage, *calls)
        received = await inner.next()
        ids = items_of(received.request) or {}
        received.reply(
            a_reply(
                json.dumps({"answers": [
                    {"id": ids["cats"], "answer": "CATS"},
                    {"id": ids["dogs"], "answer": "1"}, {"id": ids["dogs"], "answer": "2"},
                    {"id": ids["mice"], "answer": 7}, {"id": "zzzz", "answer": "x"},
                ]}),
                usage=a_usage(100, 40), cost_usd=0.4, attempts=1,
            )
        )  # fmt: skip
        for _ in range(3):
            again = await inner.next()
            assert items_of(again.request) is None
            assert again.request in calls
            again.reply(answered(again.request))
        replies = [await one.reply() for one in asked]
    assert [reply.text for reply in replies] == ["CATS", "DOGS", "MICE", "OWLS"]
    assert [reply.batched for reply in replies] == [True, False, False, False]
    # The batch, and three times a single question.
    assert sum(reply.cost_usd or 0 for reply in replies) == pytest.approx(0.4 + 3 * 0.1)
    assert sum(reply.usage.total for reply in replies if reply.usage) == 140 + 3 * 150
    assert sum(reply.attempts for reply in replies) == 4
    assert [note[2] for note in calls[3].journal.notes][-1] == "is asked alone: missing"
    assert [call.journal.batch_questions for call in calls] == [4, 4, 4, 4]
    assert [call.journal.batch_left_out for call in calls] == [False, True, True, True]
    assert memory.told.failures == {"doubled": 1, "invalid": 1, "missing": 1, "extra": 1}
    assert memory.told.calls_saved == 0
    idle(stage)


@pytest.mark.parametrize(
    "broken",
    [
        a_reply("Sure! Here are your answers."),
        a_reply('{"answers": [', finish_reason="length"),
        ContextExceeded("too long"),
        ContentFiltered("withheld"),
        BudgetExceeded("no money for so much"),
    ],
    ids=["no JSON", "cut", "too long", "withheld", "no money"],
)
async def test_a_batch_that_is_of_no_use_comes_back_as_singles(
    autojump_clock: trio.testing.MockClock, broken: Reply | CallError
) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        asked = await burst(nursery, stage, *map(asking, ("cats", "dogs", "mice", "owls")))
        received = await inner.next()
        received.reply(broken) if isinstance(broken, Reply) else received.fail(broken)
        for _ in range(4):
            again = await inner.next()
            again.reply(answered(again.request))
        assert [(await one.reply()).text for one in asked] == ["CATS", "DOGS", "MICE", "OWLS"]
        await inner.assert_quiet()
    assert inner.asked == 5
    idle(stage)


@pytest.mark.parametrize("error", [NoModels("nobody"), RateLimited("not now", retry_after_s=7), ProviderError("down")])
async def test_an_outage_is_told_to_everybody_and_multiplies_nothing(
    autojump_clock: trio.testing.MockClock, error: CallError
) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        calls = [asking(text) for text in "abcd"]
        asked = await burst(nursery, stage, *calls)
        received = await inner.next()
        received.request.journal.attempts.append(AttemptRecord(1, "small", "main", 0.0, 0.0, 2.0, "retryable", "x"))
        received.fail(error)
        told = [await one.error() for one in asked]
        assert {(each.code, each.retry_after_s) for each in told} == {(error.code, error.retry_after_s)}
        assert len({id(each) for each in told}) == 4
        await inner.assert_quiet()
    assert inner.asked == 1
    assert [len(call.journal.attempts) for call in calls] == [1, 0, 0, 0]
    idle(stage)


async def test_a_defect_is_logged_once(autojump_clock: trio.testing.MockClock) -> None:
    rows: list[str] = []

    class Told:
        def exception(self, event: str, **fields: Any) -> None:
            rows.append(event)

    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, log=Told())
        asked = await burst(nursery, stage, *map(asking, "abcd"))
        (await inner.next()).fail(ZeroDivisionError())
        assert {type(await one.error()) for one in asked} == {InternalError}
    assert rows == ["batch_failed"]
    idle(stage)


SCHEMA = {"type": "object", "properties": {"tag": {"type": "string"}}, "required": ["tag"]}


async def test_structured_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, output_tokens=300)
        request = {"output_schema": SCHEMA, "max_tokens": 20, "temperature": 0}
        asked = await burst(
            nursery, stage, *(asking(text, request=request) for text in ("cats", "dögs", "mice", "owls"))
        )
        received = await inner.next()
        sent = received.request.request
        assert sent["output_schema"] == batch_schema(SCHEMA)
        assert sent["max_tokens"] == 4 * (20 + 24)
        assert sent["temperature"] == 0
        received.reply(answered(received.request, lambda text: {"tag": text}))
        assert [(await one.reply()).text for one in asked][:2] == ['{"tag": "cats"}', '{"tag": "dögs"}']


async def test_the_limits_of_the_model_bound_a_batch(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory()
        stage, inner = stage_of(nursery, memory, context_tokens=1000)
        inner.answer = answered
        await burst(
            nursery, stage, *(asking(f"{number} " + "word " * 180) for number in range(5)), asking("word " * 1200)
        )
        await trio.sleep(1)
        assert sorted(len(items_of(call) or ()) for call in inner.requests) == [0, 0, 2, 2]
        assert max(prompt_tokens(call.request) for call in inner.requests if items_of(call)) < 1000
        assert memory.told.left["no more fits into it"] == 2
        assert memory.told.alone["another of its size would not fit beside it"] == 1


async def test_a_generation_that_retires_flushes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, free=lambda: False)
        asked = await burst(nursery, stage, asking("cats"), asking("dogs"))
        stage.close()
        received = await inner.next()
        assert trio.current_time() == 0
        assert set(items_of(received.request) or ()) == {"cats", "dogs"}
        call = asking("mice")
        late = ask(nursery, stage, call)
        assert (await inner.next()).request is call
        received.reply(answered(received.request))
        assert [(await one.reply()).text for one in asked] == ["CATS", "DOGS"]
        late.cancel()
    idle(stage)


# --- who leaves


async def test_a_passenger_who_leaves_harms_nobody_and_the_last_one_ends_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        asked = await burst(nursery, stage, *map(asking, ("cats", "dogs", "mice", "owls")))
        received = await inner.next()
        asked[0].cancel()
        asked[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert asked[0].done
        assert not received.is_gone
        received.reply(answered(received.request))
        left = [await one.reply() for one in asked[2:]]
        assert [reply.text for reply in left] == ["MICE", "OWLS"]
        assert sum(reply.cost_usd or 0 for reply in left) == 0.1, "those who are there bear it"
        assert sum(reply.attempts for reply in left) == 1
        idle(stage)
        asked = await burst(nursery, stage, *map(asking, ("cats", "dogs", "mice", "owls")))
        received = await inner.next()
        for one in asked:
            one.cancel()
        await received.gone()
        await trio.testing.wait_all_tasks_blocked()
        assert received.cancelled
        assert all(one.done for one in asked)
        assert stage.statistics() == BatchStageStatistics(0, 0, 0, 0, abandoned=1)


async def test_who_leaves_while_it_gathers_is_not_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, free=lambda: False)
        asked = await burst(nursery, stage, *map(asking, ("cats", "dogs", "mice")))
        asked[0].cancel()
        await trio.sleep(0.3)
        received = await inner.next()
        assert set(items_of(received.request) or ()) == {"dogs", "mice"}
        received.reply(answered(received.request))
        # One who is left behind by all others is asked alone, a batch that everybody leaves not at all.
        asked = await burst(nursery, stage, *map(asking, ("cats", "dogs")))
        asked[0].cancel()
        received = await inner.next()
        assert items_of(received.request) is None
        received.reply(answered(received.request))
        assert (await asked[1].reply()).text == "DOGS"
        asked = await burst(nursery, stage, *map(asking, ("cats", "dogs")))
        for one in asked:
            one.cancel()
        await inner.assert_quiet()
        idle(stage)


async def test_its_deadline_is_the_latest_passengers(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery)
        asked = await burst(nursery, stage, asking("cats", timeout_s=20), asking("dogs", timeout_s=90))
        received = await inner.next()
        assert received.request.deadline == 90
        await received.gone()
        assert trio.current_time() == 90
        assert {(await one.error()).code for one in asked} == {"deadline_exceeded"}
    idle(stage)


async def test_the_nursery_that_ends_says_so() -> None:
    asked: list[Asked] = []
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            stage, inner = stage_of(nursery)
            for text in "abcd":
                asked.append(ask(outer, stage, asking(text)))
            await inner.next()
            nursery.cancel_scope.cancel()
        assert {(await one.error()).code for one in asked} == {"going_away"}
    idle(stage)


# --- checks


async def test_a_check_gives_the_single_answer_and_compares(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory(checks=1)
        stage, inner = stage_of(nursery, memory)
        calls = [asking(text) for text in ("cats", "dogs", "mice", "owls")]
        asked = await burst(nursery, stage, *calls)
        batch, single = sorted([await inner.next(), await inner.next()], key=lambda one: one.request in calls)
        checked = calls.index(single.request)
        assert stage.statistics().alone == 1
        single.reply(answered(single.request, usage=a_usage(30, 10), cost_usd=0.05))
        await trio.testing.wait_all_tasks_blocked()
        assert not asked[checked].done, "it waits for the comparison"
        batch.reply(answered(batch.request, lambda text: f" {text.upper()}."))
        replies = [await one.reply() for one in asked]
    assert [reply.batched for reply in replies].count(False) == 1
    assert (
        replies[checked].text == single.request.request["messages"][-1]["content"].removeprefix("Tag this:\n").upper()
    )
    assert sum(reply.cost_usd or 0 for reply in replies) == pytest.approx(0.15)
    assert sum(reply.usage.total for reply in replies if reply.usage) == 150 + 40
    assert sum(reply.attempts for reply in replies) == 2
    assert calls[checked].journal.notes[-1][2] == "the batch's answer is the same"
    told = memory.told
    assert (told.checks, told.agreed, told.agreement, told.calls_saved) == (1, 1, 1.0, 2)
    assert told.agreement_low is not None
    assert told.tokens_saved == 4 * 40 - 190
    idle(stage)


@pytest.mark.parametrize(
    ("third", "outcome"),
    [("one", "it is the odd one out"), ("other", "it is the one that comes again"), ("more", "a third one comes")],
)
async def test_where_they_differ_a_third_answer_says_which_is_odd(
    autojump_clock: trio.testing.MockClock, third: str, outcome: str
) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory(checks=1)
        stage, inner = stage_of(nursery, memory)
        calls = [asking(text) for text in ("cats", "dogs")]
        asked = await burst(nursery, stage, *calls)
        batch, single = sorted([await inner.next(), await inner.next()], key=lambda one: one.request in calls)
        batch.reply(answered(batch.request, lambda _: "other"))
        single.reply(answered(single.request, lambda _: "one"))
        again = await inner.next()
        assert again.request is single.request
        again.reply(answered(again.request, lambda _: third))
        replies = [await one.reply() for one in asked]
    checked = calls.index(single.request)
    assert (replies[checked].text, replies[1 - checked].text) == ("one", "other")
    assert sum(reply.cost_usd or 0 for reply in replies) == pytest.approx(0.3)
    assert outcome in calls[checked].journal.notes[-1][2]
    told = memory.told
    assert (told.checks, told.agreed, told.asked_again) == (1, 0, 1)
    assert (told.lost or 0.0) == {"one": 1.0, "other": -1.0, "more": 0.0}[third]
    idle(stage)


async def test_a_check_that_fails_takes_the_answer_of_the_batch(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        memory = Memory(checks=1)
        stage, inner = stage_of(nursery, memory)
        calls = [asking(text) for text in ("cats", "dogs")]
        asked = await burst(nursery, stage, *calls)
        batch, single = sorted([await inner.next(), await inner.next()], key=lambda one: one.request in calls)
        single.fail(RateLimited("not now"))
        batch.reply(answered(batch.request))
        assert [(await one.reply()).text for one in asked] == ["CATS", "DOGS"]
        # And the other way round: what befalls the batch is nothing to who has an answer.
        calls = [asking(text) for text in ("mice", "owls")]
        asked = await burst(nursery, stage, *calls)
        batch, single = sorted([await inner.next(), await inner.next()], key=lambda one: one.request in calls)
        single.reply(answered(single.request))
        batch.fail(RateLimited("not now"))
        results = [await one.wait() for one in asked]
        assert {type(one) for one in results} == {Reply, RateLimited}
    assert memory.told.checks == 0
    idle(stage)


async def test_who_has_a_single_answer_waits_for_the_comparison_within_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        stage, inner = stage_of(nursery, Memory(checks=1))
        calls = [asking(text, timeout_s=10) for text in ("cats", "dogs")]
        asked = await burst(nursery, stage, *calls)
        batch, single = sorted([await inner.next(), await inner.next()], key=lambda one: one.request in calls)
        single.reply(answered(single.request))
        checked = asked[calls.index(single.request)]
        assert (await checked.reply()).text in ("CATS", "DOGS")
        assert 9 < trio.current_time() < 10
        batch.reply(answered(batch.request))
        assert {(await one.reply()).text for one in asked} == {"CATS", "DOGS"}
    idle(stage)


async def test_prose_is_compared_by_what_it_says(autojump_clock: trio.testing.MockClock) -> None:
    prose = "You can reset the password of your account on the settings page: open the menu, choose security, and press the button there."
    async with trio.open_nursery() as nursery:
        memory = Memory(checks=1)
        stage, inner = stage_of(nursery, memory)
        calls = [asking(text) for text in ("cats", "dogs")]
        asked = await burst(nursery, stage, *calls)
        batch, single = sorted([await inner.next(), await inner.next()], key=lambda one: one.request in calls)
        batch.reply(answered(batch.request, lambda _: prose.replace("press the", "press that")))
        single.reply(answered(single.request, lambda _: prose))
        assert {(await one.reply()).batched for one in asked} == {True, False}
    assert (memory.told.checks, memory.told.agreed) == (1, 1)


async def test_a_model_that_is_worse_in_batches_is_asked_in_smaller_ones(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """95 % right alone, 75 % in batches of more than five: found within 200 items, and smaller ones from then on."""
    rng = random.Random(2)

    async def model(call: Call) -> Reply:
        await trio.sleep(0.5)
        size = len(items_of(call) or ("",))
        return answered(call, lambda text: f"wrong {size}" if size > 5 and rng.random() < 0.2 else f"{text} is right")

    async with trio.open_nursery() as nursery:
        memory = Memory(checks=None)
        stage, inner = stage_of(nursery, memory, most=10)
        inner.answer = model
        found_after = None
        for number in range(40):
            calls = [asking(f"number {number} {place}") for place in range(20)]
            asked = [ask(nursery, stage, call) for call in calls]
            for one in asked:
                await one.reply()
            if found_after is None and memory.told.lowered:
                found_after = (number + 1) * 20
            await trio.sleep(3)
        assert found_after is not None
        assert found_after <= 200
        assert memory.told.allowed < 8
        assert memory.told.asked_again >= 3
        assert memory.told.alone == {} or sum(memory.told.alone.values()) < 50
    idle(stage)


# --- whatever happens


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(
        st.text(max_size=30).filter(str.strip),
        min_size=2,
        max_size=4,
        unique_by=lambda text: text.casefold().strip(" .!?\n"),
    ),
    confusion=st.sampled_from(["", "swap", "drop", "double", "extra", "prose"]),
    checks=st.integers(0, 2),
)
def test_nobody_gets_the_answer_to_anothers_question(texts: list[str], confusion: str, checks: int) -> None:
    """Whatever stands in the texts, and however the answer is confused, short of answering under a wrong id."""

    def confused(call: Call) -> Reply:
        *_, last = call.request["messages"]
        document = last["content"][last["content"].rfind('{"items":') :]
        try:
            items = json.loads(document)["items"] if call.id.startswith("sent-") else None
        except ValueError:
            items = None
        if items is None:
            return a_reply("alone")
        head = last["content"].removesuffix(document)
        entries = [{"id": item["id"], "answer": f"<{head}|{item['text']}>"} for item in items]
        if confusion == "swap":
            entries.reverse()
        elif confusion == "drop":
            entries.pop()
        elif confusion == "double":
            entries.append(entries[0])
        elif confusion == "extra":
            entries.append({"id": texts[0], "answer": "x"})
        elif confusion == "prose":
            return a_reply("I cannot")
        return a_reply(json.dumps({"answers": entries}))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            stage, inner = stage_of(nursery, Memory(checks=checks))
            inner.answer = confused
            calls = [asking(text) for text in texts]
            asked = [ask(nursery, stage, call) for call in calls]
            for call, one in zip(calls, asked, strict=True):
                reply = await one.reply()
                if reply.text != "alone":
                    text = reply.text.removeprefix("<").removesuffix(">").split("|", 1)[1]
                    assert call.request["messages"][-1]["content"].endswith(text)
        idle(stage)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("checks", [0, 1])
@pytest.mark.parametrize("who", ["first", "middle", "all"])
async def test_cancelled_anywhere_it_holds_nothing(
    autojump_clock: trio.testing.MockClock, checks: int, who: str
) -> None:
    def scenario(nursery: trio.Nursery) -> tuple[Batch, Any]:
        memory = Memory(checks=checks)
        stage, inner = stage_of(nursery, memory)

        async def answer(call: Call) -> Reply:
            await trio.sleep(1 if items_of(call) is None else 2)
            if call.operation and items_of(call):
                return answered(call, lambda text: 7 if text == "dogs" else "differs")
            return answered(call)

        inner.answer = answer

        async def run() -> None:
            if who == "all":
                async with trio.open_nursery() as ours:
                    for text in ("cats", "dogs", "mice"):
                        ours.start_soon(stage, asking(text))
            else:
                others = ("dogs", "mice") if who == "first" else ("cats", "mice")
                mine = asking("cats" if who == "first" else "dogs")
                if who == "first":
                    nursery.start_soon(others_ask, others)
                    await stage(mine)
                else:
                    nursery.start_soon(others_ask, others)
                    await trio.lowlevel.checkpoint()
                    await stage(mine)

        async def others_ask(texts: tuple[str, ...]) -> None:
            async with trio.open_nursery() as theirs:
                for text in texts:
                    theirs.start_soon(stage, asking(text))

        return stage, run

    async def assert_idle(stage: Batch) -> None:
        await trio.sleep(20)  # the others' calls end
        idle(stage)

    await cancel_at_every_checkpoint(scenario, assert_idle, at_least=5)


def test_what_is_known_is_bounded_and_follows_the_configuration() -> None:
    from aiorchd.config.schema import Config, Operation

    memory = BatchMemory(Section())
    for number in range(1100):
        memory.pauses(number.to_bytes(4, "big"))
        memory.of("tag", f"model {number}")
    assert len(memory._pauses) == len(memory._learned) == 1000
    memory.of("gone", "")
    memory.reconfigure(Config(operations={"tag": Operation()}, batch=Section(target_agreement=0.9)))
    assert {told.operation for told in memory.statistics()} == {"tag"}
    learned = memory.of("tag", "fresh")
    told = learned.statistics()
    assert (told.mean_items, told.agreement, told.tokens_saved, told.usd_saved, told.lost) == (None,) * 5
    assert told.failures == {}
    # The section is read at each use.
    for _ in range(40):
        learned.checked("agreed", 8)
    few = sum(learned.checks(10) for _ in range(10))
    memory.reconfigure(Config(operations={"tag": Operation()}, batch=Section(check_share=0.8)))
    assert few <= 5 < sum(learned.checks(10) for _ in range(10))
    for _ in range(8):
        learned.checked("batch_odd", 8)
    assert learned.statistics().lowered >= 1
