"""Vectors from a model: one request at a time for each user, what comes meanwhile in the next, recorded, never lost."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import InnerService, a_call, a_caller, a_reply
from kept_log import KeptLog

from aiorch.errors import CallError, DeadlineExceeded, ProviderError
from aiorchd.calls.call import Call
from aiorchd.calls.reply import Reply
from aiorchd.stages.question_vectors import (
    MOST_TEXTS,
    MOST_WAITING,
    TIMEOUT_S,
    Pending,
    QuestionVectors,
    QuestionVectorsStatistics,
)


class House:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.inner: InnerService[Call] = InnerService()
        self.ended: list[tuple[Call, Reply | None, CallError | None, bool]] = []
        self.log = KeptLog()
        self.vectors = QuestionVectors(
            self.inner,
            nursery,
            model="maker",
            new_id=lambda: "vectors",
            wall_clock=lambda: 1_700_000_000.0,
            tell_end=self.tell_end,
            log=self.log,
        )

    def tell_end(self, call: Call, reply: Reply | None, error: CallError | None, *, cancelled: bool = False) -> None:
        self.ended.append((call, reply, error, cancelled))

    def begin(self, text: str, uid: int = 1000, **fields: Any) -> Pending:
        pending = self.vectors.begin(a_call(caller=a_caller(uid), **fields), text)
        assert pending is not None
        return pending

    async def answer(self) -> list[str]:
        """Give each text of the next request a vector that is the text."""
        received = await self.inner.next()
        texts: list[str] = received.request.request["input"]
        received.reply(a_reply("", vectors=tuple(text.encode() for text in texts)))
        return texts


async def test_what_comes_while_one_is_asked_goes_with_the_next(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        first = house.begin("a", id="first", partition="p", operation="tag", priority="interactive")
        await trio.testing.wait_all_tasks_blocked()
        later = [house.begin(f"{number}") for number in range(MOST_TEXTS + 1)]
        received = await house.inner.next()
        call = received.request
        assert (call.kind, call.model, call.models, call.key, call.cache) == (
            "embed",
            "maker",
            ("maker",),
            None,
            "bypass",
        )
        assert (call.caller.uid, call.partition, call.operation, call.priority) == (1000, "p", "tag", "interactive")
        assert call.request == {"input": ["a"]}
        assert "the call first" in call.journal.notes[0][2]
        received.reply(a_reply("", vectors=(b"va",), cost_usd=0.25))
        assert await first.wait(1.0) == b"va"
        assert await house.answer() == [f"{number}" for number in range(MOST_TEXTS)]
        assert await house.answer() == [f"{MOST_TEXTS}"]
        assert [await one.wait(1.0) for one in later] == [f"{number}".encode() for number in range(MOST_TEXTS + 1)]
    assert house.ended[0][1] is not None and house.ended[0][1].cost_usd == 0.25  # recorded, with what it cost
    assert house.vectors.statistics() == QuestionVectorsStatistics(0, 0, MOST_TEXTS + 2, 3, 0, 0)


async def test_users_do_not_pay_for_each_other(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        house.begin("same", uid=1)
        house.begin("same", uid=2)
        uids = set()
        for _ in range(2):
            received = await house.inner.next()
            uids.add(received.request.caller.uid)
            received.reply(a_reply("", vectors=(b"v",)))
    assert uids == {1, 2}


async def test_what_is_known_or_on_its_way_is_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        assert house.begin("a") is house.begin("a")
        await house.answer()
        await trio.testing.wait_all_tasks_blocked()
        assert house.begin("a").vector == b"a"
        await house.inner.assert_quiet()


async def test_who_waited_in_vain_goes_on_and_the_vector_comes_later(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        pending = house.begin("a")
        began = trio.current_time()
        assert await pending.wait(0.3) is None
        assert trio.current_time() - began == pytest.approx(0.3)
        await house.answer()
        await pending.done.wait()
        assert pending.vector == b"a"


@pytest.mark.parametrize("reply", [ProviderError("broken"), RuntimeError("a defect"), a_reply("", vectors=None)])
async def test_a_failure_is_nobody_elses_and_asked_anew(
    autojump_clock: trio.testing.MockClock, reply: Reply | Exception
) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        pending = house.begin("a")
        received = await house.inner.next()
        if isinstance(reply, Reply):
            received.reply(reply)
        else:
            received.fail(reply)
        assert await pending.wait(5.0) is None
        assert len(house.ended) == 1
        again = house.begin("a")
        await house.answer()
        assert await again.wait(1.0) == b"a"
    assert len(house.log.lines) == isinstance(reply, RuntimeError)


async def test_it_runs_out_of_time(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        pending = house.begin("a")
        assert await pending.wait(2 * TIMEOUT_S) is None
    assert isinstance(house.ended[0][2], DeadlineExceeded)
    assert house.vectors.statistics().failed == 1


async def test_too_many_are_turned_away(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        for number in range(MOST_WAITING):
            house.begin(f"{number}")
        assert house.vectors.begin(a_call(), "one more") is None
        house.vectors.close()
    assert house.vectors.statistics().turned_away == 1


async def test_closing_lets_everybody_go_and_holds_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        asked = house.begin("a")
        await house.inner.next()
        waiting = house.begin("b")
        house.vectors.close()
        assert await asked.wait(60.0) is None
        assert await waiting.wait(60.0) is None
        assert house.vectors.begin(a_call(), "c") is None
    ((_, reply, error, cancelled),) = house.ended
    assert (reply, error, cancelled) == (None, None, True)
    told = house.vectors.statistics()
    assert (told.running, told.waiting) == (0, 0)
