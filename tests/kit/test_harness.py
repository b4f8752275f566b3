"""The kit itself: a test that cannot fail proves nothing."""

from __future__ import annotations

import pytest
import trio
from harness import RecordedSink, a_call, a_reply, an_attempt, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import CallError, Overloaded, ProviderError


class Through:
    """A stage that does nothing."""

    def __init__(self, inner):
        self._inner = inner

    async def __call__(self, request):
        return await self._inner(request)


class Counter:
    """Holds one of something while the inner service works; gives it back only when it should, or not."""

    def __init__(self, inner, *, leaks=False):
        self._inner = inner
        self._leaks = leaks
        self.held = 0

    async def __call__(self, request):
        await trio.lowlevel.checkpoint()
        self.held += 1
        if self._leaks:
            reply = await self._inner(request)
            self.held -= 1
            return reply
        try:
            return await self._inner(request)
        finally:
            self.held -= 1


async def test_the_test_plays_the_inner_service(autojump_clock):
    service, inner = harness(Through)
    async with trio.open_nursery() as nursery:
        call = a_call("one")
        first = ask(nursery, service, call)
        received = await inner.next()
        assert received.request is call
        received.reply(text="1")
        assert (await first.reply()).text == "1"

        second = ask(nursery, service, a_call("two"))
        (await inner.next()).fail(ProviderError("broken"))
        assert (await second.error()).code == "provider_error"
    await inner.assert_quiet()
    assert (inner.asked, inner.in_flight) == (2, 0)


async def test_a_cancelled_request_says_so(autojump_clock):
    service, inner = harness(Through)
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, an_attempt())
        received = await inner.next()
        assert not received.is_gone
        asked.cancel()
        await received.gone()
        assert received.cancelled
        assert await asked.wait() is None
        with pytest.raises(AssertionError, match="gone"):
            received.reply()


async def test_answers_by_itself(autojump_clock):
    service, inner = harness(Through)

    async def slowly(call):
        await trio.sleep(2)
        return a_reply(text="late")

    inner.answer = slowly
    assert (await service(a_call())).text == "late"
    assert trio.current_time() == pytest.approx(2.0)
    inner.answer = lambda call: Overloaded("full")
    with pytest.raises(CallError, match="full"):
        await service(a_call())


async def test_unexpected_requests_are_noticed(autojump_clock):
    service, inner = harness(Through)
    async with trio.open_nursery() as nursery:
        ask(nursery, service, a_call())
        with pytest.raises(AssertionError, match="unexpected"):
            await inner.assert_quiet()
        nursery.cancel_scope.cancel()


async def test_the_sink_records(autojump_clock):
    sink = RecordedSink()
    assert not sink.started
    await sink.send(text="a")
    await sink.send(text="b")
    assert sink.started
    assert sink.text == "ab"


def _counting(leaks):
    def scenario(nursery):
        service, inner = harness(Counter, leaks=leaks)

        async def answer(call):
            await trio.sleep(1)
            await trio.sleep(1)
            return a_reply()

        inner.answer = answer
        return service, lambda: service(a_call())

    return scenario


def _idle(service):
    assert service.held == 0


async def test_cancelling_everywhere_passes_a_sound_stage(autojump_clock):
    steps = await cancel_at_every_checkpoint(_counting(leaks=False), _idle)
    assert steps >= 4  # the stage's own, the inner service's, and two sleeps


async def test_cancelling_everywhere_finds_a_leak(autojump_clock):
    with pytest.raises(AssertionError, match="held") as caught:
        await cancel_at_every_checkpoint(_counting(leaks=True), _idle)
    assert any("cancelled at checkpoint" in note for note in caught.value.__notes__)


async def test_cancelling_everywhere_shows_the_stages_error(autojump_clock):
    def scenario(nursery):
        service, inner = harness(Through)
        inner.answer = lambda call: ValueError("a defect")
        return service, lambda: service(a_call())

    with pytest.raises(ValueError, match="a defect"):
        await cancel_at_every_checkpoint(scenario, lambda service: None)


async def test_cancelling_everywhere_demands_checkpoints(autojump_clock):
    def scenario(nursery):
        service, inner = harness(Through)
        inner.answer = lambda call: a_reply()
        return service, lambda: service(a_call())

    with pytest.raises(AssertionError, match="only"):
        await cancel_at_every_checkpoint(scenario, lambda service: None, at_least=50)
