"""The turnstile: permits, quotas and the queue of one target, on a fake clock."""

from __future__ import annotations

import gc
import random
import weakref

import pytest
import trio
from harness import a_call, a_caller, an_attempt, cancel_at_every_checkpoint
from trio.testing import wait_all_tasks_blocked
from turnstiles import a_turnstile, change, passing

from aiorch.errors import Overloaded


def attempt(uid=1000, *, tokens=0, timeout_s=1000.0):
    return an_attempt(a_call(caller=a_caller(uid), timeout_s=timeout_s), estimated_tokens=tokens)


class Passenger:
    """Goes through in a task of its own and stays inside until told to leave."""

    def __init__(self, nursery, turnstile, attempt, *, hold_s=None, actual=None):
        self.entered_at = self.refusal = self.turn = None
        self.cancelled = False
        self.scope = trio.CancelScope()
        self._leave = trio.Event()
        self._hold_s, self._actual = hold_s, actual
        nursery.start_soon(self._go, turnstile, attempt)

    async def _go(self, turnstile, attempt):
        with self.scope:
            try:
                async with passing(turnstile, attempt) as passage:
                    self.entered_at = trio.current_time()
                    self.turn = passage
                    if self._hold_s is None:
                        await self._leave.wait()
                    else:
                        await trio.sleep(self._hold_s)
                    if self._actual is not None:
                        passage.answered(self._actual, 0)
            except Overloaded as refusal:
                self.refusal = refusal
        self.cancelled = self.scope.cancelled_caught

    @property
    def inside(self):
        return self.entered_at is not None and not self._leave.is_set()

    def leave(self):
        self._leave.set()


def assert_idle(turnstile):
    statistics = turnstile.statistics()
    assert (statistics.in_use, statistics.waiting, dict(statistics.waiting_by_caller)) == (0, 0, {})
    assert all(len(queue._deadlines) == 0 for queue in turnstile._queue._queues)
    assert turnstile._alarm_holder is None


async def test_who_need_not_wait_does_not_even_yield(autojump_clock):
    turnstile = a_turnstile(permits=2, requests_per_minute=600, tokens_per_minute=60_000)
    others = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: _note(others))
        async with passing(turnstile, attempt(tokens=50)) as passage:
            assert others == []
            assert passage.asked_at == passage.granted_at == trio.current_time()
            assert sum(passage.need) == 50
            assert turnstile.statistics().in_use == 1
    assert_idle(turnstile)


async def _note(where):
    where.append(True)


async def test_permits_bound_what_runs_and_the_rest_waits_in_order(autojump_clock):
    turnstile = a_turnstile(permits=2)
    async with trio.open_nursery() as nursery:
        passengers = []
        for _ in range(4):
            passengers.append(Passenger(nursery, turnstile, attempt()))
            await wait_all_tasks_blocked()
        assert [each.inside for each in passengers] == [True, True, False, False]
        assert turnstile.statistics().waiting_by_caller == {"1000": 2}
        await trio.sleep(3)
        passengers[1].leave()
        await wait_all_tasks_blocked()
        assert [each.inside for each in passengers] == [True, False, True, False]
        assert passengers[2].turn.granted_at - passengers[2].turn.asked_at == pytest.approx(3.0)
        passengers[0].leave()
        passengers[2].leave()
        await wait_all_tasks_blocked()
        passengers[3].leave()
    assert_idle(turnstile)
    assert (turnstile.statistics().granted, turnstile.statistics().waited) == (4, 2)


async def test_callers_take_turns(autojump_clock):
    turnstile = a_turnstile(permits=1)
    order = []

    async def go(uid):
        async with passing(turnstile, attempt(uid)):
            order.append(uid)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for uid, number in ((1, 6), (2, 2)):
            for _ in range(number):
                nursery.start_soon(go, uid)
                await wait_all_tasks_blocked()
    assert order == [1, 1, 2, 1, 2, 1, 1, 1]


async def test_requests_are_paced(autojump_clock):
    turnstile = a_turnstile(permits=100, requests_per_minute=60, burst_s=3)
    async with trio.open_nursery() as nursery:
        passengers = [Passenger(nursery, turnstile, attempt(), hold_s=0.1) for _ in range(8)]
    assert sorted(each.entered_at for each in passengers) == pytest.approx([0, 0, 0, 1, 2, 3, 4, 5], abs=1e-3)
    assert_idle(turnstile)


async def test_tokens_are_paced_and_settled(autojump_clock):
    turnstile = a_turnstile(permits=100, tokens_per_minute=6000, burst_s=10)  # 100/s, 1 000 at once
    async with trio.open_nursery() as nursery:
        Passenger(nursery, turnstile, attempt(tokens=800), hold_s=1, actual=300)
        await wait_all_tasks_blocked()
        second = Passenger(nursery, turnstile, attempt(tokens=800), hold_s=1)
        await wait_all_tasks_blocked()
        # 200 are left. After a second 100 more have come and 500 come back: 800.
    assert second.entered_at == pytest.approx(1.0)
    assert_idle(turnstile)


async def test_without_settling_the_estimate_stands(autojump_clock):
    turnstile = a_turnstile(permits=1, tokens_per_minute=6000, burst_s=10)
    async with passing(turnstile, attempt(tokens=400)):
        pass
    assert turnstile.statistics().tokens_left == 600.0


async def test_an_overrun_is_paid_by_the_next(autojump_clock):
    turnstile = a_turnstile(permits=1, tokens_per_minute=6000, burst_s=10)
    async with passing(turnstile, attempt(tokens=400)) as passage:
        passage.answered(1500, 0)
    assert turnstile.statistics().tokens_left == -500.0
    async with passing(turnstile, attempt(tokens=100)) as passage:
        assert passage.granted_at - passage.asked_at == pytest.approx(6.0)


async def test_a_large_one_first_in_line_is_not_overtaken(autojump_clock):
    turnstile = a_turnstile(permits=10, tokens_per_minute=6000, burst_s=10)
    async with trio.open_nursery() as nursery:
        Passenger(nursery, turnstile, attempt(tokens=1000), hold_s=0.1)
        await wait_all_tasks_blocked()
        large = Passenger(nursery, turnstile, attempt(tokens=900), hold_s=0.1)
        await wait_all_tasks_blocked()
        small = Passenger(nursery, turnstile, attempt(tokens=10), hold_s=0.1)
    assert large.entered_at == pytest.approx(9.0)
    assert small.entered_at == pytest.approx(9.1)


async def test_more_than_a_minutes_worth_goes_when_the_bucket_is_full(autojump_clock):
    turnstile = a_turnstile(permits=10, tokens_per_minute=6000, burst_s=10)
    async with passing(turnstile, attempt(tokens=500)):
        pass
    async with passing(turnstile, attempt(tokens=9000)):
        assert trio.current_time() == pytest.approx(5.0)
    assert turnstile.statistics().tokens_left == pytest.approx(-8000.0)


async def test_a_full_queue_turns_away_the_newest_of_the_longest(autojump_clock):
    turnstile = a_turnstile(permits=1, max_waiting=2)
    async with trio.open_nursery() as nursery:
        flood = []
        for _ in range(4):
            flood.append(Passenger(nursery, turnstile, attempt(1)))
            await wait_all_tasks_blocked()
        assert flood[3].refusal.code == "overloaded"
        assert flood[3].refusal.details == {"reason": "full", "waiting": 2, "model": "small"}
        assert flood[3].refusal.retry_after_s > 0
        modest = Passenger(nursery, turnstile, attempt(2))
        await wait_all_tasks_blocked()
        assert flood[2].refusal is not None  # made room for the other caller
        assert modest.refusal is None
        assert turnstile.statistics().refused_full == 2
        nursery.cancel_scope.cancel()
    assert_idle(turnstile)


async def test_with_no_room_nobody_waits(autojump_clock):
    turnstile = a_turnstile(permits=1, max_waiting=0)
    async with passing(turnstile, attempt()):
        with pytest.raises(Overloaded, match="wait already"):
            async with passing(turnstile, attempt()):
                pass
    assert_idle(turnstile)


async def test_who_cannot_make_its_deadline_is_refused_at_once(autojump_clock):
    turnstile = a_turnstile(permits=10, requests_per_minute=6)  # one in ten seconds
    async with passing(turnstile, attempt()):
        pass
    with pytest.raises(Overloaded, match="longer than this call can wait") as caught:
        async with passing(turnstile, attempt(timeout_s=5.0)):
            pass
    assert trio.current_time() == 0.0
    assert caught.value.retry_after_s == pytest.approx(10.0)
    assert caught.value.details == {"reason": "deadline", "model": "small"}
    assert_idle(turnstile)


async def test_who_could_be_asked_elsewhere_waits_less_long(autojump_clock):
    turnstile = a_turnstile(permits=1)
    turnstile.cool_down(0.0, 10.0)
    with pytest.raises(Overloaded):
        async with passing(turnstile, an_attempt(a_call(timeout_s=15.0), start_by=7.5)):
            pass
    async with passing(turnstile, an_attempt(a_call(timeout_s=15.0), start_by=15.0)):
        assert trio.current_time() == pytest.approx(10.0)


async def test_a_load_that_stays_does_not_fill_the_queue_with_those_who_come_too_late(autojump_clock):
    turnstile = a_turnstile(permits=2)  # twenty a second
    answered = late = refused = 0

    async def call():
        nonlocal answered, late, refused
        with trio.move_on_after(3.0) as patience:
            try:
                async with passing(turnstile, attempt(timeout_s=3.0)):
                    await trio.sleep(0.1)
            except Overloaded:
                refused += 1
                return
            answered += 1
        late += patience.cancelled_caught

    async with trio.open_nursery() as nursery:
        for _ in range(5 * 20 * 20):  # five times as many, for 20 s
            nursery.start_soon(call)
            await trio.sleep(0.01)
    assert late == 0
    assert answered >= 0.9 * 20 * 20
    assert answered + refused == 2000
    assert_idle(turnstile)


async def test_after_a_load_that_stayed_those_who_come_next_do_not_wait_behind_all_of_it(autojump_clock):
    turnstile = a_turnstile(permits=5)  # fifty a second
    waits = []

    async def call(uid, timeout_s=3.0):
        began = trio.current_time()
        try:
            async with passing(turnstile, attempt(uid, timeout_s=timeout_s)):
                waits.append((began, trio.current_time() - began))
                await trio.sleep(0.1)
        except Overloaded:
            waits.append((began, None))

    async with trio.open_nursery() as nursery:
        for _ in range(5 * 50 * 10):  # five times as many, for 10 s
            nursery.start_soon(call, 1)
            await trio.sleep(0.004)
        for _ in range(25 * 6):  # then half of what can be done
            nursery.start_soon(call, 1)
            await trio.sleep(0.04)
    ended = 10.0
    assert sum(wait is not None for _, wait in waits) >= 50 * 10 + 25 * 6 - 5  # never idle, never too short a queue
    assert max(wait for began, wait in waits if began < 1.0 and wait is not None) > 2.0  # as a burst it is let in
    assert max(wait for began, wait in waits if 4.0 < began < ended and wait is not None) < 0.9
    assert all(wait is not None and wait < 0.4 for began, wait in waits if began > ended + 1.5)
    assert_idle(turnstile)


async def test_a_flood_that_stays_shortens_the_queue_of_nobody_else(autojump_clock):
    turnstile = a_turnstile(permits=5)
    refused = {1: 0, 2: 0}

    async def call(uid, timeout_s):
        try:
            async with passing(turnstile, attempt(uid, timeout_s=timeout_s)):
                await trio.sleep(0.1)
        except Overloaded:
            refused[uid] += 1

    async with trio.open_nursery() as nursery:
        for number in range(250 * 5):
            nursery.start_soon(call, 1, 3.0)
            await trio.sleep(0.004)
            if number == 250 * 4:
                assert refused[1] > 100
                for _ in range(100):  # two seconds of work, of six that they have: more than a quarter
                    nursery.start_soon(call, 2, 6.0)
    assert refused[2] == 0


async def test_who_stands_too_far_back_is_refused_at_once(autojump_clock):
    turnstile = a_turnstile(permits=10, requests_per_minute=60, burst_s=1)
    async with trio.open_nursery() as nursery:
        passengers = [Passenger(nursery, turnstile, attempt(timeout_s=30.5), hold_s=0.1) for _ in range(50)]
        await wait_all_tasks_blocked()
        assert trio.current_time() == 0.0
        refused = [each for each in passengers if each.refusal is not None]
        # One goes now, thirty within their time; two of them too late for an answer, which is thought to take a second.
        assert len(refused) == 21
        assert {each.refusal.details["reason"] for each in refused} == {"deadline"}
    assert sum(each.entered_at is not None for each in passengers) == 29
    assert_idle(turnstile)


async def test_one_is_not_refused_because_of_anothers_long_queue(autojump_clock):
    turnstile = a_turnstile(permits=10, requests_per_minute=60, burst_s=1)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            Passenger(nursery, turnstile, attempt(1, timeout_s=1000), hold_s=0.1)
        await wait_all_tasks_blocked()
        modest = Passenger(nursery, turnstile, attempt(2, timeout_s=5), hold_s=0.1)
        await wait_all_tasks_blocked()
        await trio.sleep(3)
        assert modest.entered_at <= 2.0 + 1e-3
        nursery.cancel_scope.cancel()


async def test_the_providers_word_closes_the_door_for_everybody(autojump_clock):
    turnstile = a_turnstile(permits=10)
    turnstile.cool_down(trio.current_time(), 4.0)
    assert turnstile.statistics().closed_s == 4.0
    async with trio.open_nursery() as nursery:
        patient = Passenger(nursery, turnstile, attempt(timeout_s=60), hold_s=0.1)
        hasty = Passenger(nursery, turnstile, attempt(timeout_s=3), hold_s=0.1)
        await wait_all_tasks_blocked()
        assert trio.current_time() == 0.0
        assert hasty.refusal.retry_after_s == pytest.approx(4.0)
        assert patient.refusal is None
    assert patient.entered_at == pytest.approx(4.0)
    assert_idle(turnstile)


async def test_closing_refuses_those_who_wait_already_and_have_not_the_time(autojump_clock):
    turnstile = a_turnstile(permits=1)
    async with trio.open_nursery() as nursery:
        holder = Passenger(nursery, turnstile, attempt())
        await wait_all_tasks_blocked()
        hasty = Passenger(nursery, turnstile, attempt(timeout_s=10), hold_s=0)
        patient = Passenger(nursery, turnstile, attempt(timeout_s=100), hold_s=0)
        await wait_all_tasks_blocked()
        turnstile.cool_down(trio.current_time(), 20.0)
        await wait_all_tasks_blocked()
        assert trio.current_time() == 0.0
        assert hasty.refusal.retry_after_s == pytest.approx(20.0)
        holder.leave()
    assert patient.entered_at == pytest.approx(20.0)


async def test_of_two_closures_the_later_end_holds(autojump_clock):
    turnstile = a_turnstile(permits=10)
    turnstile.cool_down(0.0, 10.0)
    turnstile.cool_down(0.0, 2.0)
    async with trio.open_nursery() as nursery:
        passenger = Passenger(nursery, turnstile, attempt(), hold_s=0)
        await trio.sleep(5)
        turnstile.cool_down(trio.current_time(), 20.0)  # longer, while somebody waits for the old end
    assert passenger.entered_at == pytest.approx(25.0)
    assert turnstile.statistics().closures == 2


async def test_more_permits_wake_those_who_wait_and_fewer_let_holders_finish(autojump_clock):
    turnstile = a_turnstile(permits=1)
    limits = {"requests_per_minute": None, "tokens_per_minute": None, "max_waiting": 100}
    async with trio.open_nursery() as nursery:
        passengers = []
        for _ in range(5):
            passengers.append(Passenger(nursery, turnstile, attempt()))
            await wait_all_tasks_blocked()
        change(turnstile, 0.0, permits=3, **limits)
        await wait_all_tasks_blocked()
        assert [each.inside for each in passengers] == [True, True, True, False, False]
        change(turnstile, 0.0, permits=1, **limits)
        passengers[0].leave()
        passengers[1].leave()
        await wait_all_tasks_blocked()
        assert turnstile.statistics().in_use == 1
        assert not passengers[3].inside
        passengers[2].leave()
        await wait_all_tasks_blocked()
        assert passengers[3].inside
        passengers[3].leave()
        passengers[4].leave()
    assert_idle(turnstile)


async def test_a_raised_limit_is_felt_by_those_who_wait(autojump_clock):
    turnstile = a_turnstile(permits=10, requests_per_minute=1)
    async with trio.open_nursery() as nursery:
        Passenger(nursery, turnstile, attempt(), hold_s=0)
        await wait_all_tasks_blocked()
        passenger = Passenger(nursery, turnstile, attempt(), hold_s=0)
        await trio.sleep(6)
        change(turnstile, 6.0, permits=10, requests_per_minute=60, tokens_per_minute=None, max_waiting=10)
    assert passenger.entered_at == pytest.approx(6.9, abs=1e-2)  # 0.1 had come at the old rate


async def test_a_limit_that_appears_and_goes_away(autojump_clock):
    turnstile = a_turnstile(permits=10)
    async with passing(turnstile, attempt(tokens=100)) as passage:
        change(turnstile, 0.0, permits=10, requests_per_minute=60, tokens_per_minute=600, max_waiting=10)
        passage.answered(10, 0)
    statistics = turnstile.statistics()
    assert (statistics.requests_left, statistics.tokens_left) == (6.0, 60.0)
    change(turnstile, 0.0, permits=10, requests_per_minute=None, tokens_per_minute=None, max_waiting=10)
    assert turnstile.statistics().requests_left is None


@pytest.mark.parametrize("permits", [0, -1])
async def test_no_permits_is_a_mistake(permits):
    with pytest.raises(ValueError, match="permits need 1 <="):
        a_turnstile(permits=permits)
    with pytest.raises(ValueError, match="permits need 1 <="):
        change(a_turnstile(1), 0.0, permits=permits, requests_per_minute=None, tokens_per_minute=None, max_waiting=1)


async def test_leaving_the_queue_lets_the_next_one_try(autojump_clock):
    turnstile = a_turnstile(permits=10, tokens_per_minute=6000, burst_s=10)
    async with trio.open_nursery() as nursery:
        Passenger(nursery, turnstile, attempt(tokens=900), hold_s=0)
        await wait_all_tasks_blocked()
        large = Passenger(nursery, turnstile, attempt(tokens=1000), hold_s=0)
        await wait_all_tasks_blocked()
        small = Passenger(nursery, turnstile, attempt(tokens=50), hold_s=0)
        await wait_all_tasks_blocked()
        assert not small.inside
        large.scope.cancel()
        await wait_all_tasks_blocked()
        assert small.entered_at == 0.0
    assert large.cancelled
    assert_idle(turnstile)


async def test_cancelled_in_the_moment_of_the_grant_gives_everything_back(autojump_clock):
    turnstile = a_turnstile(permits=1, requests_per_minute=60, tokens_per_minute=6000, burst_s=10)
    async with trio.open_nursery() as nursery:
        holder = Passenger(nursery, turnstile, attempt(tokens=100), actual=100)
        await wait_all_tasks_blocked()
        unlucky = Passenger(nursery, turnstile, attempt(tokens=500))
        next_one = Passenger(nursery, turnstile, attempt(tokens=500))
        await wait_all_tasks_blocked()
        # Its cancellation is under way (the task is scheduled, not yet run) when the permit comes free.
        unlucky.scope.cancel()
        holder.leave()
        await wait_all_tasks_blocked()
        assert unlucky.cancelled
        assert next_one.inside
        next_one.leave()
    assert turnstile.statistics().requests_left == 8.0  # two were sent
    assert turnstile.statistics().tokens_left == 400.0
    assert_idle(turnstile)


async def test_granted_just_before_the_cancellation_still_leaves_properly(autojump_clock):
    turnstile = a_turnstile(permits=1)
    async with trio.open_nursery() as nursery:
        first = Passenger(nursery, turnstile, attempt())
        await wait_all_tasks_blocked()
        second = Passenger(nursery, turnstile, attempt())
        await wait_all_tasks_blocked()
        change(turnstile, 0.0, permits=2, requests_per_minute=None, tokens_per_minute=None, max_waiting=9)
        second.scope.cancel()  # granted, rescheduled, and only then cancelled
        await wait_all_tasks_blocked()
        assert second.cancelled
        assert turnstile.statistics().in_use == 1
        first.leave()
    assert_idle(turnstile)


async def test_the_alarm_and_a_cancellation_at_the_same_moment(autojump_clock):
    turnstile = a_turnstile(permits=10, requests_per_minute=60, burst_s=1)
    async with trio.open_nursery() as nursery:
        Passenger(nursery, turnstile, attempt(), hold_s=0)
        await wait_all_tasks_blocked()
        first = Passenger(nursery, turnstile, attempt(), hold_s=0)
        await wait_all_tasks_blocked()
        second = Passenger(nursery, turnstile, attempt(), hold_s=0)
        await wait_all_tasks_blocked()
        first.scope.deadline = 1.0  # exactly when its turn would come
    assert first.cancelled or first.entered_at == pytest.approx(1.0)
    # Whoever was first, the other does not wait longer than it must.
    assert second.entered_at == pytest.approx(1.0 if first.cancelled else 2.0, abs=1e-3)
    assert_idle(turnstile)


async def test_nothing_turns_round_busily_while_waiting(autojump_clock):
    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task):
            self.count += 1

    turnstile = a_turnstile(permits=10, requests_per_minute=60, burst_s=1)
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            Passenger(nursery, turnstile, attempt(), hold_s=0.5)
    trio.lowlevel.remove_instrument(steps)
    assert trio.current_time() == pytest.approx(19.5, abs=1e-2)
    assert steps.count < 20 * 10


class Prompt(dict):
    """Something large that can be looked for."""


async def test_who_left_is_forgotten(autojump_clock):
    turnstile = a_turnstile(permits=1)
    async with trio.open_nursery() as nursery:
        holder = Passenger(nursery, turnstile, attempt())
        await wait_all_tasks_blocked()
        stays = Passenger(nursery, turnstile, attempt())
        await wait_all_tasks_blocked()
        prompt = Prompt(messages=[])
        leaving = a_call(timeout_s=1e6, request=prompt)
        gone = Passenger(nursery, turnstile, an_attempt(leaving))
        await wait_all_tasks_blocked()
        gone.scope.cancel()
        await wait_all_tasks_blocked()
        seen = weakref.ref(prompt)
        del leaving, gone, prompt
        gc.collect()
        assert any(not entry.waiting for _, _, entry in turnstile._queue._queues[1]._deadlines)
        assert seen() is None
        holder.leave()
        await wait_all_tasks_blocked()
        stays.leave()


# --- cancelled anywhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits", [{}, {"requests_per_minute": 60, "burst_s": 1}, {"tokens_per_minute": 600, "burst_s": 1}]
)
async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock, limits):
    def scenario(nursery):
        turnstile = a_turnstile(permits=1, **limits)
        others = [Passenger(nursery, turnstile, attempt(uid, tokens=5), hold_s=0.3) for uid in (1, 1, 2)]

        async def run():
            for _ in range(2):
                async with passing(turnstile, attempt(3, tokens=5)) as passage:
                    await trio.sleep(0.2)
                    passage.answered(3, 0)
            turnstile.cool_down(trio.current_time(), 1.0)
            async with passing(turnstile, attempt(3, tokens=5)):
                await trio.sleep(0.2)

        return (turnstile, others), run

    async def idle(subject):
        turnstile, others = subject
        await trio.sleep(30)  # the others come to their end, whatever happened to this one
        assert all(other.entered_at is not None for other in others)
        assert_idle(turnstile)

    assert await cancel_at_every_checkpoint(scenario, idle) >= 10


async def test_everybody_cancelled_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        turnstile = a_turnstile(permits=2, requests_per_minute=120, burst_s=1)

        async def run():
            async with trio.open_nursery() as crowd:
                for uid in (1, 1, 1, 2, 2):
                    Passenger(crowd, turnstile, attempt(uid), hold_s=0.4)

        return turnstile, run

    assert await cancel_at_every_checkpoint(scenario, assert_idle) >= 10


# --- against a provider that enforces its limit -------------------------------------------------------------------------


class TrueBucket:
    """What a provider does, written differently: it adds up what was used in every window that ends now."""

    def __init__(self, rate_per_s, burst):
        self._rate_per_s, self._burst = rate_per_s, burst
        self._uses = []
        self.overruns = 0

    def use(self, now, amount):
        self._uses.append((now, amount))
        total = 0.0
        for time, used in reversed(self._uses):
            total += used
            if total > self._burst + (now - time) * self._rate_per_s + 1e-3:
                self.overruns += 1
                return


@pytest.mark.parametrize("bias", [0.3, 1.0])
async def test_eight_callers_never_overrun_a_limit_that_is_enforced(autojump_clock, bias):
    chance = random.Random(7)
    turnstile = a_turnstile(permits=6, requests_per_minute=240, tokens_per_minute=60_000, burst_s=5)
    requests, tokens = TrueBucket(4.0, 20.0), TrueBucket(1000.0, 5000.0)
    served = dict.fromkeys(range(8), 0)
    used = 0

    async def caller(uid):
        nonlocal used
        with trio.CancelScope(deadline=300.0):
            while True:
                estimate = chance.randint(50, 800)
                async with passing(turnstile, attempt(uid, tokens=estimate)) as passage:
                    now = trio.current_time()
                    actual = int(estimate * chance.uniform(bias * 0.5, bias))
                    requests.use(now, 1)
                    tokens.use(now, actual)
                    await trio.sleep(chance.uniform(0.05, 2.0))
                    passage.answered(actual, 0)
                    served[uid] += 1
                    used += actual
                if chance.random() < 0.02:
                    await trio.sleep(chance.uniform(0, 20))  # pauses, so that the buckets fill up in between

    async with trio.open_nursery() as nursery:
        for uid in served:
            nursery.start_soon(caller, uid)
    assert (requests.overruns, tokens.overruns) == (0, 0)
    assert min(served.values()) > 0.6 * max(served.values())
    assert_idle(turnstile)
    # And it is not merely timid: the scarcer quota is used.
    assert max(used / (1000 * 300), sum(served.values()) / (4 * 300)) > 0.9


async def test_long_calls_that_used_little_do_not_make_a_later_wave_overrun(autojump_clock):
    turnstile = a_turnstile(permits=100, tokens_per_minute=6000, burst_s=10)  # 100/s, 1 000 at once
    tokens = TrueBucket(100.0, 1000.0)

    async def go(start_s, estimate, actual, hold_s):
        await trio.sleep(start_s)
        async with passing(turnstile, attempt(tokens=estimate)) as passage:
            tokens.use(trio.current_time(), actual)
            await trio.sleep(hold_s)
            passage.answered(actual, 0)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(go, 0, 200, 1, 20)
        for _ in range(10):
            nursery.start_soon(go, 15, 100, 100, 1)  # the bucket is full again, and this empties it
        for _ in range(20):
            nursery.start_soon(go, 20.001, 100, 100, 1)  # when the long ones have just told how little they used
    assert tokens.overruns == 0
    assert_idle(turnstile)


async def test_fair_shares_are_shares_of_what_is_scarce(autojump_clock):
    turnstile = a_turnstile(permits=100, tokens_per_minute=60_000, burst_s=1)
    tokens_of = {1: 0, 2: 0}

    async def go(uid, tokens):
        async with passing(turnstile, attempt(uid, tokens=tokens, timeout_s=1e6)):
            if trio.current_time() < 20:
                tokens_of[uid] += tokens

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(go, 1, 1000)
            nursery.start_soon(go, 2, 100)
    assert tokens_of[1] == pytest.approx(tokens_of[2], rel=0.15)
