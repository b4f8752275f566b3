"""Repeats: the caller's own key is answered once, whatever becomes of the connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from forgetting import forgotten_at_once
from harness import InnerService, RecordedSink, a_call, a_reply, ask, cancel_at_every_checkpoint, harness
from kept_log import KeptLog

from aiorch.errors import CallError, DeadlineExceeded, InternalError, InvalidRequest, ProviderError
from aiorchd.calls.call import Call
from aiorchd.calls.reply import Reply
from aiorchd.core.memory_cache import MemoryCache
from aiorchd.stages.repeats import KEPT_S, Kept, KeyedCalls, Repeats


def keyed(prompt: str = "q", key: bytes = b"k", **fields: Any) -> Call:
    return a_call(prompt, repeat_key=key, repeat_question=prompt.encode(), **fields)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """Ends of calls that went on without their caller."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str, bool]] = []

    def __call__(self, call: Call, reply: Reply | None, error: CallError | None, /, *, cancelled: bool = False) -> None:
        self.ends.append((call.id, reply.text if reply is not None else error.code if error else "", cancelled))


def keyed_calls() -> KeyedCalls:
    kept: MemoryCache[Kept] = MemoryCache(10, 100_000)
    return KeyedCalls(kept)


@asynccontextmanager
async def repeats(
    clock: Clock | None = None, *, told: Told | None = None
) -> AsyncIterator[tuple[Repeats, InnerService[Call], trio.Nursery, KeptLog]]:
    log = KeptLog()
    async with trio.open_nursery() as nursery:
        service, inner = harness(Repeats, keyed_calls(), nursery, clock or Clock(), log, told or Told())
        yield service, inner, nursery, log
    assert service.statistics().running == 0


async def test_calls_without_a_key_pass_through() -> None:
    async with repeats() as (service, inner, nursery, _):
        asked = ask(nursery, service, a_call())
        (await inner.next()).reply(a_reply("A"))
        assert (await asked.reply()).text == "A"
        assert service.statistics().kept == 0


async def test_the_same_key_is_answered_again_without_asking() -> None:
    clock = Clock()
    async with repeats(clock) as (service, inner, nursery, _):
        asked = ask(nursery, service, keyed())
        (await inner.next()).reply(a_reply("A", cost_usd=0.5))
        assert (await asked.reply()).cache == "miss"
        again = await service(keyed())
        assert (again.text, again.cache, again.saved_usd) == ("A", "exact", 0.5)
        clock.now += KEPT_S + 1
        late = ask(nursery, service, keyed())
        (await inner.next()).reply(a_reply("B"))
        assert (await late.reply()).text == "B"


async def test_the_call_goes_on_when_its_caller_is_gone_and_is_recorded_at_its_end() -> None:
    told = Told()
    async with repeats(told=told) as (service, inner, nursery, _):
        call = keyed(id="first")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as caller:
                caller.start_soon(service, call)
                received = await inner.next()
                scope.cancel()
        assert service.statistics().running == 1
        assert call.journal.goes_on  # so that nobody records an end that was none
        second = ask(nursery, service, keyed())
        await trio.testing.wait_all_tasks_blocked()
        assert told.ends == []
        received.reply(a_reply("A"))
        assert (await second.reply()).text == "A"
        assert told.ends == [("first", "A", False)]


async def test_what_its_caller_sees_end_is_not_recorded_here() -> None:
    told = Told()
    async with repeats(told=told) as (service, inner, nursery, _):
        call = keyed()
        asked = ask(nursery, service, call)
        (await inner.next()).reply(a_reply("A"))
        await asked.reply()
        assert (told.ends, call.journal.goes_on) == ([], False)


async def test_torn_down_without_its_caller_it_is_recorded_as_cancelled() -> None:
    told = Told()
    async with repeats(told=told) as (service, inner, nursery, _):
        async with trio.open_nursery() as caller:
            caller.start_soon(service, keyed(id="first"))
            await inner.next()
            caller.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert told.ends == [("first", "going_away", True)]


async def test_it_lives_as_long_as_the_latest_who_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with repeats() as (service, inner, nursery, _):
        first = ask(nursery, service, keyed(timeout_s=5))
        received = await inner.next()
        second = ask(nursery, service, keyed(timeout_s=50))
        await trio.sleep(20)
        assert received.request.deadline == 50
        received.reply(a_reply("late"))
        assert (await second.reply()).text == "late"
        assert (await first.reply()).text == "late"  # the stage of the deadline is not here


async def test_a_key_means_the_same_after_a_reload() -> None:
    calls = keyed_calls()
    async with trio.open_nursery() as nursery:
        old, inner = harness(Repeats, calls, nursery, Clock(), KeptLog(), Told())
        new, _ = harness(Repeats, calls, nursery, Clock(), KeptLog(), Told())
        first = ask(nursery, old, keyed())
        received = await inner.next()
        second = ask(nursery, new, keyed())
        await trio.testing.wait_all_tasks_blocked()
        received.reply(a_reply("A"))
        assert [(await asked.reply()).cache for asked in (first, second)] == ["miss", "exact"]


async def test_who_repeats_a_running_stream_waits_for_it() -> None:
    async with repeats() as (service, inner, nursery, _):
        first = ask(nursery, service, keyed(sink=RecordedSink()))
        received = await inner.next()
        sink = RecordedSink()
        second = ask(nursery, service, keyed(sink=sink, timeout_s=1000))
        await trio.testing.wait_all_tasks_blocked()
        received.reply(a_reply("whole"))
        assert [(await asked.reply()).cache for asked in (first, second)] == ["miss", "exact"]
        assert sink.text == "whole"


async def test_a_stream_that_fails_leaves_its_place_to_who_waits() -> None:
    async with repeats() as (service, inner, nursery, _):
        async with trio.open_nursery() as caller:
            caller.start_soon(service, keyed(sink=RecordedSink()))
            await inner.next()
            second = ask(nursery, service, keyed())
            await trio.testing.wait_all_tasks_blocked()
            caller.cancel_scope.cancel()
        (await inner.next()).reply(a_reply("A"))
        assert (await second.reply()).cache == "miss"


async def test_the_same_key_for_another_question_is_refused() -> None:
    async with repeats() as (service, inner, nursery, _):
        first = ask(nursery, service, keyed("one"))
        received = await inner.next()
        with pytest.raises(InvalidRequest, match="key: was used"):
            await service(keyed("two"))
        received.reply(a_reply("A"))
        await first.reply()
        with pytest.raises(InvalidRequest, match="key: was used"):
            await service(keyed("two"))


async def test_errors_are_copies_and_are_not_kept() -> None:
    async with repeats() as (service, inner, nursery, _):
        first, second = ask(nursery, service, keyed()), ask(nursery, service, keyed())
        received = await inner.next()
        await trio.testing.wait_all_tasks_blocked()
        received.fail(ProviderError("down"))
        errors = [await asked.error() for asked in (first, second)]
        assert [type(error) for error in errors] == [ProviderError, ProviderError]
        assert errors[0] is not errors[1]
        again = ask(nursery, service, keyed())
        (await inner.next()).reply(a_reply("A"))
        assert (await again.reply()).text == "A"


async def test_a_defect_is_logged_and_told_as_internal() -> None:
    async with repeats() as (service, inner, nursery, log):
        asked = ask(nursery, service, keyed())
        (await inner.next()).fail(RuntimeError("defect"))
        assert isinstance(await asked.error(), InternalError)
        assert log.lines[0][0] == "keyed_call_failed"


async def test_it_does_not_outlive_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with repeats() as (service, inner, nursery, _):
        asked = ask(nursery, service, keyed(timeout_s=5))
        await inner.next()
        assert isinstance(await asked.error(), DeadlineExceeded)


async def test_a_stream_is_kept_and_given_whole_to_who_repeats_it() -> None:
    async with repeats() as (service, inner, nursery, _):
        sink = RecordedSink()
        asked = ask(nursery, service, keyed(sink=sink))
        received = await inner.next()
        assert received.request.sink is sink
        received.reply(a_reply("whole"))
        await asked.reply()
        again = RecordedSink()
        assert (await service(keyed(sink=again))).text == "whole"
        assert again.text == "whole"


async def test_cancelled_at_any_checkpoint_nothing_is_held() -> None:
    def make(nursery: trio.Nursery) -> tuple[Repeats, Any]:
        service, inner = harness(Repeats, keyed_calls(), nursery, Clock(), KeptLog(), Told())

        async def run() -> None:
            async with trio.open_nursery() as callers:
                asked = ask(callers, service, keyed())
                (await inner.next()).reply(a_reply("A"))
                await asked.reply()
                await service(keyed())

        return service, run

    def idle(service: Repeats) -> None:
        # A call whose caller left may still be under way (that is the point); it ends with its provider's answer.
        assert service.statistics().running <= 1

    await cancel_at_every_checkpoint(make, idle)


async def test_a_failed_call_is_forgotten_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with repeats() as (service, inner, _, _):
        inner.answer = lambda _: ProviderError("broken")
        with forgotten_at_once() as prompts:
            with pytest.raises(ProviderError):
                await service(keyed(request=prompts.pop()))
            inner.requests.clear()
            await trio.testing.wait_all_tasks_blocked()
