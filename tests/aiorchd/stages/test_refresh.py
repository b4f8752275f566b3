"""Refresh: what is stale is asked anew once, in the background, recorded, and ended with its generation."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import InnerService, RecordedSink, a_call, a_reply
from kept_log import KeptLog

from aiorch.errors import CallError, DeadlineExceeded, ProviderError
from aiorchd.calls.call import Call
from aiorchd.calls.reply import Reply
from aiorchd.stages.refresh import MAX_RUNNING, REST_S, Refresh, RefreshStatistics

KEY = b"\x01key"


class House:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.inner: InnerService[Call] = InnerService()
        self.kept: list[tuple[bytes, str]] = []
        self.ended: list[tuple[Call, Reply | None, CallError | None, bool]] = []
        self.log = KeptLog()
        self.refresh = Refresh(
            self.inner,
            nursery,
            timeout_s=30.0,
            new_id=lambda: "anew",
            wall_clock=lambda: 1_700_000_000.0,
            tell_end=self.tell_end,
            log=self.log,
        )

    def tell_end(self, call: Call, reply: Reply | None, error: CallError | None, *, cancelled: bool = False) -> None:
        self.ended.append((call, reply, error, cancelled))

    def begin(self, key: bytes = KEY, **fields: Any) -> bool:
        return self.refresh.begin(
            a_call(key=key, **fields), key, lambda _, kept, reply: self.kept.append((kept, reply.text))
        )


async def test_it_is_asked_once_whole_and_last(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        assert house.begin(id="stale", sink=RecordedSink(), priority="interactive", repeat_key=b"r", tags=("t",))
        assert house.begin()
        received = await house.inner.next()
        await house.inner.assert_quiet()
        call = received.request
        assert (call.id, call.sink, call.priority, call.cache, call.repeat_key) == (
            "anew",
            None,
            "bulk",
            "refresh",
            None,
        )
        assert (call.key, call.tags, call.deadline) == (KEY, ("t",), trio.current_time() + 30)
        assert "the call stale" in call.journal.notes[0][2]
        received.reply(text="new")
        await trio.testing.wait_all_tasks_blocked()
    assert house.kept == [(KEY, "new")]
    ((_, reply, error, cancelled),) = house.ended
    assert reply is not None
    assert (reply.text, error, cancelled) == ("new", None, False)
    assert house.refresh.statistics() == RefreshStatistics(running=0, begun=1, answered=1, failed=0, put_off=0)


async def test_after_a_failure_it_rests(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        house.begin()
        (await house.inner.next()).fail(ProviderError("broken"))
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(house.ended[0][2], ProviderError)
        assert not house.begin()
        assert house.begin(key=b"\x01other")
        (await house.inner.next()).reply()
        await trio.sleep(REST_S)
        assert house.begin()
        (await house.inner.next()).reply()
    assert (house.refresh.statistics().failed, house.refresh.statistics().put_off) == (1, 1)


async def test_it_runs_out_of_time(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        house.begin()
        received = await house.inner.next()
        await received.gone()
        await trio.testing.wait_all_tasks_blocked()
    assert isinstance(house.ended[0][2], DeadlineExceeded)
    assert house.refresh.statistics().running == 0


async def test_too_many_are_put_off(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        begun = [house.begin(key=b"\x01%d" % number) for number in range(MAX_RUNNING + 2)]
        assert begun.count(True) == MAX_RUNNING
        nursery.cancel_scope.cancel()
    assert house.refresh.statistics().running == 0


async def test_closing_ends_what_runs(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        house.begin()
        received = await house.inner.next()
        house.refresh.close()
        await received.gone()
        assert not house.begin()
    assert received.cancelled
    assert [cancelled for *_, cancelled in house.ended] == [True]


async def test_a_defect_is_logged_and_harms_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        house.begin()
        (await house.inner.next()).fail(KeyError("defect"))
        await trio.testing.wait_all_tasks_blocked()
        assert house.log.lines[0][0] == "refresh_failed"
    assert house.refresh.statistics().failed == 1


@pytest.mark.parametrize("answered", [True, False])
async def test_cancelled_with_its_nursery_nothing_is_left(
    autojump_clock: trio.testing.MockClock, answered: bool
) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        house.begin()
        if answered:
            (await house.inner.next()).reply(a_reply())
        nursery.cancel_scope.cancel()
    assert house.refresh.statistics().running == 0
    assert len(house.ended) == 1
