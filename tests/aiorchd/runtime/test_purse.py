"""What an attempt holds, when it must wait, and when it is refused; with the real accounts and the disk played by hand."""

from __future__ import annotations

import os
import pwd

import pytest
import trio
from forgetting import forgotten_at_once
from harness import a_call, a_caller, a_target, a_usage, an_attempt, cancel_at_every_checkpoint
from msgspec.structs import replace
from store_values import NOON, StandingClock
from trio.testing import wait_all_tasks_blocked

from aiorch.errors import BudgetExceeded, StorageError
from aiorchd.calls.call import Attempt
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Price
from aiorchd.config.load import load_text
from aiorchd.core.spending import Spending
from aiorchd.runtime.purse import Purse
from aiorchd.stages.afford import Afford
from aiorchd.stages.spend import Spend

DEAR = Price(0.0, 1000.0)
"""A tenth of a cent each token of an answer; the prompt is free."""


class Disk:
    """Takes what it is given, at once or when it is told to, or not at all."""

    def __init__(self) -> None:
        self.commits = self.soon = 0
        self.hold: trio.Event | None = None
        self.broken = False

    async def commit(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.hold is not None:
            await self.hold.wait()
        if self.broken:
            raise StorageError("full")
        self.commits += 1

    def write_soon(self) -> None:
        self.soon += 1


def config(text: str):
    return load_text(text.encode(), None, {}).config if not text else load_text(text.encode(), _path(), {}).config


def _path():
    from pathlib import Path

    return Path("/etc/aiorch/aiorch.toml")


def a_purse(text: str = "[budget]\nper_day_usd = 1.0\n", **fields):
    disk, clock = Disk(), StandingClock()
    purse = Purse(config(text), spending=Spending(), store=disk, wall_clock=clock, **fields)
    purse.disk, purse.clock = disk, clock
    return purse


def dear(max_tokens: int | None = 100, *, price: Price = DEAR, uid: int = 1000, unit: str = "user", **fields):
    """An attempt whose answer costs a tenth of a cent a token."""
    request = {"messages": [{"role": "user", "content": "Hello"}]}
    if max_tokens is not None:
        request["max_tokens"] = max_tokens
    target = {name: fields.pop(name) for name in ("context_tokens", "max_output_tokens") if name in fields}
    call = a_call(request=request, caller=a_caller(uid, unit=unit), **fields)
    return an_attempt(call, a_target(price=price, **target))


def spent(purse: Purse, span: str = "day") -> tuple[float, float, float]:
    [state] = [one for one in purse.budgets() if one.span == span and one.scope == "all"]
    return round(state.spent_usd, 6), round(state.estimated_usd, 6), round(state.held_usd, 6)


async def test_without_a_budget_nothing_is_written() -> None:
    purse = a_purse("[routing]\ncost_limit_usd = 5\n")
    hold = await purse.reserve(dear())
    hold.settle(a_usage(), 0.05)
    assert (purse.disk.commits, purse.disk.soon) == (0, 0)
    assert purse.budgets() == []
    assert purse.statistics().open == 0


async def test_what_can_cost_nothing_is_not_written_either() -> None:
    purse = a_purse()
    hold = await purse.reserve(dear(price=Price(0.0, 0.0)))
    hold.settle(a_usage(), 0.0)
    assert purse.disk.commits == 0


async def test_it_is_on_the_disk_before_it_starts_and_settled_after() -> None:
    purse = a_purse()
    purse.disk.hold = trio.Event()
    attempt = dear(100)
    async with trio.open_nursery() as nursery:
        holds = []

        async def reserve() -> None:
            holds.append(await purse.reserve(attempt))

        nursery.start_soon(reserve)
        await wait_all_tasks_blocked()
        assert not holds
        assert spent(purse) == (0, 0, 0.1)
        assert purse.statistics().committing == 1
        purse.disk.hold.set()
    holds[0].settle(a_usage(output=7), 0.007)
    assert spent(purse) == (0.007, 0, 0)
    assert purse.disk.soon == 1
    notes = attempt.notes
    assert (notes["reserved_usd"], notes["settled_usd"], notes["settled_by_estimate"]) == (
        pytest.approx(0.1),
        0.007,
        False,
    )
    assert purse.statistics().committing == purse.statistics().open == 0


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (lambda hold: hold.settle(None, None), (0.1, 0.1, 0)),  # no usage: the bound stays
        (lambda hold: hold.keep(), (0.1, 0.1, 0)),
        (lambda hold: hold.release(), (0, 0, 0)),
        (lambda hold: hold.settle(a_usage(10, 20, estimated=True), 0.02), (0.02, 0.02, 0)),
    ],
)
async def test_how_it_ends(end, left) -> None:
    purse = a_purse()
    hold = await purse.reserve(attempt := dear(100))
    end(hold)
    end(hold)  # a second time changes nothing
    assert spent(purse) == left
    assert attempt.call.journal.committed_usd == pytest.approx(left[0])


async def test_an_unknown_price_counts_as_assumed_and_stays_unknown() -> None:
    purse = a_purse("[budget]\nper_day_usd = 10\nassumed_usd_per_1m = 500\n")
    attempt = dear(1000, price=Price())
    hold = await purse.reserve(attempt)
    assert attempt.notes["reserved_usd"] > 0.5
    hold.settle(a_usage(1000, 1000), None)
    assert spent(purse) == (1.0, 1.0, 0)


async def test_a_disk_that_does_not_take_it_lets_nobody_spend() -> None:
    purse = a_purse()
    purse.disk.broken = True
    with pytest.raises(StorageError):
        await purse.reserve(dear())
    assert spent(purse) == (0, 0, 0)
    assert purse.statistics().disk_refused == 1
    assert (await purse.reserve(dear(price=Price(0.0, 0.0)))).max_tokens is None  # what is free goes on


async def test_cancelling_leaves_nothing_held() -> None:
    def make(nursery):
        purse = a_purse()

        async def run() -> None:
            others = await purse.reserve(dear(900))
            async with trio.open_nursery() as inner:

                async def later() -> None:
                    await wait_all_tasks_blocked()
                    others.settle(a_usage(), 0.01)

                inner.start_soon(later)
                hold = await purse.reserve(dear(500))
                hold.release()

        async def guarded() -> None:
            try:
                await run()
            finally:
                purse.done = True

        return purse, guarded

    def idle(purse) -> None:
        told = purse.statistics()
        assert told.waiting == told.committing == 0
        assert told.open <= 1  # the other one, when it was not settled

    await cancel_at_every_checkpoint(make, idle, at_least=3)


async def test_a_limit_that_others_hold_is_waited_for(autojump_clock) -> None:
    purse = a_purse()
    first = await purse.reserve(dear(900))
    attempt = dear(500)
    async with trio.open_nursery() as nursery:
        holds = []

        async def reserve() -> None:
            holds.append(await purse.reserve(attempt))

        nursery.start_soon(reserve)
        await wait_all_tasks_blocked()
        assert purse.statistics().waiting == 1
        assert purse.refusal(dear(500)) is None  # it is no use to refuse what only has to wait
        first.settle(a_usage(), 0.01)
    assert spent(purse) == (0.01, 0, 0.5)
    assert "others hold" in attempt.call.journal.notes[0][2]


async def test_nobody_waits_beyond_their_time(autojump_clock) -> None:
    purse = a_purse()
    await purse.reserve(dear(900))
    with pytest.raises(BudgetExceeded) as caught:
        await purse.reserve(dear(500, timeout_s=5))
    assert trio.current_time() == pytest.approx(5)
    assert caught.value.retryable
    assert caught.value.details["held_usd"] == pytest.approx(0.9)


async def test_what_is_used_up_is_told_with_when_it_begins_anew() -> None:
    purse = a_purse()
    (await purse.reserve(dear(950))).keep()
    for raised in (purse.refusal(dear(500)), await _refused(purse, dear(500))):
        assert raised is not None
        assert raised.retry_after_s == 12 * 3600  # it is noon
        assert raised.details["budget"] == "all"
        assert raised.details["span"] == "day"
        assert raised.details["resets_at"] == NOON + 12 * 3600
        assert raised.details["on_exhausted"] == "refuse"
        assert "$0.95 is spent" in raised.message
        assert not raised.retryable
    purse.clock.now += 86_400
    assert purse.refusal(dear(500)) is None
    assert spent(purse) == (0, 0, 0)


async def _refused(purse: Purse, attempt) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as caught:
        await purse.reserve(attempt)
    return caught.value


async def test_a_month_is_a_budget_of_its_own() -> None:
    purse = a_purse("[budget]\nper_day_usd = 1.0\nper_month_usd = 1.5\n")
    (await purse.reserve(dear(900))).keep()
    purse.clock.now += 86_400
    (await purse.reserve(dear(500))).keep()
    error = await _refused(purse, dear(200))
    assert error.details["span"] == "month"
    assert spent(purse, "month") == (1.4, 1.4, 0)


async def test_callers_by_user_and_by_unit() -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    purse = a_purse(f'[callers.{me}]\nper_day_usd = 0.5\n[callers."web.service"]\nper_day_usd = 0.2\n')
    await _refused(purse, dear(600, uid=os.getuid()))
    await _refused(purse, dear(300, uid=os.getuid() + 1, unit="web.service"))
    assert purse.refusal(dear(900, uid=os.getuid() + 1)) is None
    hold = await purse.reserve(dear(150, uid=os.getuid(), unit="web.service"))
    hold.keep()
    assert {(one.scope, round(one.spent_usd, 6)) for one in purse.budgets()} == {
        (f"caller {me}", 0.15),
        ("caller web.service", 0.15),
    }
    assert [one.scope for one in purse.budgets(os.getuid())] == [f"caller {me}"]


async def test_an_operation_has_a_budget_of_its_own_whoever_asks() -> None:
    purse = a_purse("[operations.tag]\nper_day_usd = 0.5\n")
    assert purse.refusal(dear(600)) is None
    await _refused(purse, dear(600, operation="tag"))
    (await purse.reserve(dear(300, operation="tag", uid=1))).keep()
    await _refused(purse, dear(300, operation="tag", uid=2))
    assert purse.refusal(dear(300, operation="other")) is None
    assert [(one.scope, round(one.spent_usd, 6)) for one in purse.budgets()] == [("operation tag", 0.3)]
    assert purse.budgets(1) == []  # it is nobody's own


async def test_a_shorter_answer_is_asked_for_where_only_that_can_be_paid() -> None:
    purse = a_purse()
    known = await purse.reserve(dear(None, max_output_tokens=2000))
    assert known.max_tokens == 1000
    known.settle(a_usage(), 0.4)
    assert (await purse.reserve(attempt := dear(None, max_output_tokens=2000))).max_tokens == 600
    assert "max_tokens 600 is sent along" in attempt.call.journal.notes[0][2]
    assert purse.statistics().capped == 2


async def test_a_length_that_nobody_bounds_is_capped_at_what_any_model_takes() -> None:
    purse = a_purse("[budget]\nper_day_usd = 20\n")
    assert (await purse.reserve(dear(None))).max_tokens == 4096
    purse = a_purse("[budget]\nper_day_usd = 1000\n")
    assert (await purse.reserve(dear(None, context_tokens=50_000))).max_tokens is None
    assert purse.budgets()[0].held_usd == pytest.approx(50)


async def test_an_answer_that_would_be_cut_too_short_is_not_asked_for() -> None:
    purse = a_purse("[budget]\nper_day_usd = 0.2\n[routing]\ncost_limit_usd = 50\n")
    assert (await _refused(purse, dear(None, max_output_tokens=2000))).details["needed_usd"] == pytest.approx(2)


# --- the limit of the call ------------------------------------------------------------------------------------------------


async def test_a_calls_own_limit_holds_over_all_its_attempts() -> None:
    purse = a_purse("[routing]\ncost_limit_usd = 50\n")
    attempt = dear(100, cost_limit_usd=0.15)
    (await purse.reserve(attempt)).settle(a_usage(), 0.08)
    error = await _refused(purse, an_attempt(attempt.call, attempt.target))
    assert error.details["budget"] == "cost_limit"
    assert error.details["spent_usd"] == pytest.approx(0.08)
    assert "cost_limit of the call, $0.15" in error.message
    assert "on_exhausted" not in error.details  # the next of the chain may be cheaper
    assert error.retry_after_s is None


async def test_attempts_of_one_call_at_once_share_its_limit() -> None:
    purse = a_purse("[routing]\ncost_limit_usd = 50\n")
    attempt = dear(100, cost_limit_usd=0.15)
    first = await purse.reserve(attempt)
    await _refused(purse, an_attempt(attempt.call, attempt.target))
    first.release()
    await purse.reserve(an_attempt(attempt.call, attempt.target))


async def test_the_default_limit_goes_by_what_is_known() -> None:
    purse = a_purse("[routing]\ncost_limit_usd = 0.5\n")
    assert purse.refusal(dear(600)) is not None  # as long as the call says
    assert purse.refusal(dear(None, context_tokens=128_000)) is None  # nobody knows how long it will be
    assert (await purse.reserve(dear(None, max_output_tokens=4000))).max_tokens == 500
    assert purse.refusal(dear(10**6, price=Price())) is None  # an unknown price is not held to it


async def test_a_limit_that_was_asked_for_is_kept_whatever_is_unknown() -> None:
    purse = a_purse("[routing]\ncost_limit_usd = 50\n")
    assert (await purse.reserve(dear(None, cost_limit_usd=2.0))).max_tokens == 2000
    assert purse.refusal(dear(10**6, price=Price(), cost_limit_usd=1.0)) is not None


# --- when it is used up, and when the file changes ------------------------------------------------------------------------


async def test_cache_only_stops_all_until_it_begins_anew() -> None:
    purse = a_purse('[budget]\nper_day_usd = 1.0\non_exhausted = "cache_only"\n')
    (await purse.reserve(dear(900))).keep()
    assert purse.refusal(dear(50)) is None
    await _refused(purse, dear(500))
    stopped = purse.refusal(dear(50))
    assert stopped is not None
    assert stopped.details["on_exhausted"] == "cache_only"
    assert purse.refusal(dear(50, price=Price(0.0, 0.0))) is not None
    purse.clock.now += 86_400
    assert purse.refusal(dear(50)) is None


async def test_a_new_configuration_changes_limits_and_not_what_was_spent(autojump_clock) -> None:
    purse = a_purse()
    (await purse.reserve(dear(950))).keep()
    await _refused(purse, dear(500))
    purse.reconfigure(config("[budget]\nper_day_usd = 2\n"))
    assert purse.refusal(dear(500)) is None
    assert spent(purse) == (0.95, 0.95, 0)
    purse.reconfigure(config(""))
    assert purse.refusal(dear(50_000, cost_limit_usd=100.0)) is None


async def test_who_waits_looks_again_when_the_file_changes(autojump_clock) -> None:
    purse = a_purse()
    await purse.reserve(dear(900))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(purse.reserve, dear(500))
        await wait_all_tasks_blocked()
        purse.reconfigure(config("[budget]\nper_day_usd = 2\n"))
    assert spent(purse)[2] == pytest.approx(1.4)


async def test_many_at_once_never_hold_more_than_the_limit(autojump_clock) -> None:
    purse = a_purse()
    most = 0.0

    async def caller(number: int) -> None:
        nonlocal most
        try:
            hold = await purse.reserve(dear(50 + number))
        except BudgetExceeded:
            return
        done, _, held = spent(purse)
        most = max(most, done + held)
        await trio.sleep(1 + number % 7)
        (hold.release if number % 5 == 0 else lambda: hold.settle(a_usage(), number / 1000))()

    async with trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(caller, number)
    assert most <= 1.0
    assert spent(purse)[0] <= 1.0
    assert purse.statistics().open == 0


async def test_a_failure_that_may_have_cost_anything_does_not_use_up_the_limit_that_nobody_asked_for() -> None:
    purse = a_purse("[routing]\ncost_limit_usd = 1\n")
    attempt = dear(None)  # an answer as long as the context would cost a hundred times as much
    (await purse.reserve(attempt)).keep()
    (await purse.reserve(attempt)).settle(a_usage(), 0.4)
    assert attempt.call.journal.committed_usd == pytest.approx(0.4)
    assert purse.refusal(attempt) is None
    bounded = dear(900)  # what somebody bounded counts in full
    (await purse.reserve(bounded)).keep()
    assert bounded.call.journal.committed_usd == pytest.approx(0.9)
    own = dear(None, cost_limit_usd=1.0)  # and so does all under a limit of the call's own
    (await purse.reserve(own)).keep()
    assert own.call.journal.committed_usd == pytest.approx(1.0)
    assert purse.refusal(own) is not None


@pytest.mark.parametrize("text", ["[routing]\ncost_limit_usd = 50\n", "[budget]\nper_day_usd = 1.0\n"])
@pytest.mark.parametrize("queued", [True, False])
async def test_a_refused_call_is_forgotten_at_once(text: str, queued: bool) -> None:
    purse = a_purse(text)

    async def ask(_: Attempt) -> Reply:
        raise AssertionError("nothing is sent")

    stage = Spend(ask, purse) if queued else Afford(ask, purse)
    attempt = dear(1000, cost_limit_usd=0.15)
    with forgotten_at_once(dict(attempt.call.request)) as prompts:
        attempt = replace(attempt, call=replace(attempt.call, request=prompts.pop()))
        with pytest.raises(BudgetExceeded):
            await stage(attempt)
        del attempt
