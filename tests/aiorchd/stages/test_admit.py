"""Admit: room for so many, and a clear word to the rest."""

from __future__ import annotations

import pytest
import trio
from harness import a_call, a_caller, a_reply, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import Overloaded, ProviderError
from aiorchd.core.occupancy import Occupancy
from aiorchd.stages.admit import Admit


async def test_lets_in_and_out(autojump_clock):
    service, inner = harness(Admit, Occupancy(2))
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, call := a_call())
        received = await inner.next()
        assert received.request is call
        assert service.statistics().inside == 1
        await trio.sleep(3)
        received.reply(text="Eight.")
        assert (await asked.reply()).text == "Eight."
    assert service.statistics().inside == 0
    assert service.statistics().mean_stay_s > 1.0


async def test_turns_away_at_once_when_the_house_is_full(autojump_clock):
    service, inner = harness(Admit, Occupancy(1))
    async with trio.open_nursery() as nursery:
        first = ask(nursery, service, a_call())
        received = await inner.next()
        with pytest.raises(Overloaded, match=r"queue\.max_inside") as caught:
            await service(a_call())
        assert caught.value.retry_after_s == 1.0
        assert (caught.value.stage, caught.value.retryable) == ("admit", True)
        assert caught.value.details == {"reason": "full", "limit_of": "house", "limit": 1}
        received.fail(ProviderError("broken"))
        await first.error()
        second = ask(nursery, service, a_call())
        (await inner.next()).reply()
        await second.reply()


async def test_one_caller_cannot_fill_the_house(autojump_clock):
    service, inner = harness(Admit, Occupancy(10, 1))
    async with trio.open_nursery() as nursery:
        ask(nursery, service, a_call(caller=a_caller(1)))
        first = await inner.next()
        with pytest.raises(Overloaded, match="max_inside_per_caller"):
            await service(a_call(caller=a_caller(1)))
        other = ask(nursery, service, a_call(caller=a_caller(2)))
        (await inner.next()).reply()
        await other.reply()
        first.reply()


async def test_generations_share_the_house(autojump_clock):
    occupancy = Occupancy(1)
    old, inner = harness(Admit, occupancy)
    new, _ = harness(Admit, occupancy)
    async with trio.open_nursery() as nursery:
        ask(nursery, old, a_call())
        received = await inner.next()
        with pytest.raises(Overloaded):
            await new(a_call())
        received.reply()


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        service, inner = harness(Admit, Occupancy(1))

        async def slowly(call):
            await trio.sleep(1)
            return a_reply()

        inner.answer = slowly
        return service, lambda: service(a_call())

    def idle(service):
        assert (service.statistics().inside, service.statistics().inside_by_caller) == (0, {})

    await cancel_at_every_checkpoint(scenario, idle)
