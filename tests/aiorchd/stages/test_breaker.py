"""The Breaker stage: what counts, what is refused and how, one probe, and nothing left behind."""

from __future__ import annotations

import pytest
import trio
from harness import a_call, a_reply, an_attempt, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import (
    BudgetExceeded,
    ContextExceeded,
    IncompleteStream,
    Overloaded,
    ProviderAuth,
    ProviderError,
    RateLimited,
)
from aiorchd.calls.outcome import RULES, judge, rules
from aiorchd.core.circuit_breaker import BreakerPolicy, CircuitBreaker, Outcome
from aiorchd.stages.breaker import Breaker


class Log:
    def __init__(self):
        self.told = []

    def warning(self, event, /, **fields):
        self.told.append((event, fields))

    def info(self, event, /, **fields):
        self.told.append((event, fields))


POLICY = BreakerPolicy(min_calls=3, open_s=5.0, max_open_s=10.0, recovery_s=1.0)


def breaker(policy=POLICY):
    return harness(Breaker, CircuitBreaker(policy), Log())


async def fail(service, inner, error, times=3):
    inner.answer = lambda attempt: error.again()
    for _ in range(times):
        with pytest.raises(type(error)):
            await service(an_attempt())
    return service.statistics().breaker


@pytest.mark.parametrize(
    "error", [ProviderError("500"), ProviderError("cert", retryable=False), IncompleteStream("cut")]
)
async def test_failures_of_the_target_open_it(autojump_clock, error):
    service, inner = breaker()
    assert (await fail(service, inner, error)).state == "open"


@pytest.mark.parametrize(
    "error",
    [RateLimited("429"), ProviderAuth("401"), ContextExceeded("long"), Overloaded("full"), BudgetExceeded("no money")],
)
async def test_what_is_no_failure_of_the_target_does_not(autojump_clock, error):
    service, inner = breaker()
    assert (await fail(service, inner, error, 50)).state == "closed"


async def test_it_refuses_without_asking_and_says_for_how_long(autojump_clock):
    service, inner = breaker()
    await fail(service, inner, ProviderError("500"))
    await trio.sleep(2)
    call = a_call()
    with pytest.raises(Overloaded) as caught:
        await service(an_attempt(call))
    assert inner.asked == 3
    error = caught.value
    assert error.message == "small failed too often and is left alone for 3 s"
    assert (error.stage, error.retry_after_s) == ("breaker", pytest.approx(3.0))
    assert error.details == {"reason": "breaker", "model": "small", "state": "open", "failure_rate": 1.0}
    assert judge(error).fall_back
    assert not judge(error).retry


async def test_the_log_is_told_once_each_way(autojump_clock):
    service, inner = breaker()
    await fail(service, inner, ProviderError("500"))
    for _ in range(5):
        with pytest.raises(Overloaded):
            await service(an_attempt())
    left_alone = ("model is left alone", {"model": "small", "for_s": 5.0, "failed_share": 1.0})
    assert service._log.told == [left_alone]
    await trio.sleep(5)
    await fail(service, inner, ProviderError("500"), 1)
    await trio.sleep(10)
    inner.answer = lambda attempt: a_reply()
    await service(an_attempt())
    assert service._log.told[1:] == [
        ("model is left alone", {"model": "small", "for_s": 10.0, "failed_share": 1.0}),
        ("model answers again", {"model": "small"}),
    ]


async def test_one_call_finds_out_and_the_others_are_refused_meanwhile(autojump_clock):
    service, inner = breaker()
    await fail(service, inner, ProviderError("500"))
    inner.answer = None
    await trio.sleep(5)
    async with trio.open_nursery() as nursery:
        call = a_call()
        probe = ask(nursery, service, an_attempt(call))
        received = await inner.next()
        assert call.journal.notes[-1][1:] == ("breaker", "small: this call finds out if it has recovered")
        assert "another call is finding out" in (await ask(nursery, service, an_attempt()).error()).message
        received.reply()
        assert await probe.reply()
    assert service.statistics().breaker.state == "recovering"
    inner.answer = lambda attempt: a_reply()
    await service(an_attempt())
    with pytest.raises(Overloaded, match="little by little"):
        await service(an_attempt())
    await trio.sleep(1)
    await service(an_attempt())
    assert service.statistics().breaker.state == "closed"


async def test_a_probe_whose_caller_leaves_is_no_probe(autojump_clock):
    service, inner = breaker()
    await fail(service, inner, ProviderError("500"))
    inner.answer = None
    await trio.sleep(5)
    async with trio.open_nursery() as nursery:
        probe = ask(nursery, service, an_attempt())
        await inner.next()
        probe.cancel()
        await probe.wait()
        again = ask(nursery, service, an_attempt())
        (await inner.next()).reply()
        assert await again.reply()
    assert service.statistics().breaker.openings == 1


async def test_a_429_to_a_probe_is_a_sign_of_life(autojump_clock):
    service, inner = breaker()
    await fail(service, inner, ProviderError("500"))
    await trio.sleep(5)
    await fail(service, inner, RateLimited("429"), 1)
    assert service.statistics().breaker.state == "recovering"


async def test_a_forced_attempt_passes(autojump_clock):
    service, inner = breaker()
    await fail(service, inner, ProviderError("500"))
    inner.answer = lambda attempt: a_reply("after all")
    assert (await service(an_attempt(forced=True))).text == "after all"


def test_every_rule_says_something_that_the_breaker_knows():
    for rule in RULES.values():
        assert Outcome(rule.health)
        assert rule.what
    assert {row["code"]: row["retry"] for row in rules()} == {code: rule.retry for code, rule in RULES.items()}


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        service, inner = breaker()

        async def run():
            await fail(service, inner, ProviderError("500"))
            await trio.sleep(5)
            inner.answer = None
            probe = ask(nursery, service, an_attempt())
            (await inner.next()).reply()
            await probe.wait()
            inner.answer = lambda attempt: a_reply()
            await service(an_attempt(forced=True))

        return service, run

    def idle(service):
        statistics = service.statistics()
        probing = statistics.breaker.state == "half_open"
        assert statistics.inside == statistics.breaker.in_flight or probing

    def nothing_held(service):
        service_statistics = service.statistics()
        # A probe in the nursery may outlive the scenario that is cancelled; nothing else does.
        assert service_statistics.inside <= 1
        assert service_statistics.breaker.in_flight == service_statistics.inside
        idle(service)

    assert await cancel_at_every_checkpoint(scenario, nothing_held) >= 6
