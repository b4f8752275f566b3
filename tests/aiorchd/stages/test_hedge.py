"""Hedge: a second try for who is late, one winner, the loser settled, and nothing where nothing is late."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
from harness import (
    InnerService,
    RecordedSink,
    a_call,
    a_reply,
    a_target,
    an_attempt,
    ask,
    cancel_at_every_checkpoint,
)

from aiorch.errors import IncompleteStream, InternalError, Overloaded, ProviderError
from aiorchd.calls.call import AttemptBudget
from aiorchd.core.backoff import Backoff
from aiorchd.core.hedge_pace import HedgePace, HedgePolicy
from aiorchd.stages.hedge import Alarms, Hedge
from aiorchd.stages.retry import Retry

POLICY = HedgePolicy(quantile=0.9, min_samples=10, max_share=0.1)


class Log:
    def __init__(self):
        self.told = []

    def exception(self, event, /, **fields):
        self.told.append(event)


class Sent:
    """Below Retry: marks the attempt as sent, as Dispatch does, and asks the service that the test plays."""

    def __init__(self, inner):
        self._inner = inner

    async def __call__(self, attempt):
        attempt.notes["sent_at"] = trio.current_time()
        return await self._inner(attempt)


class Scene:
    def __init__(self, nursery, policy=POLICY, *, elsewhere=True):
        self.inners = {name: InnerService() for name in ("small", "large")}
        retries = {
            name: Retry(Sent(inner), Backoff((1.0,), uniform=lambda: 0.5)) for name, inner in self.inners.items()
        }
        self.small, self.large = self.inners.values()
        self.pace = HedgePace(policy)
        for _ in range(10):
            self.pace.learn(2.0, streamed=False)
            self.pace.learn(1.0, streamed=True)
        self.alarms = Alarms()
        nursery.start_soon(self.alarms.run)
        self.log = Log()
        self.hedge = Hedge(retries["small"], retries, self.pace, self.alarms, nursery, self.log, elsewhere=elsewhere)

    def attempt(self, call=None, *, alternatives=("large",), limit=4):
        return an_attempt(
            call,
            budget=AttemptBudget(limit),
            alternatives=tuple(a_target(name) for name in alternatives),
        )

    def assert_idle(self):
        statistics = self.hedge.statistics()
        assert (statistics.inside, statistics.racing) == (0, 0)
        assert all(inner.in_flight == 0 for inner in self.inners.values())


@asynccontextmanager
async def scene(**options):
    async with trio.open_nursery() as nursery:
        it = Scene(nursery, **options)
        yield it, nursery
        it.assert_idle()
        it.alarms.close()


async def test_who_is_in_time_is_asked_once(autojump_clock):
    async with scene() as (it, nursery):
        call = a_call()
        asked = ask(nursery, it.hedge, it.attempt(call))
        received = await it.small.next()
        await trio.sleep(1.9)
        received.reply(text="in time")
        assert (await asked.reply()).text == "in time"
        await trio.sleep(10)
        await it.large.assert_quiet()
        assert it.hedge.statistics().started == 0
        assert call.journal.notes == []


async def test_who_is_late_is_asked_twice_and_the_second_may_win(autojump_clock):
    async with scene() as (it, nursery):
        call = a_call()
        attempt = it.attempt(call)
        asked = ask(nursery, it.hedge, attempt)
        first = await it.small.next()
        second = await it.large.next()
        assert trio.current_time() == pytest.approx(2.0)
        assert (second.request.target.name, second.request.number, second.request.call) == ("large", 2, call)
        second.reply(text="quicker", model="large")
        assert (await asked.reply()).text == "quicker"
        assert first.cancelled
        assert attempt.budget.used == 2
        statistics = it.hedge.statistics()
        assert (statistics.started, statistics.won) == (1, 1)
        records = {record.model: record for record in call.journal.attempts}
        assert (records["large"].verdict, records["large"].hedge) == ("ok", True)
        assert (records["small"].code, records["small"].hedge) == ("cancelled", None)
        assert call.journal.hedges == 1
        assert (records["large"].race, records["small"].race) == ("won", "lost")
        assert [what for _, stage, what in call.journal.notes if stage == "hedge"] == [
            "small is late after 2 s: asking large as well",
            "the second try answered first",
        ]


async def test_the_first_may_still_win_and_the_second_is_settled_before_it_returns(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt())
        first = await it.small.next()
        second = await it.large.next()
        first.reply(text="after all")
        assert (await asked.reply()).text == "after all"
        assert second.cancelled
        assert it.hedge.statistics().won == 0


async def test_what_both_take_at_the_same_moments_is_counted_once(autojump_clock):
    """The Gate adds up what each took; a call that waited 5 s for two tries did not wait 8 s."""
    async with scene() as (it, nursery):
        journal = (call := a_call()).journal
        asked = ask(nursery, it.hedge, it.attempt(call))
        first = await it.small.next()
        second = await it.large.next()
        second.request.notes["queue_s"] = 1.0
        journal.queue_s += 1.0
        await trio.sleep(3)
        first.request.notes["provider_s"], second.request.notes["provider_s"] = 5.0, 2.0
        journal.provider_s += 7.0
        first.reply(text="mine")
        await asked.reply()
        assert (journal.queue_s, journal.provider_s) == (pytest.approx(0.0), pytest.approx(5.0))
        assert [(record.number, record.race) for record in journal.attempts] == [(1, "won"), (2, "lost")]


async def test_a_retry_beside_a_second_try_has_a_number_of_its_own(autojump_clock):
    async with scene() as (it, nursery):
        call = a_call()
        asked = ask(nursery, it.hedge, it.attempt(call))
        first = await it.small.next()
        second = await it.large.next()
        first.fail(ProviderError("broken"))
        again = await it.small.next()
        again.reply(text="after all")
        await asked.reply()
        assert second.cancelled
        told = sorted((record.number, record.model, record.race) for record in call.journal.attempts)
        assert told == [(1, "small", None), (2, "large", "lost"), (3, "small", "won")]
        assert call.journal.racing == 0


async def test_without_an_alternative_the_same_target_is_asked_again(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt(alternatives=()))
        await it.small.next()
        (await it.small.next()).reply(text="second")
        assert (await asked.reply()).text == "second"
    async with scene(elsewhere=False) as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt())
        await it.small.next()
        (await it.small.next()).reply(text="second")
        assert (await asked.reply()).text == "second"


async def test_when_the_second_fails_the_first_goes_on(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt())
        first = await it.small.next()
        (await it.large.next()).fail(ProviderError("large is broken"))
        await trio.testing.wait_all_tasks_blocked()
        assert not asked.done
        assert it.large.asked == 1, "a second try is no beginning of retries"
        first.reply(text="small")
        assert (await asked.reply()).text == "small"


async def test_when_the_first_fails_the_second_may_answer_and_else_the_first_error_is_told(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt(limit=2))
        first = await it.small.next()
        second = await it.large.next()
        first.fail(ProviderError("small is broken"))
        await trio.sleep(5)
        second.reply(text="large")
        assert (await asked.reply()).text == "large"
        asked = ask(nursery, it.hedge, it.attempt(limit=2))
        first = await it.small.next()
        second = await it.large.next()
        first.fail(ProviderError("small is broken"))
        second.fail(ProviderError("large is broken"))
        assert "small is broken" in (await asked.error()).message


async def test_a_call_that_waits_for_its_turn_is_not_late(autojump_clock):
    async with scene() as (it, nursery):
        queue = trio.Event()

        class Queue:
            async def __call__(self, attempt):
                await queue.wait()
                return await Sent(it.small)(attempt)

        it.hedge._inner = Retry(Queue(), Backoff((1.0,), uniform=lambda: 0.5))
        asked = ask(nursery, it.hedge, it.attempt())
        await trio.sleep(30)
        await it.large.assert_quiet()
        queue.set()
        received = await it.small.next()
        await trio.sleep(1.9)
        await it.large.assert_quiet()
        await it.large.next()
        assert trio.current_time() == pytest.approx(32.0)
        received.reply()
        await asked.reply()


async def test_a_call_that_has_failed_once_is_retried_and_not_hedged(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt())
        await trio.sleep(1.5)
        (await it.small.next()).fail(ProviderError("broken"))
        received = await it.small.next()
        await trio.sleep(20)
        await it.large.assert_quiet()
        received.reply()
        await asked.reply()


async def test_no_more_than_a_share_of_the_calls(autojump_clock):
    async with scene(policy=HedgePolicy(0.9, 10, 0.0)) as (it, _):
        it.large.answer = lambda attempt: a_reply(model="large")

        async def slowly(attempt):
            await trio.sleep(100)
            return a_reply()

        it.small.answer = slowly
        for _ in range(8):
            await it.hedge(it.attempt(a_call(timeout_s=1000)))
            it.pace._whole = type(it.pace._whole)()  # what was slow is not to become the measure here
            for _ in range(10):
                it.pace.learn(2.0, streamed=False)
        statistics = it.hedge.statistics()
        assert (statistics.started, statistics.over_share) == (5, 3)


async def test_no_attempt_left_no_second_try(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt(limit=1))
        received = await it.small.next()
        await trio.sleep(10)
        await it.large.assert_quiet()
        received.reply()
        await asked.reply()


async def test_a_second_try_that_was_refused_costs_nothing(autojump_clock):
    async with scene() as (it, nursery):
        attempt = it.attempt()
        asked = ask(nursery, it.hedge, attempt)
        received = await it.small.next()
        (await it.large.next()).fail(Overloaded("large is full"))
        await trio.testing.wait_all_tasks_blocked()
        assert attempt.budget.used == 1
        received.reply()
        await asked.reply()


async def test_a_stream_is_asked_twice_before_its_first_word_and_never_after(autojump_clock):
    async with scene() as (it, nursery):
        sink = RecordedSink()
        asked = ask(nursery, it.hedge, it.attempt(a_call(sink=sink)))
        first = await it.small.next()
        second = await it.large.next()
        assert trio.current_time() == pytest.approx(1.0)
        await second.request.call.sink.send(text="from large")
        await trio.testing.wait_all_tasks_blocked()
        assert first.cancelled
        assert first.request.call.sink.started
        second.reply(text="from large", model="large")
        assert (await asked.reply()).text == "from large"
        assert sink.text == "from large"

        sink = RecordedSink()
        asked = ask(nursery, it.hedge, it.attempt(a_call(sink=sink)))
        first = await it.small.next()
        await first.request.call.sink.send(text="from small")
        await trio.sleep(50)
        await it.large.assert_quiet()
        first.reply(text="from small")
        await asked.reply()


async def test_content_of_only_one_of_them_reaches_the_caller(autojump_clock):
    async with scene() as (it, _):
        sink = RecordedSink()

        def speaks(word, *, pause_s):
            async def answer(attempt):
                for _ in range(5):
                    await trio.sleep(pause_s)
                    await attempt.call.sink.send(text=word)
                return a_reply(word * 5)

            return answer

        it.small.answer, it.large.answer = speaks("s", pause_s=2.0), speaks("l", pause_s=1.0)  # both begin after 2 s
        reply = await it.hedge(it.attempt(a_call(sink=sink)))
        assert sink.text == reply.text
        assert set(sink.text) in ({"s"}, {"l"})


async def test_a_winner_that_breaks_off_is_incomplete(autojump_clock):
    async with scene() as (it, nursery):
        sink = RecordedSink()
        asked = ask(nursery, it.hedge, it.attempt(a_call(sink=sink)))
        await it.small.next()
        second = await it.large.next()
        await second.request.call.sink.send(text="half an ")
        second.fail(IncompleteStream("cut"))
        assert isinstance(await asked.error(), IncompleteStream)


async def test_a_defect_in_the_second_try_is_logged_and_harms_nobody(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt(limit=2))
        first = await it.small.next()
        (await it.large.next()).fail(ZeroDivisionError())
        await trio.testing.wait_all_tasks_blocked()
        assert it.log.told == ["second_try_failed"]
        first.fail(ProviderError("small is broken"))
        error = await asked.error()
        assert not isinstance(error, InternalError)


async def test_a_caller_who_leaves_leaves_nothing(autojump_clock):
    async with scene() as (it, nursery):
        asked = ask(nursery, it.hedge, it.attempt())
        first = await it.small.next()
        second = await it.large.next()
        asked.cancel()
        assert await asked.wait() is None
        assert first.cancelled
        assert second.cancelled


async def test_an_alarm_that_comes_sooner_than_the_one_awaited_rings_in_time(autojump_clock):
    async with scene() as (it, nursery):
        for _ in range(10):
            it.pace.learn(100.0, streamed=True)
        slow = ask(nursery, it.hedge, it.attempt(a_call(sink=RecordedSink(), timeout_s=1000)))
        await it.small.next()
        asked = ask(nursery, it.hedge, it.attempt())
        await it.small.next()
        second = await it.large.next()
        assert trio.current_time() == pytest.approx(2.0)
        second.reply()
        await asked.reply()
        slow.cancel()
        await slow.wait()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("winner", ["small", "large"])
async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock, winner, streamed):
    def scenario(nursery):
        it = Scene(nursery)

        def after(seconds):
            async def answer(attempt):
                await trio.sleep(seconds)
                if attempt.call.sink is not None:
                    await attempt.call.sink.send(text="x")
                await trio.sleep(0.1)
                return a_reply(model=attempt.target.name)

            return answer

        it.small.answer = after(5.0 if winner == "small" else 50.0)
        it.large.answer = after(1.0 if winner == "large" else 50.0)

        async def run():
            sink = RecordedSink() if streamed else None
            assert (await it.hedge(it.attempt(a_call(sink=sink)))).model == winner

        return it, run

    def idle(it):
        it.assert_idle()

    assert await cancel_at_every_checkpoint(scenario, idle) >= 4
