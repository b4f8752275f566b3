"""Repeats: the caller's own key is answered once, whatever becomes of the connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from harness import InnerService, RecordedSink, a_call, a_reply, ask, cancel_at_every_checkpoint, harness
from kept_log import KeptLog

from aiorch.errors import DeadlineExceeded, InternalError, InvalidRequest, ProviderError
from aiorchd.calls.call import Call
from aiorchd.core.memory_cache import MemoryCache
from aiorchd.stages.repeats import KEPT_S, Kept, Repeats


def keyed(prompt: str = "q", key: bytes = b"k", **fields: Any) -> Call:
    return a_call(prompt, repeat_key=key, repeat_question=prompt.encode(), **fields)


class Wall:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def repeats(wall: Wall | None = None) -> AsyncIterator[tuple[Repeats, InnerService[Call], trio.Nursery, KeptLog]]:
    log = KeptLog()
    kept: MemoryCache[Kept] = MemoryCache(10, 100_000)
    async with trio.open_nursery() as nursery:
        service, inner = harness(Repeats, kept, nursery, wall or Wall(), log)
        yield service, inner, nursery, log
    assert service.statistics().running == 0


async def test_calls_without_a_key_pass_through() -> None:
    async with repeats() as (service, inner, nursery, _):
        asked = ask(nursery, service, a_call())
        (await inner.next()).reply(a_reply("A"))
        assert (await asked.reply()).text == "A"
        assert service.statistics().kept == 0


async def test_the_same_key_is_answered_again_without_asking() -> None:
    wall = Wall()
    async with repeats(wall) as (service, inner, nursery, _):
        asked = ask(nursery, service, keyed())
        (await inner.next()).reply(a_reply("A", cost_usd=0.5))
        assert (await asked.reply()).cache == "miss"
        again = await service(keyed())
        assert (again.text, again.cache, again.saved_usd) == ("A", "exact", 0.5)
        wall.now += KEPT_S + 1
        late = ask(nursery, service, keyed())
        (await inner.next()).reply(a_reply("B"))
        assert (await late.reply()).text == "B"


async def test_the_call_goes_on_when_its_caller_is_gone() -> None:
    async with repeats() as (service, inner, nursery, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as caller:
                caller.start_soon(service, keyed())
                received = await inner.next()
                scope.cancel()
        assert service.statistics().running == 1
        second = ask(nursery, service, keyed())
        await trio.testing.wait_all_tasks_blocked()
        received.reply(a_reply("A"))
        assert (await second.reply()).text == "A"


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
        service, inner = harness(Repeats, MemoryCache[Kept](10, 100_000), nursery, Wall(), KeptLog())

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
