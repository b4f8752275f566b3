"""Spend and Afford: reserved before, settled after, however an attempt ends; with the real purse."""

from __future__ import annotations

import pytest
import trio
from harness import a_call, a_reply, a_target, a_usage, an_attempt, ask, cancel_at_every_checkpoint, harness
from store_values import StandingClock
from trio.testing import wait_all_tasks_blocked

from aiorch.errors import (
    BudgetExceeded,
    ContextExceeded,
    IncompleteStream,
    InvalidRequest,
    ProviderAuth,
    ProviderError,
    RateLimited,
    UnknownModel,
)
from aiorchd.calls.outcome import judge
from aiorchd.calls.target import Price
from aiorchd.config.schema import Budget, Config
from aiorchd.core.spending import Spending
from aiorchd.runtime.purse import Purse
from aiorchd.stages.afford import Afford, AffordStatistics
from aiorchd.stages.spend import Spend, SpendStatistics


def a_purse(**budget) -> Purse:
    budget = {"per_day_usd": 1.0, **budget}
    return Purse(Config(budget=Budget(**budget)), spending=Spending(), store=None, wall_clock=StandingClock())


def spending(purse: Purse | None = None):
    purse = purse or a_purse()
    return *harness(Spend, purse), purse


def dear(max_tokens: int | None = 100, **fields):
    request = {"messages": [{"role": "user", "content": "Hello"}]}
    if max_tokens is not None:
        request["max_tokens"] = max_tokens
    return an_attempt(a_call(request=request, **fields), a_target(price=Price(0.0, 1000.0, source="configuration")))


def state(purse: Purse) -> tuple[float, float, float]:
    [one] = purse.budgets()
    return round(one.spent_usd, 6), round(one.estimated_usd, 6), round(one.held_usd, 6)


async def test_held_while_it_runs_and_settled_by_what_it_cost() -> None:
    service, inner, purse = spending()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, attempt := dear())
        received = await inner.next()
        assert state(purse) == (0, 0, 0.1)
        assert service.statistics().running == 1
        received.reply(cost_usd=0.02)
        await asked.reply()
    assert state(purse) == (0.02, 0, 0)
    assert service.statistics() == SpendStatistics(waiting=0, running=0, settled=1, estimated=0, released=0)
    assert attempt.notes["price_source"] == "configuration"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ProviderError("refused", details={"sent": False, "phase": "connecting"}), False),
        (ProviderError("cut", details={"sent": True, "phase": "reading"}), True),
        (ProviderError("silence", details={"sent": True, "phase": "waiting", "timed_out": True}), True),
        (ProviderError("500", details={"status": 500}), True),
        (ProviderError("502", details={"status": 502}), True),
        (ProviderError("503", details={"status": 503}), False),
        (ProviderError("a redirect", details={"status": 307}), False),
        (RateLimited("429", details={"status": 429}), False),
        (RateLimited("529", details={"status": 529}), False),
        (RateLimited("inside a 200"), True),
        (ProviderAuth("401", details={"status": 401}), False),
        (ProviderAuth("there is no key"), False),
        (InvalidRequest("400", details={"status": 400}), False),
        (InvalidRequest("cannot be written as JSON"), False),
        (UnknownModel("404", details={"status": 404}), False),
        (ContextExceeded("400", details={"status": 400}), False),
        (ProviderError("408", details={"status": 408}), True),
        (IncompleteStream("broke off"), True),
    ],
)  # fmt: skip
async def test_only_what_certainly_cost_nothing_is_let_go(error, kept: bool) -> None:
    service, inner, purse = spending()
    inner.answer = lambda attempt: error
    with pytest.raises(type(error)):
        await service(attempt := dear())
    assert state(purse) == ((0.1, 0.1, 0) if kept else (0, 0, 0))
    told = attempt.notes["cost_usd"], attempt.notes.get("cost_estimate_usd")
    assert told == ((None, 0.1) if kept else (0.0, None))


async def test_a_refusal_after_the_first_token_is_paid_for() -> None:
    service, inner, purse = spending()

    def broken(attempt):
        attempt.notes["first_token_s"] = 0.1
        return RateLimited("an error event in the middle", details={"status": 429})

    inner.answer = broken
    with pytest.raises(RateLimited):
        await service(dear())
    assert state(purse) == (0.1, 0.1, 0)


async def test_a_withheld_answer_with_its_usage_costs_what_it_cost() -> None:
    service, inner, purse = spending()

    def withheld(attempt):
        attempt.notes["cost_usd"] = 0.03
        return ProviderError("nonsense", details={"status": 200})

    inner.answer = withheld
    with pytest.raises(ProviderError):
        await service(dear())
    assert state(purse) == (0.03, 0, 0)


async def test_an_answer_without_usage_keeps_its_bound() -> None:
    service, inner, purse = spending()
    inner.answer = lambda attempt: a_reply(usage=None, cost_usd=None)
    await service(dear())
    assert state(purse) == (0.1, 0.1, 0)
    assert service.statistics().estimated == 1


async def test_a_caller_who_leaves_pays_for_what_may_have_been_done() -> None:
    service, inner, purse = spending()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, dear())
        await inner.next()
        asked.cancel()
    assert state(purse) == (0.1, 0.1, 0)


async def test_a_shorter_answer_is_sent_and_the_call_stays_as_it_was() -> None:
    service, inner, _ = spending()
    inner.answer = lambda attempt: a_reply(cost_usd=0.02)
    await service(attempt := dear(None))
    [sent] = inner.requests
    assert sent.call.request["max_tokens"] == 1000
    assert "max_tokens" not in attempt.call.request
    assert sent.notes is attempt.notes
    assert sent.call.journal is attempt.call.journal


async def test_cancelled_anywhere_nothing_is_held() -> None:
    def make(nursery):
        service, inner, purse = spending()
        inner.answer = lambda attempt: a_reply(cost_usd=0.01)

        async def run() -> None:
            await service(dear())

        return (service, purse), run

    def idle(subject) -> None:
        service, purse = subject
        told = service.statistics()
        assert (told.waiting, told.running, purse.statistics().open) == (0, 0, 0)
        assert state(purse)[2] == 0

    await cancel_at_every_checkpoint(make, idle)


async def test_what_cannot_be_paid_for_does_not_even_queue() -> None:
    purse = a_purse()
    service, inner = harness(Afford, purse)
    inner.answer = lambda attempt: a_reply()
    await service(dear())
    with pytest.raises(BudgetExceeded):
        await service(dear(5000))
    assert inner.asked == 1
    assert service.statistics() == AffordStatistics(inside=0, refused=1)


async def test_what_only_has_to_wait_is_let_through() -> None:
    purse = a_purse()
    service, inner = harness(Afford, purse)
    await purse.reserve(dear(900))
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, dear(500))
        (await inner.next()).reply()
        await asked.reply()
        await wait_all_tasks_blocked()


async def test_what_becomes_of_the_chain() -> None:
    for on_exhausted, goes_on in (("refuse", False), ("cache_only", False), ("cheapest", True)):
        refusal = a_purse(on_exhausted=on_exhausted, per_day_usd=0.5).refusal(dear(900))
        assert refusal is not None
        assert judge(refusal).fall_back is goes_on
    limit = a_purse().refusal(dear(500, cost_limit_usd=0.1))
    assert limit is not None
    assert judge(limit).fall_back


async def test_usage_of_estimates_is_marked() -> None:
    service, inner, purse = spending()
    inner.answer = lambda attempt: a_reply(usage=a_usage(estimated=True), cost_usd=0.05)
    reply = await service(attempt := dear())
    assert state(purse) == (0.05, 0.05, 0)
    assert reply.cost_usd is None  # not known, and what it is counted as stands beside it
    assert (attempt.notes["cost_usd"], attempt.notes["cost_estimate_usd"]) == (None, 0.05)


async def test_an_estimate_is_made_without_a_budget_too_and_of_what_is_free_none_is_needed() -> None:
    service, inner = harness(Spend, a_purse(per_day_usd=None))
    inner.answer = lambda attempt: ProviderError("cut", details={"sent": True})
    with pytest.raises(ProviderError):
        await service(attempt := dear())
    assert (attempt.notes["cost_usd"], attempt.notes["cost_estimate_usd"]) == (None, 0.1)
    free = an_attempt(target=a_target(price=Price(0.0, 0.0)))
    with pytest.raises(ProviderError):
        await service(free)
    assert free.notes["cost_usd"] == 0.0


def of_a_host(prompt: str = "word " * 400, **price: float):
    call = a_call(request={"messages": [{"role": "user", "content": prompt}], "max_tokens": 1000})
    told = {"input_usd_per_1m": 100.0, "output_usd_per_1m": 100.0, **price}
    return an_attempt(call, a_target("mine", dialect="host", price=Price(**told)))


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ({"input": 400, "output": 100}, None),
        ({"input": 0, "cache_read": 400, "output": 100}, None),
        ({"input": 51, "output": 21}, None),
        ({"input": 1, "output": 100}, (2000, 100)),  # every byte of the prompt
        ({"input": 400, "output": 0}, (400, 800)),  # every byte of the answer
        ({"input": 0, "output": 0}, (2000, 800)),
    ],
)
async def test_a_host_that_tells_too_little_to_be_true_is_counted_at_the_most_it_can_be(told, counted) -> None:
    service, inner, purse = spending(a_purse(per_day_usd=100.0))
    reply = a_reply(text="answer! " * 100, usage=a_usage(**told), cost_usd=0.001)
    inner.answer = lambda _: reply
    got = await service(attempt := of_a_host())
    if counted is None:
        assert got == reply
        assert state(purse) == (0.001, 0, 0)
        return
    prompt, answer = counted
    assert got.usage.estimated
    assert prompt <= got.usage.input <= prompt + 200  # and marks around it
    assert answer <= got.usage.output <= answer + 8
    assert got.cost_usd is None
    assert attempt.notes["cost_estimate_usd"] == pytest.approx((got.usage.input + got.usage.output) / 10_000)
    spent, estimated, held = state(purse)
    assert spent == estimated == pytest.approx(attempt.notes["cost_estimate_usd"], abs=1e-6)
    assert held == 0
    assert any("too few tokens" in what for _, _, what in attempt.call.journal.notes)


async def test_nothing_is_made_up_of_what_is_free_or_of_a_provider() -> None:
    service, inner, _ = spending()
    reply = a_reply(text="answer! " * 100, usage=a_usage(input=0, output=0), cost_usd=0.0)
    inner.answer = lambda _: reply
    assert await service(of_a_host(input_usd_per_1m=0.0, output_usd_per_1m=0.0)) == reply
    assert await service(dear()) == reply


async def test_a_bad_answer_of_unknown_price_is_counted_by_its_tokens() -> None:
    service, inner = harness(Spend, a_purse(per_day_usd=None, assumed_usd_per_1m=1000.0))

    def empty(attempt):
        attempt.notes["cost_usd"], attempt.notes["usage"] = None, a_usage(input=20, output=30)
        return ProviderError("nothing", details={"status": 200})

    inner.answer = empty
    with pytest.raises(ProviderError):
        await service(attempt := an_attempt(target=a_target(price=Price())))
    assert (attempt.notes["cost_usd"], attempt.notes["cost_estimate_usd"]) == (None, pytest.approx(0.05))
