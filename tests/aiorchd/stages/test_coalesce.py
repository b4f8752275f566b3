"""Coalesce: identical calls share a flight that belongs to nobody, and exactly one passenger pays."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from harness import RecordedSink, a_call, a_reply, ask, cancel_at_every_checkpoint, harness
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_log import KeptLog

from aiorch.errors import (
    DeadlineExceeded,
    GoingAway,
    IncompleteStream,
    InternalError,
    ProviderError,
    RateLimited,
)
from aiorchd.calls.call import Call
from aiorchd.calls.journal import AttemptRecord
from aiorchd.calls.reply import Reply
from aiorchd.runtime.crew import Crew
from aiorchd.stages.coalesce import Coalesce, CoalesceStatistics
from aiorchd.stages.relay import Relay

KEY = b"\x01key"


def asking(**fields: Any) -> Call:
    return a_call(**{"key": KEY, **fields})


class RecordedLog:
    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def exception(self, event: str, **fields: Any) -> None:
        self.rows.append((event, fields))


def idle(service: Coalesce) -> None:
    statistics = service.statistics()
    assert (statistics.flights, statistics.passengers) == (0, 0)
    assert not service._boarding


async def test_three_callers_share_one_flight(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        first = asking(id="first")
        asked = [ask(nursery, service, first)]
        received = await inner.next()
        await trio.sleep(2)
        asked += [ask(nursery, service, asking()), ask(nursery, service, asking())]
        await inner.assert_quiet()
        assert service.statistics() == CoalesceStatistics(flights=1, passengers=3, started=1, boarded=2, abandoned=0)
        await trio.sleep(1)
        received.reply(text="Eight.", cost_usd=0.25, attempts=2, queue_s=1.5, provider_s=1.5)
        replies = [await one.reply() for one in asked]
    assert {reply.text for reply in replies} == {"Eight."}
    payer, *followers = replies
    assert (payer.cache, payer.cost_usd, payer.attempts, payer.source_id) == ("miss", 0.25, 2, None)
    for reply in followers:
        assert (reply.cache, reply.saved_usd, reply.attempts, reply.source_id) == ("coalesced", 0.25, 0, "first")
        assert (reply.provider_s, reply.queue_s) == (1.0, 0.0)  # it waited one second, whatever the flight took
    assert inner.asked == 1
    idle(service)


async def test_the_notes_of_a_follower_say_whom_it_joined(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        ask(nursery, service, asking(id="first"))
        received = await inner.next()
        follower = asking()
        ask(nursery, service, follower)
        await inner.assert_quiet()
        received.reply()
    assert follower.journal.notes == [(0.0, "coalesce", "joins the call first, which asks the same")]


async def test_an_unknown_price_stays_unknown(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(nursery, service, asking()) for _ in range(2)]
        (await inner.next()).reply(cost_usd=None)
        assert {(await one.reply()).saved_usd for one in asked} == {None, 0.0}


async def test_flights_one_after_the_other_are_two(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        inner.answer = lambda _: a_reply()
        assert (await service(asking())).cache == "miss"
        assert (await service(asking())).cache == "miss"
    assert inner.asked == 2


@pytest.mark.parametrize(
    "fields",
    [{"key": None}, {"cache": "bypass"}, {"samples": 3}, {"key": b"\x01other"}],
    ids=["without a key", "bypass", "by chance", "another key"],
)
async def test_what_is_not_shared(autojump_clock: trio.testing.MockClock, fields: dict[str, Any]) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        first = ask(nursery, service, asking())
        ours = asking(**fields)
        second = ask(nursery, service, ours)
        received = [await inner.next(), await inner.next()]
        if fields.get("key", b"") != b"\x01other":
            assert any(one.request is ours for one in received)  # passed through as it is
        for one in received:
            one.reply()
        assert [(await one.reply()).cache for one in (first, second)] == ["miss", "miss"]
    idle(service)


async def test_a_refreshing_call_shares(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(nursery, service, asking(cache=mode)) for mode in ("use", "refresh", "refresh")]
        (await inner.next()).reply()
        for one in asked:
            await one.reply()
    assert inner.asked == 1


# --- leaving -----------------------------------------------------------------------------------------------------------


async def test_the_first_may_leave_and_the_next_pays_with_the_account(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        first = asking(id="first")
        leaver = ask(nursery, service, first)
        received = await inner.next()
        await trio.sleep(1)
        calls = [asking(id="second"), asking(id="third")]
        stayers = []
        for call in calls:
            stayers.append(ask(nursery, service, call))
            await inner.assert_quiet()
        leaver.cancel()
        assert await leaver.wait() is None
        assert not received.is_gone
        flying = received.request.journal
        flying.note(trio.current_time(), "retry", "asks again")
        flying.attempts.append(
            AttemptRecord(number=1, model="small", provider="main", began_s=0.5, queue_s=0, provider_s=1, verdict="ok")
        )
        flying.queue_s, flying.provider_s, flying.throttled, flying.fallbacks = 0.5, 1.0, 2, 1
        flying.context_fallbacks, flying.filter_fallbacks, flying.hedges = 3, 4, 5
        flying.batch_questions, flying.batch_left_out, flying.semantic_right = 6, True, False
        await trio.sleep(1)
        received.reply(cost_usd=0.5, attempts=1, queue_s=0.5, provider_s=1.5)
        second, third = [await one.reply() for one in stayers]
    assert (second.cache, second.cost_usd, second.attempts, second.source_id) == ("miss", 0.5, 1, "first")
    assert (second.provider_s, second.queue_s) == (1.0, 0.0)
    assert third.cache == "coalesced"
    journal = calls[0].journal
    assert journal.notes == [
        (0.0, "coalesce", "joins the call first, which asks the same"),
        (0.0, "retry", "asks again"),
    ]
    assert [(attempt.number, attempt.began_s) for attempt in journal.attempts] == [(1, -0.5)]
    assert (journal.queue_s, journal.provider_s, journal.throttled, journal.fallbacks) == (0.5, 1.0, 2, 1)
    assert (journal.context_fallbacks, journal.filter_fallbacks, journal.hedges) == (3, 4, 5)
    assert (journal.batch_questions, journal.batch_left_out, journal.semantic_right) == (6, True, False)
    for other in (first.journal, calls[1].journal):
        assert not other.attempts  # counted once
        assert other.throttled == 0
        assert other.batch_questions == 0
    idle(service)


async def test_the_first_sees_its_notes_while_it_flies(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        first = asking()
        asked = ask(nursery, service, first)
        received = await inner.next()
        received.request.journal.note(trio.current_time(), "gate", "waits")
        assert first.journal.notes == [(0.0, "gate", "waits")]
        received.reply()
        await asked.reply()
    assert first.journal.notes == [(0.0, "gate", "waits")]


async def test_the_last_to_leave_cancels_the_flight_and_sees_it_unwind(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        unwound: list[float] = []

        async def slow_to_end(call: Call) -> Reply:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)
                call.journal.attempts.append(
                    AttemptRecord(
                        number=1, model="m", provider="p", began_s=0, queue_s=0, provider_s=1, verdict="ignored"
                    )
                )
                unwound.append(trio.current_time())

        inner.answer = slow_to_end
        calls = [asking(), asking()]
        asked = []
        for call in calls:
            asked.append(ask(nursery, service, call))
            await trio.testing.wait_all_tasks_blocked()
        asked[0].cancel()
        assert await asked[0].wait() is None
        assert inner.in_flight == 1
        started_at = trio.current_time()
        asked[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        # Nobody boards a flight that is being cancelled.
        inner.answer = lambda _: a_reply(text="anew")
        assert (await service(asking())).text == "anew"
        assert await asked[1].wait() is None
        assert unwound == [started_at + 3]
        assert asked[1].finished_at == started_at + 3
        assert not calls[0].journal.attempts
        assert len(calls[1].journal.attempts) == 1  # the story has the attempt that was broken off
    assert service.statistics().abandoned == 1
    idle(service)


async def test_an_answer_that_came_while_leaving_is_taken(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)

        async def answers_all_the_same(_: Call) -> Reply:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            return a_reply(text="paid for")

        inner.answer = answers_all_the_same
        asked = ask(nursery, service, asking())
        await trio.testing.wait_all_tasks_blocked()
        asked.cancel()
        assert (await asked.reply()).text == "paid for"
    idle(service)


# --- deadlines ---------------------------------------------------------------------------------------------------------


async def test_the_deadline_is_the_latest_passengers(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        first = asking(timeout_s=5)
        asked = [ask(nursery, service, first)]
        received = await inner.next()
        flying = received.request
        assert flying.deadline == first.deadline
        later = asking(timeout_s=50)
        asked += [ask(nursery, service, later), ask(nursery, service, asking(timeout_s=20))]
        await inner.assert_quiet()
        assert flying.deadline == later.deadline
        assert first.deadline != later.deadline  # the caller's own call is not touched
        await trio.sleep(40)
        received.reply()
        for one in asked:
            await one.reply()
    idle(service)


async def test_a_flight_ends_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(nursery, service, asking(timeout_s=timeout_s)) for timeout_s in (5, 7)]
        received = await inner.next()
        started_at = trio.current_time()
        for one in asked:
            assert isinstance(await one.error(), DeadlineExceeded)
            assert one.finished_at == started_at + 7
        assert received.cancelled
    idle(service)


async def test_who_boards_a_flight_that_has_landed_moves_nobody_s_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        room = trio.Event()
        slow = ask(nursery, service, asking(sink=RecordedSink(room=room), timeout_s=10))
        received = await inner.next()
        await received.request.sink.send(text="one")
        received.reply(text="one")
        await inner.assert_quiet()  # it has landed, and the first is still being told
        another = ask(nursery, service, asking(key=b"another", timeout_s=600))
        flying = await inner.next()  # in the task of the first
        boarded = ask(nursery, service, asking(sink=RecordedSink(), timeout_s=20))
        assert (await boarded.reply()).text == "one"
        await trio.sleep(30)
        flying.reply(text="two")
        assert (await another.reply()).text == "two"
        room.set()
        await slow.reply()
    idle(service)


async def test_the_flight_is_outside_its_callers_scopes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        deadlines: list[tuple[float, float]] = []

        async def look(flying: Call) -> Reply:
            deadlines.append((trio.current_effective_deadline(), flying.deadline))
            await trio.sleep(1)
            return a_reply()

        inner.answer = look
        call = asking(timeout_s=30)
        with trio.move_on_after(10):
            await service(call)
        assert deadlines == [(math.inf, call.deadline)]  # the crew keeps it


# --- errors ------------------------------------------------------------------------------------------------------------


async def test_each_passenger_gets_a_copy_of_the_error(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(nursery, service, asking()) for _ in range(3)]
        raised = RateLimited("not now", retry_after_s=7.0, stage="dispatch", details={"status": 429})
        (await inner.next()).fail(raised)
        errors = [await one.error() for one in asked]
    assert len({id(error) for error in [raised, *errors]}) == 4
    for error in errors:
        assert type(error) is RateLimited
        assert error.to_wire() == raised.to_wire()
        assert error.details is not raised.details
        assert error.__cause__ is None
    idle(service)


async def test_nobody_boards_a_failed_flight(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        inner.answer = lambda _: ProviderError("broken")
        with pytest.raises(ProviderError):
            await service(asking())
        inner.answer = lambda _: a_reply()
        await service(asking())
    assert inner.asked == 2


async def test_a_defect_reaches_all_passengers_and_the_log(autojump_clock: trio.testing.MockClock) -> None:
    log = RecordedLog()
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), log, Relay)
        asked = [ask(nursery, service, asking(id=f"call {number}")) for number in range(2)]
        received = await inner.next()
        received.fail(ZeroDivisionError("secret prompt"))
        for one in asked:
            error = await one.error()
            assert isinstance(error, InternalError)
            assert "secret" not in str(error)
            assert "log" in str(error)
        inner.answer = lambda _: a_reply()
        await service(asking())  # the nursery lives on
    assert log.rows == [("shared_flight_failed", {"call": received.request.id})]
    idle(service)


async def test_a_defect_beside_a_cancellation_is_no_more_than_a_defect(autojump_clock: trio.testing.MockClock) -> None:
    async def breaks_as_it_ends() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async def two(_: Call) -> Reply:
        async with trio.open_nursery() as below:
            below.start_soon(trio.sleep_forever)
            below.start_soon(breaks_as_it_ends)
        raise AssertionError

    log = RecordedLog()
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), log, Relay)
        inner.answer = two
        assert isinstance(await ask(nursery, service, asking(timeout_s=5)).error(), InternalError)
        inner.answer = lambda _: a_reply(text="goes on")
        assert (await service(asking())).text == "goes on"
    assert [event for event, _ in log.rows] == ["shared_flight_failed"]
    idle(service)


async def test_passengers_of_a_nursery_torn_down_are_told(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as outside, trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(outside, service, asking()) for _ in range(2)]
        await inner.next()
        nursery.cancel_scope.cancel()
        for one in asked:
            assert isinstance(await one.error(), GoingAway)
        idle(service)


# --- everywhere, in any order --------------------------------------------------------------------------------------------


async def test_cancelled_anywhere_it_is_idle(autojump_clock: trio.testing.MockClock) -> None:
    for failing in (False, True):

        def scenario(nursery: trio.Nursery, failing: bool = failing) -> Any:
            service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)

            async def answer(_: Call) -> Reply:
                await trio.sleep(1)
                await trio.sleep(1)
                if failing:
                    raise ProviderError("broken")
                return a_reply()

            inner.answer = answer

            async def one() -> None:
                try:
                    await service(asking())
                except ProviderError:
                    assert failing

            async def run() -> None:
                async with trio.open_nursery() as callers:
                    for _ in range(3):
                        callers.start_soon(one)

            return service, run

        await cancel_at_every_checkpoint(scenario, idle, at_least=3)


events = st.tuples(st.sampled_from(["ask", "ask", "leave", "reply", "fail", "wait"]), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=25))
def test_whatever_happens_one_pays_and_all_are_served(plan: list[tuple[str, int]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            crew = Crew(nursery)
            service, inner = harness(Coalesce, crew, KeptLog(), Relay)
            asked: list[Any] = []
            flights: list[Any] = []
            for event, number in plan:
                if event == "ask":
                    asked.append(ask(nursery, service, asking(key=b"%d" % (number % 2))))
                elif event == "leave" and asked:
                    asked[number % len(asked)].cancel()
                elif event == "wait":
                    await trio.testing.wait_all_tasks_blocked()
                    while inner._receive.statistics().current_buffer_used:
                        flights.append(await inner.next())
                elif event in ("reply", "fail"):
                    for flight in flights:
                        if not flight.is_gone and not flight._decided.is_set():
                            if event == "reply":
                                flight.reply(text=flight.request.id)
                            else:
                                flight.fail(ProviderError(flight.request.id))
            await trio.testing.wait_all_tasks_blocked()
            while inner._receive.statistics().current_buffer_used:
                flights.append(await inner.next())
            for flight in flights:
                if not flight.is_gone and not flight._decided.is_set():
                    flight.reply(text=flight.request.id)
            results = [await one.wait() for one in asked]
            idle(service)
            answered = [result for result in results if isinstance(result, Reply)]
            payers = [reply.text for reply in answered if reply.cache == "miss"]
            assert len(payers) == len(set(payers))
            assert set(payers) == {reply.text for reply in answered}
            assert inner.most_in_flight <= 2 or service.statistics().abandoned
            for one, result in zip(asked, results, strict=True):
                assert result is not None or one.scope.cancelled_caught
            crew.close()

    trio.run(main)


# --- streams -------------------------------------------------------------------------------------------------------------


async def test_who_boards_a_stream_midway_gets_it_from_its_beginning(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        sinks = [RecordedSink(), RecordedSink()]
        asked = [ask(nursery, service, asking(id="first", sink=sinks[0]))]
        received = await inner.next()
        for piece in ("one ", "two "):
            await received.request.sink.send(text=piece)
            await inner.assert_quiet()
        assert sinks[0].pieces == ["one ", "two "]  # as they come
        asked += [ask(nursery, service, asking(sink=sinks[1])), ask(nursery, service, asking())]
        await inner.assert_quiet()
        assert sinks[1].pieces == ["one two "]  # what there is, at once
        await received.request.sink.send(text="three")
        await received.request.sink.send(tool_calls=[{"index": 0, "id": "t"}])
        received.reply(text="one two three", cost_usd=0.25)
        replies = [await one.reply() for one in asked]
    assert [reply.cache for reply in replies] == ["miss", "coalesced", "coalesced"]
    assert {reply.text for reply in replies} == {"one two three"}
    for sink in sinks:
        assert sink.text == "one two three"
        assert sink.pieces[-1] == [{"index": 0, "id": "t"}]
    assert inner.asked == 1
    idle(service)


async def test_a_streamed_call_that_boards_a_plain_flight_gets_pieces_at_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        ask(nursery, service, asking())
        received = await inner.next()
        assert received.request.sink is None
        sink = RecordedSink()
        asked = ask(nursery, service, asking(sink=sink))
        await inner.assert_quiet()
        received.reply(text="word " * 40)
        assert (await asked.reply()).cache == "coalesced"
    assert sink.text == "word " * 40
    assert len(sink.pieces) > 3
    idle(service)


async def test_a_slow_listener_holds_up_nobody_but_the_last_one_the_provider(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        slow, quick = RecordedSink(room=trio.Event()), RecordedSink()
        asked = [ask(nursery, service, asking(sink=slow))]
        received = await inner.next()
        asked.append(ask(nursery, service, asking(sink=quick)))
        await inner.assert_quiet()
        for number in range(1000):
            await received.request.sink.send(text=f"{number} ")
            await trio.sleep(0)
        await inner.assert_quiet()
        assert not slow.pieces
        assert len(quick.text.split()) == 1000
        asked[1].cancel()
        await asked[1].wait()
        with trio.move_on_after(5) as waiting:
            await received.request.sink.send(text="more ")
        assert waiting.cancelled_caught  # only the slow one is left: the provider waits for it
        assert slow.room is not None
        slow.room.set()
        await received.request.sink.send(text="and more")
        received.reply(text="all")
        await asked[0].reply()
        assert len(slow.text.split()) == 1003
    idle(service)


async def test_the_leader_of_a_stream_may_leave(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        leader = ask(nursery, service, asking(id="first", sink=RecordedSink()))
        received = await inner.next()
        await received.request.sink.send(text="one ")
        sink = RecordedSink()
        follower = ask(nursery, service, asking(sink=sink))
        await inner.assert_quiet()
        leader.cancel()
        assert await leader.wait() is None
        assert not received.is_gone
        await received.request.sink.send(text="two")
        received.reply(text="one two", cost_usd=0.5)
        reply = await follower.reply()
    assert (reply.cache, reply.cost_usd, reply.source_id) == ("miss", 0.5, "first")
    assert sink.text == "one two"
    idle(service)


async def test_the_last_listener_to_leave_cancels_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(nursery, service, asking(sink=RecordedSink())) for _ in range(2)]
        received = await inner.next()
        for one in asked:
            one.cancel()
            await one.wait()
        assert received.cancelled
    assert service.statistics().abandoned == 1
    idle(service)


@pytest.mark.parametrize("invalid", [True, False])
async def test_who_is_not_streamed_asks_again_when_a_stream_ends_badly(
    autojump_clock: trio.testing.MockClock, invalid: bool
) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        streamed = ask(nursery, service, asking(sink=RecordedSink()))
        received = await inner.next()
        plain = ask(nursery, service, asking())
        await inner.assert_quiet()
        await received.request.sink.send(text="half")
        if invalid:
            received.reply(text="half", validation={"ok": False})
        else:
            received.fail(IncompleteStream("cut"))
        again = await inner.next()
        assert again.request.sink is None
        again.reply(text="whole")
        assert (await plain.reply()).text == "whole"
        if invalid:
            assert (await streamed.reply()).text == "half"
        else:
            assert isinstance(await streamed.error(), IncompleteStream)
    idle(service)


async def test_a_stream_that_never_began_fails_for_all(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        asked = [ask(nursery, service, asking(sink=RecordedSink())), ask(nursery, service, asking())]
        (await inner.next()).fail(ProviderError("broken"))
        for one in asked:
            assert isinstance(await one.error(), ProviderError)
    assert inner.asked == 1
    idle(service)


async def test_five_hundred_at_once_are_one_call(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        sinks = [RecordedSink() if number % 2 else None for number in range(500)]
        asked = [ask(nursery, service, asking(sink=sink)) for sink in sinks]
        (await inner.next()).reply(text="The same for all.", cost_usd=1.0)
        replies = [await one.reply() for one in asked]
    assert [reply.cache for reply in replies].count("miss") == 1
    assert {reply.text for reply in replies} == {"The same for all."}
    idle(service)


@pytest.mark.parametrize("company", ["alone", "with a plain caller", "with a listener", "boards a plain flight"])
async def test_a_listener_cancelled_anywhere_leaves_nothing(
    autojump_clock: trio.testing.MockClock, company: str
) -> None:
    async def answer(call: Call) -> Reply:
        for piece in ("one ", "two "):
            await trio.sleep(1)
            if call.sink is not None:
                await call.sink.send(text=piece)
        await trio.sleep(1)
        return a_reply(text="one two ")

    def scenario(nursery: trio.Nursery) -> tuple[Coalesce, Any]:
        service, inner = harness(Coalesce, Crew(nursery), KeptLog(), Relay)
        inner.answer = answer
        if company == "boards a plain flight":
            nursery.start_soon(service, asking())

        async def run() -> None:
            if company in ("with a plain caller", "with a listener"):
                sink = RecordedSink() if company == "with a listener" else None
                nursery.start_soon(service, asking(sink=sink))
            await service(asking(sink=RecordedSink()))

        return service, run

    async def rested(service: Coalesce) -> None:
        await trio.sleep(10)
        idle(service)

    await cancel_at_every_checkpoint(scenario, rested, at_least=6)
