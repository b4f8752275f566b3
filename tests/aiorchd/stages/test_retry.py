"""Retry: again after what may pass, never in vain, never beyond the budget or the deadline."""

from __future__ import annotations

import pytest
import trio
from forgetting import forgotten_at_once
from harness import RecordedSink, a_call, a_reply, a_usage, an_attempt, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import (
    CallError,
    ContextExceeded,
    IncompleteStream,
    InvalidRequest,
    Overloaded,
    ProviderAuth,
    ProviderError,
    RateLimited,
)
from aiorchd.calls.call import AttemptBudget
from aiorchd.core.backoff import Backoff
from aiorchd.core.retry_budget import RetryBudget
from aiorchd.stages.retry import Retry, RetryStatistics


def retry(schedule=(0.5, 1.0, 2.0)):
    return harness(Retry, Backoff(schedule, uniform=lambda: 0.5))


def attempt(call=None, *, limit=4, held_back=0):
    return an_attempt(call, budget=AttemptBudget(limit, held_back=held_back))


async def test_passes_a_reply_and_writes_it_down(autojump_clock):
    service, inner = retry()

    async def answer(attempt):
        await trio.sleep(2)
        attempt.notes.update(queue_s=0.5, provider_s=1.5, status=200, first_token_s=0.7)
        return a_reply(usage=a_usage(10, 5), cost_usd=0.002)

    inner.answer = answer
    await trio.sleep(1)
    call = a_call()
    await trio.sleep(3)
    one = attempt(call)
    assert (await service(one)).text == "Eight."
    (record,) = call.journal.attempts
    assert (record.number, record.model, record.provider) == (1, "small", "main")
    assert (record.began_s, record.queue_s, record.provider_s) == (3.0, 0.5, 1.5)
    assert (record.verdict, record.code, record.status) == ("ok", None, 200)
    assert (record.tokens, record.cost_usd, record.first_token_s) == (15, 0.002, 0.7)
    assert one.budget.used == 1
    assert service.statistics() == RetryStatistics(0, 0, 0, 0, 0, 0)


async def test_asks_again_after_what_may_pass(autojump_clock):
    service, inner = retry()
    async with trio.open_nursery() as nursery:
        first = attempt()
        asked = ask(nursery, service, first)
        (await inner.next()).fail(ProviderError("broken", details={"status": 503}))
        second = await inner.next()
        assert trio.current_time() == pytest.approx(0.5)
        second.fail(RateLimited("slow down"))
        third = await inner.next()
        assert trio.current_time() == pytest.approx(1.5)
        third.reply(text="at last")
        assert (await asked.reply()).text == "at last"
    assert [each.request.number for each in (second, third)] == [2, 3]
    assert second.request.notes is not first.notes
    assert second.request.budget is first.budget
    journal = first.call.journal
    assert [(r.number, r.verdict, r.code, r.status) for r in journal.attempts] == [
        (1, "retryable", "provider_error", 503),
        (2, "throttled", "rate_limited", None),
        (3, "ok", None, None),
    ]
    assert journal.throttled == 1
    assert journal.queue_s == pytest.approx(1.5)  # asleep is waiting too
    assert journal.notes[0] == (0.0, "retry", "small: provider_error; asking again in 0.5 s")
    assert service.statistics() == RetryStatistics(
        inside=0, sleeping=0, retries=2, recovered=1, out_of_attempts=0, out_of_time=0
    )


async def test_the_budget_ends_it_with_the_last_error(autojump_clock):
    service, inner = retry()
    errors = iter([ProviderError("one"), RateLimited("two"), ProviderError("three")])
    inner.answer = lambda attempt: next(errors)
    with pytest.raises(ProviderError, match="three"):
        await service(one := attempt(limit=3))
    assert (inner.asked, one.budget.left) == (3, 0)
    assert service.statistics().out_of_attempts == 1


async def test_the_budget_is_the_whole_chains(autojump_clock):
    service, inner = retry()
    inner.answer = lambda attempt: ProviderError("broken")
    with pytest.raises(ProviderError):
        await service(one := attempt(limit=5, held_back=2))
    assert (inner.asked, one.budget.left) == (3, 2)  # two are left for those who come later


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no messages"),
        ProviderAuth("key refused"),
        ContextExceeded("too long"),
        IncompleteStream("half"),
        ProviderError("will stay broken", retryable=False),
        RateLimited("quota gone", retryable=False),
    ],
)
async def test_what_will_not_pass_ends_at_once(autojump_clock, error):
    service, inner = retry()
    inner.answer = lambda attempt: error
    with pytest.raises(CallError) as caught:
        await service(attempt())
    assert caught.value is error
    assert inner.asked == 1
    assert trio.current_time() == 0.0
    assert service.statistics().out_of_attempts == 0


async def test_the_providers_word_is_a_floor(autojump_clock):
    service, inner = retry()
    errors = iter([RateLimited("slow down", retry_after_s=7.0), RateLimited("slow down", retry_after_s=0.1), a_reply()])
    times = []

    def answer(attempt):
        times.append(trio.current_time())
        return next(errors)

    inner.answer = answer
    one = attempt()
    await service(one)
    assert times == pytest.approx([0.0, 7.0, 8.0])
    assert [record.retry_after_s for record in one.call.journal.attempts] == [7.0, 0.1, None]


async def test_a_wait_past_the_deadline_is_not_begun(autojump_clock):
    service, inner = retry()
    inner.answer = lambda attempt: RateLimited("slow down", retry_after_s=30.0)
    call = a_call(timeout_s=20.0)
    with pytest.raises(RateLimited) as caught:
        await service(attempt(call))
    assert trio.current_time() == 0.0
    assert caught.value.retry_after_s == 30.0
    assert service.statistics().out_of_time == 1
    assert "no time to wait 30 s" in call.journal.notes[-1][2]


async def test_a_wait_past_the_moment_to_ask_another_is_not_begun(autojump_clock):
    service, inner = retry()
    inner.answer = lambda attempt: RateLimited("slow down", retry_after_s=30.0)
    with pytest.raises(RateLimited):
        await service(an_attempt(a_call(timeout_s=100.0), start_by=20.0, budget=AttemptBudget(4)))
    assert (trio.current_time(), inner.asked) == (0.0, 1)


async def test_the_error_says_how_long_the_wait_would_have_been(autojump_clock):
    service, inner = retry()
    inner.answer = lambda attempt: ProviderError("broken")
    with pytest.raises(ProviderError) as caught:
        await service(attempt(a_call(timeout_s=0.8)))
    assert trio.current_time() == pytest.approx(0.5)  # one wait fits, the next does not
    assert caught.value.retry_after_s == 1.0


async def test_nothing_is_asked_again_once_content_is_out(autojump_clock):
    service, inner = retry()
    sink = RecordedSink()

    async def half(attempt):
        await sink.send(text="half")
        return ProviderError("cut")

    inner.answer = half
    with pytest.raises(ProviderError, match="cut"):
        await service(attempt(a_call(sink=sink)))
    assert inner.asked == 1


async def test_a_stream_that_failed_before_its_first_word_is_asked_again(autojump_clock):
    service, inner = retry()
    answers = iter([ProviderError("cut"), a_reply()])
    inner.answer = lambda attempt: next(answers)
    await service(attempt(a_call(sink=RecordedSink())))
    assert inner.asked == 2


@pytest.mark.parametrize("marked", [True, False])
async def test_what_was_never_sent_is_no_attempt(autojump_clock, marked):
    service, inner = retry()

    def refuse(attempt):
        if marked:
            attempt.notes["unsent"] = True
        return Overloaded("1000 calls wait", retry_after_s=3.0)

    inner.answer = refuse
    one = attempt()
    with pytest.raises(Overloaded):
        await service(one)
    assert (inner.asked, one.budget.used, one.call.journal.attempts) == (1, 0, [])


async def test_a_cancelled_attempt_is_written_down(autojump_clock):
    service, inner = retry()
    async with trio.open_nursery() as nursery:
        one = attempt()
        asked = ask(nursery, service, one)
        await inner.next()
        await trio.sleep(3)
        asked.cancel()
        await asked.wait()
    (record,) = one.call.journal.attempts
    assert (record.verdict, record.code, record.provider_s) == ("ignored", "cancelled", pytest.approx(3.0))


async def test_cancelled_in_the_queue_was_never_sent(autojump_clock):
    service, inner = retry()

    async def waits(attempt):
        try:
            await trio.sleep_forever()
        finally:
            attempt.notes["unsent"] = True

    inner.answer = waits
    async with trio.open_nursery() as nursery:
        one = attempt()
        asked = ask(nursery, service, one)
        await trio.sleep(1)
        asked.cancel()
        await asked.wait()
    assert one.call.journal.attempts == []
    assert one.budget.used == 0


async def test_long_messages_are_cut_in_the_journal(autojump_clock):
    service, inner = retry()
    inner.answer = lambda attempt: InvalidRequest("x" * 10_000)
    one = attempt()
    with pytest.raises(InvalidRequest):
        await service(one)
    assert len(one.call.journal.attempts[0].message) == 300


async def test_a_failed_call_is_forgotten_at_once(autojump_clock):
    service, inner = retry()
    inner.answer = lambda attempt: ProviderError("broken")
    with forgotten_at_once() as prompts:
        with pytest.raises(ProviderError):
            await service(attempt(a_call(request=prompts.pop())))
        inner.requests.clear()


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        service, inner = retry()
        answers = iter([ProviderError("one"), RateLimited("two", retry_after_s=3.0), a_reply()])

        async def slowly(attempt):
            await trio.sleep(1)
            return next(answers)

        inner.answer = slowly
        one = attempt()
        return (service, one), lambda: service(one)

    def idle(subject):
        service, one = subject
        statistics = service.statistics()
        assert (statistics.inside, statistics.sleeping) == (0, 0)
        assert one.budget.used == len(one.call.journal.attempts)

    assert await cancel_at_every_checkpoint(scenario, idle) >= 8


async def test_the_journal_does_not_quote_the_prompt(autojump_clock):
    service, inner = retry()
    prompt = "Is Marguerite of 12 Rue Cler, Paris, pregnant?"
    inner.answer = lambda attempt: InvalidRequest(f"main refused the request (422): [{{'input': '{prompt}'}}]")
    one = attempt(a_call(prompt))
    with pytest.raises(InvalidRequest, match="Marguerite"):
        await service(one)
    assert one.call.journal.attempts[0].message == "main refused the request (422): [{'input': '[...]'}]"


async def test_a_failing_target_gets_no_more_retries_than_its_budget(autojump_clock):
    budget = RetryBudget(0.5, 2)
    service, inner = harness(Retry, Backoff((0.0,), uniform=lambda: 0.5), budget)
    inner.answer = lambda attempt: ProviderError("broken")
    for _ in range(8):
        with pytest.raises(ProviderError):
            await service(attempt())
    assert inner.asked - 8 == 2 + 8 * 0.5 - 1, "what is saved up (less what the bucket could not hold), and a share"
    assert service.statistics().out_of_budget == 8
    last = a_call()
    with pytest.raises(ProviderError):
        await service(attempt(last))
    inner.answer = lambda attempt: RateLimited("not now", retry_after_s=0.0)
    with pytest.raises(RateLimited):
        await service(attempt())
    assert service.statistics().out_of_attempts == 1, "what was throttled is asked again as often as it may"


async def test_a_provider_that_says_do_not_ask_again_is_not_asked_again(autojump_clock):
    service, inner = retry()
    for error in (ProviderError("500", retryable=False), RateLimited("insufficient_quota", retryable=False)):
        inner.answer = lambda attempt, error=error: error.again()
        with pytest.raises(type(error)):
            await service(attempt())
    assert inner.asked == 2
