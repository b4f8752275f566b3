"""Gate: the wait, the turn, the settling, and the provider's "not now". With the real turnstile."""

from __future__ import annotations

import pytest
import trio
from harness import a_call, a_reply, a_usage, an_attempt, ask, cancel_at_every_checkpoint, harness
from trio.testing import wait_all_tasks_blocked
from turnstiles import a_turnstile

from aiorch.errors import InvalidRequest, Overloaded, ProviderError, RateLimited
from aiorchd.stages.gate import Gate, GateStatistics

IDLE = GateStatistics(waiting=0, running=0, throttled=0)


def gate(**limits):
    limits.setdefault("permits", 1)
    turnstile = a_turnstile(**limits)
    return *harness(Gate, turnstile), turnstile


async def test_says_where_the_time_went(autojump_clock):
    service, inner, _ = gate()
    async with trio.open_nursery() as nursery:
        first = ask(nursery, service, an_attempt())
        received = await inner.next()
        second = ask(nursery, service, attempt := an_attempt())
        await wait_all_tasks_blocked()
        assert service.statistics() == GateStatistics(waiting=1, running=1, throttled=0)
        await trio.sleep(3)
        received.reply()
        await first.reply()
        received = await inner.next()
        await trio.sleep(2)
        received.reply()
        await second.reply()
    assert (attempt.notes["queue_s"], attempt.notes["provider_s"]) == (pytest.approx(3), pytest.approx(2))
    assert "unsent" not in attempt.notes
    journal = attempt.call.journal
    assert (journal.queue_s, journal.provider_s) == (pytest.approx(3), pytest.approx(2))
    assert journal.notes == [(pytest.approx(3), "gate", "waited 3 s for a turn at small: a permit")]
    assert service.statistics() == IDLE


async def test_who_did_not_wait_has_nothing_to_tell(autojump_clock):
    service, inner, _ = gate()
    inner.answer = lambda attempt: a_reply()
    await service(attempt := an_attempt())
    assert attempt.call.journal.notes == []
    assert attempt.notes["queue_s"] == 0.0


async def test_settles_what_was_really_used(autojump_clock):
    service, inner, turnstile = gate(tokens_per_minute=60_000, burst_s=1)
    inner.answer = lambda attempt: a_reply(usage=a_usage(200, 100))
    await service(an_attempt(estimated_tokens=800))
    assert turnstile.statistics().tokens_left == pytest.approx(700)
    inner.answer = lambda attempt: a_reply(usage=None)
    await service(an_attempt(estimated_tokens=400))
    assert turnstile.statistics().tokens_left == pytest.approx(300)  # unknown: the estimate stands
    inner.answer = lambda attempt: ProviderError("broken")
    with pytest.raises(ProviderError):
        await service(an_attempt(estimated_tokens=100))
    assert turnstile.statistics().tokens_left == pytest.approx(200)


async def test_not_now_closes_the_gate_before_the_next_one_starts(autojump_clock):
    service, inner, turnstile = gate()
    async with trio.open_nursery() as nursery:
        first = ask(nursery, service, an_attempt())
        received = await inner.next()
        second = ask(nursery, service, an_attempt())
        hasty = ask(nursery, service, an_attempt(a_call(timeout_s=5.0)))
        await wait_all_tasks_blocked()
        received.fail(RateLimited("slow down", retry_after_s=10.0))
        assert (await first.error()).code == "rate_limited"
        refused = await hasty.error()
        assert (refused.code, refused.retry_after_s) == ("overloaded", pytest.approx(10.0))
        assert trio.current_time() == 0.0
        await inner.assert_quiet()
        received = await inner.next()
        assert trio.current_time() == pytest.approx(10.0)
        received.reply()
        await second.reply()
    assert service.statistics() == GateStatistics(waiting=0, running=0, throttled=1)
    assert turnstile.statistics().closures == 1


@pytest.mark.parametrize(
    ("error", "closed_s"),
    [
        (RateLimited("not now"), 0.0),  # the pace that is found from it makes the pause
        (RateLimited("is overloaded", details={"overloaded": True}), 0.5),  # did not say until when
        (RateLimited("not now", retry_after_s=0.0), 0.0),
        (ProviderError("overloaded", retry_after_s=7.0), 7.0),  # 503 and 529 may say so too
        (ProviderError("broken"), 0.0),
        (InvalidRequest("no messages"), 0.0),
    ],
)
async def test_who_closes_the_gate(autojump_clock, error, closed_s):
    service, inner, turnstile = gate()
    inner.answer = lambda attempt: error
    with pytest.raises(type(error)):
        await service(an_attempt())
    assert turnstile.statistics().closed_s == closed_s


async def test_a_refusal_counts_as_waiting_and_not_as_sent(autojump_clock):
    service, inner, turnstile = gate()
    turnstile.cool_down(0.0, 100.0)
    with pytest.raises(Overloaded):
        await service(attempt := an_attempt(a_call(timeout_s=50.0)))
    assert attempt.notes == {"queue_s": 0.0, "unsent": True}
    assert attempt.call.journal.notes[-1][1:] == ("gate", "waited 0 s for a turn at small, in vain")
    assert turnstile.statistics().closures == 1  # the gate's own refusal is not the provider's word
    await inner.assert_quiet()


async def test_who_gives_up_waiting_says_for_how_long(autojump_clock):
    service, inner, turnstile = gate()
    async with trio.open_nursery() as nursery:
        ask(nursery, service, an_attempt())
        received = await inner.next()
        asked = ask(nursery, service, attempt := an_attempt())
        await trio.sleep(4)
        asked.cancel()
        await asked.wait()
        received.reply()
    assert attempt.notes["unsent"] is True
    assert attempt.call.journal.queue_s == pytest.approx(4)
    assert attempt.call.journal.provider_s == 0.0
    assert service.statistics() == IDLE
    assert turnstile.statistics().in_use == 0


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        service, inner, turnstile = gate(requests_per_minute=60, tokens_per_minute=6000, burst_s=1)

        async def slowly(attempt):
            await trio.sleep(1.5)
            return a_reply()

        inner.answer = slowly
        ask(nursery, service, an_attempt(estimated_tokens=10))

        async def run():
            await service(an_attempt(estimated_tokens=10))
            inner.answer = lambda attempt: RateLimited("not now", retry_after_s=2.0)
            with pytest.raises(RateLimited):
                await service(an_attempt(estimated_tokens=10))
            inner.answer = slowly
            await service(an_attempt(estimated_tokens=10))

        return (service, turnstile), run

    async def idle(subject):
        service, turnstile = subject
        await trio.sleep(20)
        assert (service.statistics().waiting, service.statistics().running) == (0, 0)
        assert (turnstile.statistics().waiting, turnstile.statistics().in_use) == (0, 0)

    assert await cancel_at_every_checkpoint(scenario, idle) >= 8
