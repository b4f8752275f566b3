"""Deadline: a call ends when its time is up, saying what it was doing, and leaves nothing behind."""

from __future__ import annotations

import contextlib

import pytest
import trio
from harness import a_call, a_reply, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import CallError, Cancelled, DeadlineExceeded, ProviderError
from aiorchd.calls.call import Call
from aiorchd.calls.leash import Leash
from aiorchd.calls.reply import Reply
from aiorchd.runtime.crew import Crew, Place
from aiorchd.stages.deadline import Deadline, DeadlineStatistics


async def test_a_reply_passes_through(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, a_call(timeout_s=5))
        received = await inner.next()
        assert service.statistics() == DeadlineStatistics(inside=1, expired=0)
        await trio.sleep(4.999)
        received.reply(text="in time")
        assert (await asked.reply()).text == "in time"
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_an_error_passes_through(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    inner.answer = lambda _: ProviderError("broken")
    with pytest.raises(ProviderError):
        await service(a_call())
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_it_ends_at_the_deadline_and_says_what_it_was_doing(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        call = a_call(timeout_s=5)
        asked = ask(nursery, service, call)
        received = await inner.next()
        await trio.sleep(2)
        call.journal.note(trio.current_time(), "gate", "waits for a permit of small")
        error = await asked.error()
    assert isinstance(error, DeadlineExceeded)
    assert (
        error.message
        == "no answer within 5 s; the last thing it did, after 2 s, was in gate: waits for a permit of small"
    )
    assert error.stage == "deadline"
    assert error.retryable
    assert error.details == {"allowed_s": 5.0, "timeout": "timeout_s", "last_stage": "gate"}
    assert asked.finished_at == call.deadline
    assert received.cancelled
    assert service.statistics() == DeadlineStatistics(inside=0, expired=1)


async def test_nothing_noted_nothing_told(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        error = await ask(nursery, service, a_call(timeout_s=0.5)).error()
    assert error.message == "no answer within 0.5 s"
    assert inner.asked == 1


async def test_a_bound_that_the_configuration_set_is_named(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = harness(Deadline)
    async with trio.open_nursery() as nursery:
        error = await ask(nursery, service, a_call(timeout_s=0.5, bounded_by="timeouts.total_s")).error()
    assert error.message == "no answer within 0.5 s (timeouts.total_s)"
    assert error.details["timeout"] == "timeouts.total_s"


async def test_a_deadline_that_has_passed_begins_nothing(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    for timeout_s in (0, -1):
        with pytest.raises(DeadlineExceeded, match="before anything was begun"):
            await service(a_call(timeout_s=timeout_s))
    assert inner.asked == 0
    assert service.statistics() == DeadlineStatistics(inside=0, expired=2)


async def test_a_reply_that_came_as_time_ran_out_is_given(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)

    async def late(_: object) -> object:
        with trio.CancelScope(shield=True):  # such as a provider connection being closed
            await trio.sleep(10)
        from harness import a_reply

        return a_reply(text="paid for")

    inner.answer = late
    assert (await service(a_call(timeout_s=5))).text == "paid for"
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_a_caller_that_leaves_is_not_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, a_call())
        received = await inner.next()
        asked.cancel()
        assert await asked.wait() is None
        assert received.cancelled
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_no_deadline_at_all(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, a_call(timeout_s=float("inf")))
        received = await inner.next()
        await trio.sleep(1e6)
        received.reply(text="after eleven days")
        assert (await asked.reply()).text == "after eleven days"
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_cancelled_anywhere_it_is_idle(autojump_clock: trio.testing.MockClock) -> None:
    def scenario(nursery: trio.Nursery) -> object:
        service, inner = harness(Deadline)

        async def answer(_: object) -> object:
            await trio.sleep(1)
            return ProviderError("broken")

        inner.answer = answer

        async def run() -> None:
            with pytest.raises(ProviderError):
                await service(a_call(timeout_s=5))

        return service, run

    await cancel_at_every_checkpoint(scenario, check_idle, at_least=2)


def check_idle(service: Deadline) -> None:
    assert service.statistics().inside == 0


async def test_its_caller_ends_it_by_the_leash(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    leash = Leash()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, a_call(timeout_s=5, leash=leash))
        received = await inner.next()
        leash.cancel()
        error = await asked.error()
    assert (error.code, error.message) == ("cancelled", "cancelled by the caller")
    assert received.cancelled
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_a_leash_that_was_cut_before_ends_it_where_it_first_waits(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    leash = Leash()
    leash.cancel()
    with pytest.raises(Cancelled):
        await service(a_call(leash=leash))
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)
    inner.answer = lambda _: a_reply("at once")
    assert (await service(a_call(leash=Leash()))).text == "at once"


async def test_who_is_out_of_time_is_told_so_with_a_leash_too(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, a_call(timeout_s=5, leash=Leash()))
        await inner.next()
        assert (await asked.error()).code == "deadline_exceeded"
    assert service.statistics() == DeadlineStatistics(inside=0, expired=1)


async def test_what_it_shared_may_be_the_first_to_notice_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    for lasted_s, stage, message in ((4, "repeats", "shared"), (5, "deadline", "no answer within 5 s")):

        async def shared(_: Call, lasted_s: float = lasted_s) -> Reply:
            with trio.CancelScope(shield=True):
                await trio.sleep(lasted_s)
            raise DeadlineExceeded("shared", stage="repeats")

        inner.answer = shared
        with pytest.raises(DeadlineExceeded) as error:
            await service(a_call(timeout_s=5))
        assert (error.value.stage, error.value.message) == (stage, message)
    assert service.statistics() == DeadlineStatistics(inside=0, expired=1)


# --- in a scope that the leash lends -------------------------------------------------------------------------------------


class Lending:
    """Asks in a task of a crew, whose scope the leash lends, and waits for the end."""

    def __init__(self, service: Deadline, nursery: trio.Nursery) -> None:
        self._service = service
        self._crew = Crew(nursery)
        self.leash = Leash()
        self.result: Reply | BaseException | None = None

    async def __call__(self, call: Call) -> Reply:
        ended = trio.Event()

        async def carry_out() -> None:
            try:
                self.result = await self._service(call)
            except BaseException as error:
                self.result = error
                raise
            finally:
                ended.set()

        async def keep() -> None:
            with contextlib.suppress(CallError, ExceptionGroup):
                await carry_out()

        self.leash.scope = self._crew.begin(float("inf"), keep)
        try:
            await ended.wait()
        finally:
            self._crew.close()
        if isinstance(self.result, BaseException):
            raise self.result
        assert self.result is not None
        return self.result


async def test_a_lent_scope_takes_the_deadline_and_no_other_is_opened(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    seen: list[tuple[float, float]] = []
    async with trio.open_nursery() as nursery:
        lending = Lending(service, nursery)

        async def look(_: Call) -> Reply:
            place = lending.leash.scope
            assert isinstance(place, Place)
            seen.append((trio.current_effective_deadline(), place.deadline))
            return a_reply("in time")

        inner.answer = look
        call = a_call(timeout_s=5, leash=lending.leash)
        assert (await lending(call)).text == "in time"
    assert seen == [(float("inf"), call.deadline)]
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_in_a_lent_scope_it_ends_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery:
        lending = Lending(service, nursery)
        asked = ask(nursery, lending, call := a_call(timeout_s=5, leash=lending.leash))
        received = await inner.next()
        error = await asked.error()
    assert error.message == "no answer within 5 s"
    assert asked.finished_at == call.deadline
    assert received.cancelled
    assert service.statistics() == DeadlineStatistics(inside=0, expired=1)


async def test_in_a_lent_scope_its_caller_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    for before in (False, True):
        async with trio.open_nursery() as nursery:
            lending = Lending(service, nursery)
            if before:
                lending.leash.cancel()
            asked = ask(nursery, lending, a_call(timeout_s=5, leash=lending.leash))
            if not before:
                await inner.next()
                lending.leash.cancel()
            error = await asked.error()
        assert (error.code, error.message) == ("cancelled", "cancelled by the caller")
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_in_a_lent_scope_what_ends_the_task_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)
    async with trio.open_nursery() as nursery, trio.open_nursery() as connection:
        lending = Lending(service, connection)
        asked = ask(nursery, lending, a_call(timeout_s=5, leash=lending.leash))
        received = await inner.next()
        connection.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(lending.result, trio.Cancelled)
        assert received.cancelled
        asked.cancel()
    assert service.statistics() == DeadlineStatistics(inside=0, expired=0)


async def test_in_a_lent_scope_cancellations_may_come_in_groups(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Deadline)

    async def two(call: Call) -> Reply:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever if call.task is None else _breaks_as_it_ends)
        raise AssertionError

    inner.answer = two
    async with trio.open_nursery() as tasks:
        lending = Lending(service, tasks)
        with pytest.raises(DeadlineExceeded):
            await lending(a_call(timeout_s=5, leash=lending.leash))
        lending = Lending(service, tasks)
        with pytest.raises(ExceptionGroup) as defects:
            await lending(a_call(timeout_s=5, leash=lending.leash, task="breaks"))
    assert [type(one) for one in defects.value.exceptions] == [ZeroDivisionError]


async def _breaks_as_it_ends() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ZeroDivisionError
