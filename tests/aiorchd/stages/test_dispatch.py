"""Dispatch: the provider's answer, signed, and no longer than an attempt may take."""

from __future__ import annotations

import pytest
import trio
from harness import InnerService, RecordedSink, a_call, a_reply, a_target, an_attempt, ask, cancel_at_every_checkpoint
from msgspec.structs import force_setattr, replace

from aiorch.errors import IncompleteStream, ProviderError, RateLimited
from aiorchd.stages.dispatch import AttemptTimes, Dispatch, DispatchStatistics


class PlayedProvider:
    """Both faces of a provider, each played by the test."""

    def __init__(self, attempt_s=None):
        self.attempt_s = attempt_s
        self.chat = InnerService()
        self.embed = InnerService()


def dispatch(timeout_s=30.0, bounded_s=None, **times):
    provider = PlayedProvider(bounded_s)
    return Dispatch(provider, AttemptTimes(timeout_s, **times)), provider


async def test_chat_and_embed_go_their_ways(autojump_clock):
    service, provider = dispatch()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, attempt := an_attempt())
        received = await provider.chat.next()
        assert received.request is attempt, "who does not stream needs no copy"
        received.reply(text="hello")
        assert (await asked.reply()).text == "hello"
        asked = ask(nursery, service, an_attempt(a_call(kind="embed", request={"input": ["a"]})))
        (await provider.embed.next()).reply(vectors=(b"1234",))
        assert (await asked.reply()).vectors == (b"1234",)


async def test_the_reply_is_signed_by_its_target(autojump_clock):
    service, provider = dispatch()
    target = a_target("fast", provider="there", provider_model="fast-2026", simulated=True)
    provider.chat.answer = lambda attempt: a_reply(model="", provider="", provider_model=None)
    reply = await service(an_attempt(target=target))
    assert (reply.model, reply.provider, reply.provider_model, reply.simulated) == ("fast", "there", "fast-2026", True)
    provider.chat.answer = lambda attempt: a_reply(model="its own name", provider_model="fast-2026-11-20")
    reply = await service(an_attempt(target=target))
    assert (reply.model, reply.provider_model) == ("fast", "fast-2026-11-20")
    signed = replace(reply)
    provider.chat.answer = lambda attempt: signed
    assert await service(an_attempt(target=target)) is signed


async def test_an_attempt_ends_when_it_takes_too_long(autojump_clock):
    service, provider = dispatch(timeout_s=5.0)
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, an_attempt())
        received = await provider.chat.next()
        error = await asked.error()
        assert (error.code, error.retryable, error.stage) == ("provider_error", True, "dispatch")
        assert "small did not finish its answer within 5 s" in error.message
        assert received.cancelled
    assert trio.current_time() == pytest.approx(5.0)
    assert service.statistics() == DispatchStatistics(in_flight=0, sent=1, answered=0, failed=1, timed_out=1)


async def test_a_provider_that_keeps_time_itself_is_believed(autojump_clock):
    """Its word is told in the same way, and one that would take longer than an attempt may is not left to itself."""
    for bounded_s in (5.0, 4.0, 6.0):
        service, provider = dispatch(timeout_s=5.0, bounded_s=bounded_s)

        async def ask(attempt, bounded_s=bounded_s):
            await trio.sleep(bounded_s)
            raise ProviderError(
                "the answer was not complete", details={"timed_out": True, "timeout": "timeouts.attempt_s"}
            )

        provider.chat.answer = ask
        began = trio.current_time()
        with pytest.raises(ProviderError, match="small did not finish its answer within 5 s") as caught:
            await service(an_attempt())
        assert trio.current_time() - began == pytest.approx(min(bounded_s, 5.0))
        assert caught.value.details == {"timed_out": True, "timeout": "timeouts.attempt_s", "timeout_s": 5.0}
        assert service.statistics() == DispatchStatistics(in_flight=0, sent=1, answered=0, failed=1, timed_out=1)


async def test_what_a_provider_says_of_another_bound_is_passed_on(autojump_clock):
    service, provider = dispatch(timeout_s=5.0, bounded_s=5.0)
    told = ProviderError("did not begin", details={"timed_out": True, "timeout": "timeouts.first_byte_s"})
    provider.chat.answer = lambda attempt: told
    with pytest.raises(ProviderError, match="did not begin"):
        await service(an_attempt())
    assert service.statistics().timed_out == 0


async def test_a_stream_is_timed_here_whoever_keeps_time_besides(autojump_clock):
    service, provider = dispatch(timeout_s=5.0, bounded_s=5.0)
    provider.chat.answer = lambda attempt: trio.sleep_forever()
    with pytest.raises(ProviderError, match="within 5 s"):
        await service(an_attempt(a_call(sink=RecordedSink())))


async def test_a_stream_that_takes_too_long_is_incomplete(autojump_clock):
    service, provider = dispatch(timeout_s=5.0)
    sink = RecordedSink()

    async def half(attempt):
        await attempt.call.sink.send(text="half an ")
        await trio.sleep_forever()

    provider.chat.answer = half
    with pytest.raises(IncompleteStream, match="within 5 s"):
        await service(an_attempt(a_call(sink=sink)))
    assert sink.text == "half an "


async def test_the_calls_own_deadline_is_left_to_the_stage_that_keeps_it(autojump_clock):
    service, provider = dispatch(timeout_s=50.0)
    provider.chat.answer = lambda attempt: trio.sleep_forever()
    with trio.move_on_after(20.0) as scope:
        await service(an_attempt(a_call(timeout_s=20.0)))
    assert scope.cancelled_caught
    assert service.statistics() == DispatchStatistics(in_flight=0, sent=1, answered=0, failed=0, timed_out=0)


async def test_an_attempt_of_a_shared_call_ends_in_time_though_the_calls_deadline_moves_on(autojump_clock):
    service, provider = dispatch(timeout_s=5.0)
    async with trio.open_nursery() as nursery:
        call = a_call(timeout_s=3.0)
        asked = ask(nursery, service, an_attempt(call))
        await provider.chat.next()
        force_setattr(call, "deadline", 1000.0)  # as Coalesce does when one with more time joins
        assert (await asked.error()).details == {"timed_out": True, "timeout": "timeouts.attempt_s", "timeout_s": 5.0}
    assert trio.current_time() == pytest.approx(5.0)


async def test_a_stream_without_a_first_token_is_ended_and_may_be_asked_elsewhere(autojump_clock):
    service, provider = dispatch(first_token_s=2.0)
    provider.chat.answer = lambda attempt: trio.sleep_forever()
    with pytest.raises(ProviderError, match=r"small sent no token within 2 s \(timeouts.first_token_s\)") as caught:
        await service(an_attempt(a_call(sink=RecordedSink())))
    assert trio.current_time() == pytest.approx(2.0)
    assert caught.value.details == {"timed_out": True, "timeout": "timeouts.first_token_s", "timeout_s": 2.0}


async def test_a_stream_that_falls_silent_between_tokens_is_incomplete(autojump_clock):
    service, provider = dispatch(first_token_s=2.0, idle_s=3.0)

    async def stalls(attempt):
        for piece in ("a", "b"):
            await trio.sleep(1.5)
            await attempt.call.sink.send(text=piece)
        await trio.sleep_forever()

    provider.chat.answer = stalls
    with pytest.raises(IncompleteStream, match=r"no token for 3 s in the middle .* \(timeouts.idle_s\)"):
        await service(an_attempt(a_call(sink=RecordedSink())))
    assert trio.current_time() == pytest.approx(6.0)


async def test_thoughts_are_signs_of_life(autojump_clock):
    service, provider = dispatch(first_token_s=2.0, idle_s=1.0)

    async def thinks(attempt):
        for _ in range(10):
            await trio.sleep(1.5)
            attempt.alive()
        await attempt.call.sink.send(text="so")
        for _ in range(10):
            await trio.sleep(0.9)
            attempt.alive()
        return a_reply("so")

    provider.chat.answer = thinks
    assert (await service(an_attempt(a_call(sink=RecordedSink())))).text == "so"


async def test_a_slow_reader_is_not_the_providers_silence(autojump_clock):
    service, provider = dispatch(first_token_s=2.0, idle_s=1.0)
    sink = RecordedSink(room=trio.Event())

    async def answers(attempt):
        await attempt.call.sink.send(text="so")
        await trio.sleep(0.5)
        return a_reply("so")

    provider.chat.answer = answers
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, an_attempt(a_call(sink=sink)))
        await trio.sleep(20)
        sink.room.set()
        assert (await asked.reply()).text == "so"


async def test_the_whole_attempt_is_bounded_though_tokens_come(autojump_clock):
    service, provider = dispatch(timeout_s=5.0, idle_s=3.0)

    async def drips(attempt):
        while True:
            await attempt.call.sink.send(text=".")
            await trio.sleep(2)

    provider.chat.answer = drips
    with pytest.raises(IncompleteStream, match=r"within 5 s \(timeouts.attempt_s\)"):
        await service(an_attempt(a_call(sink=RecordedSink())))
    assert trio.current_time() == pytest.approx(5.0)


async def test_errors_of_the_provider_pass(autojump_clock):
    service, provider = dispatch()
    provider.chat.answer = lambda attempt: RateLimited("slow down", retry_after_s=3)
    with pytest.raises(RateLimited) as caught:
        await service(an_attempt())
    assert caught.value.retry_after_s == 3
    assert service.statistics().failed == 1


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        service, provider = dispatch(timeout_s=1.5)

        async def slowly(attempt):
            await trio.sleep(1)
            return a_reply()

        async def never(attempt):
            await trio.sleep_forever()

        async def run():
            provider.chat.answer = slowly
            await service(an_attempt())
            await service(an_attempt(a_call(timeout_s=1.2)))
            provider.chat.answer = never
            with pytest.raises(ProviderError):
                await service(an_attempt())

        return service, run

    def idle(service):
        assert service.statistics().in_flight == 0

    assert await cancel_at_every_checkpoint(scenario, idle) >= 5
