"""What is read begins as the event loop gets it done; who would begin too late hears so at once; the rest is served."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import trio
import trio.testing
from sessions import Peer, session_with

from aiorch.protocol import Connection, Limits, Response
from aiorchd.calls.caller import Caller
from aiorchd.core.start_line import AT_ONCE
from aiorchd.doors.method import Asked
from aiorchd.doors.methods import Row
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.runtime.starting import Patience, Starting


def test_patience_is_a_share_of_the_time_there_is() -> None:
    patience = Patience(most_s=10.0, share=0.25, usual_s=60.0, longest_s=20.0)
    assert patience.of(4) == 1.0
    assert patience.of(None) == 5.0  # 60 s, of which no call gets more than 20
    assert patience.of(-1) == patience.of("soon") == 5.0  # what is wrong with it, its handler will say
    assert Patience(most_s=10.0, share=0.5).of(3600.0) == 10.0


def test_a_refusal_says_when_to_come_again() -> None:
    starting = Starting(lambda: Patience(share=0.5))
    assert starting.late_s(1.0, 0, 0.49) is None
    late_s = starting.late_s(1.0, 0, 0.51)
    assert late_s == 0.5
    assert starting.late_s(1.0, 0, 500.0) == 30.0
    assert starting.late_s(0.01, 0, 0.02) == 0.1
    error = msgpack.unpackb(starting.packed_refusal(0.5, as_map=True))
    assert (error["code"], error["retryable"], error["retry_after_s"], error["stage"]) == (
        "overloaded",
        True,
        0.5,
        "door",
    )
    assert msgpack.unpackb(starting.packed_refusal(0.5, as_map=False))[1].startswith("overloaded: ")
    assert starting.statistics().turned_away == 3


class Busy:
    """A handler that takes the whole event loop for a time, as far as the clock can tell."""

    def __init__(self, clock: trio.testing.MockClock, each_s: float) -> None:
        self.clock, self.each_s, self.done = clock, each_s, 0

    async def __call__(self, asked: Asked) -> Any:
        self.clock.jump(self.each_s)
        self.done += 1
        return asked.params[0]["n"]


def packed(*numbers: int, **arguments: Any) -> bytes:
    return b"".join(msgpack.packb([0, n, "complete", [{"n": n, **arguments}]]) for n in numbers)


async def responses(peer: Peer, count: int) -> dict[int, Response]:
    got: dict[int, Response] = {}
    while len(got) < count:
        event = await peer.next()
        assert isinstance(event, Response)
        got[event.msgid] = event
    return got


async def test_a_burst_is_begun_in_turns_and_nobody_is_turned_away() -> None:
    most = running = 0

    async def brief(asked: Asked) -> Any:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await trio.lowlevel.checkpoint()
        running -= 1
        return asked.params[0]["n"]

    starting = Starting()
    async with session_with({"complete": Row(brief, in_line=True)}, starting=starting) as (peer, _, _):
        await peer.stream.send_all(packed(*range(100)))
        got = await responses(peer, 100)
        assert all(event.result == msgid for msgid, event in got.items())
    assert most <= 2 * AT_ONCE
    assert starting.statistics().waiting == 0
    assert starting.statistics().waited >= 100 - AT_ONCE
    assert starting.statistics().turned_away == 0


async def test_who_would_begin_too_late_hears_so_at_once_and_hits_ping_and_status_are_served(
    mock_clock: trio.testing.MockClock,
) -> None:
    refused: list[tuple[int, str]] = []
    busy = Busy(mock_clock, 0.1)
    known = msgpack.packb("complete") + msgpack.packb([{"n": 999, "timeout_s": 1.0}])

    def recall_known(_: Caller, argument_bytes: bytes, __: float) -> bytes | None:
        return msgpack.packb("known") if argument_bytes == known else None

    starting = Starting(lambda: Patience(most_s=1000.0, share=0.25))
    async with session_with(
        {"complete": Row(busy, in_line=True)},
        starting=starting,
        recall_known=recall_known,
        refused=lambda caller, code: refused.append((caller.uid, code)),
    ) as (peer, _, _):
        await peer.call("hello", errors="map")
        await peer.stream.send_all(
            packed(*range(100, 200), timeout_s=1000.0)
        )  # patient; the line learns how slow it is
        while busy.done < 20:
            await trio.lowlevel.checkpoint()
        await peer.stream.send_all(
            packed(900, timeout_s=1.0) + packed(999, timeout_s=1.0) + msgpack.packb([0, 901, "ping", [{}]])
        )
        order: list[int] = []
        got: dict[int, Response] = {}
        while len(got) < 103:
            event = await peer.next()
            assert isinstance(event, Response)
            got[event.msgid] = event
            order.append(event.msgid)
        assert got[900].error["code"] == "overloaded"
        assert got[900].error["retry_after_s"] > 0.25
        assert got[999].result == "known"
        assert got[901].result == "pong"
        assert all(got[n].result == n for n in range(100, 200))
        assert order.index(199) > max(order.index(n) for n in (900, 999, 901))
    assert refused == [(1000, "overloaded")]
    assert busy.done == 100  # nothing was begun for those that were turned away


@pytest.mark.parametrize("together", [1, 3, 4])
async def test_who_was_refused_a_few_is_read_from_a_little_later_and_everybody_else_at_once(
    together: int,
    mock_clock: trio.testing.MockClock,
) -> None:
    begun = 0
    warm = trio.Event()

    async def brief(_: Asked) -> Any:
        nonlocal begun
        begun += 1
        if begun <= 60:  # then time stands still, and the line goes on for some hundred turns
            mock_clock.jump(0.001)
        else:
            warm.set()
        return 1

    starting = Starting(lambda: Patience(most_s=1000.0, share=0.25))
    methods = {"complete": Row(brief, in_line=True)}
    async with (
        session_with(methods, starting=starting) as (flooding, _, _),
        session_with(methods, starting=starting, going_round=False) as (quiet, _, _),
    ):
        await flooding.stream.send_all(packed(*range(3000), timeout_s=1000.0))
        await warm.wait()
        await flooding.stream.send_all(packed(*range(20_000, 20_000 - together, -1), timeout_s=0.001))
        while starting.statistics().turned_away == 0:
            await trio.lowlevel.checkpoint()
        await flooding.stream.send_all(msgpack.packb([0, 20_001, "ping", [{}]]))
        assert (await quiet.call("ping")).result == "pong"

        async def read_until(msgid: int, most: int) -> int:
            for number in range(most):
                event = await flooding.next()
                assert isinstance(event, Response)
                if event.msgid == msgid:
                    return number
            return most

        assert await read_until(20_000, 3000) < 3000
        if together < 4:
            assert await read_until(20_001, 100) == 100
            mock_clock.jump(0.001)
        assert await read_until(20_001, 3000) < 3000
        assert starting.statistics().waiting > 0  # it was the pause that ended, and not the line


async def test_who_was_refused_is_read_from_at_once_when_nobody_stands_in_line_any_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    starting = Starting(lambda: Patience(share=0.0))

    async def brief(_: Asked) -> Any:
        return 1

    async with session_with({"complete": Row(brief, in_line=True)}, starting=starting) as (peer, _, _):
        await peer.stream.send_all(packed(*range(AT_ONCE + 2)))
        assert len(await responses(peer, AT_ONCE + 2)) == AT_ONCE + 2
        assert (await peer.call("ping")).result == "pong"
        assert trio.current_time() == 0.0


async def test_calls_beyond_those_in_flight_are_read_and_can_be_cancelled_and_others_are_answered() -> None:
    go = trio.Event()
    begun: list[int] = []

    async def wait(asked: Asked) -> Any:
        begun.append(asked.msgid)
        await go.wait()
        return 1

    limits = SessionLimits(Limits(), max_in_flight=2)
    async with session_with({"complete": Row(wait, in_line=True)}, limits=limits) as (peer, session, _):
        asked = [await peer.ask("complete", n=n) for n in range(6)]
        assert (await peer.call("ping")).result == "pong"
        assert session.in_flight == 2
        await peer.stream.send_all(Connection.pack_notification("cancel", {"msgid": asked[3]}))
        event = await peer.next()
        assert isinstance(event, Response)
        assert (event.msgid, event.error[1].partition(":")[0]) == (asked[3], "cancelled")
        await peer.stream.send_all(msgpack.packb([0, asked[4], "ping", []]))
        again = await peer.next()
        assert isinstance(again, Response)
        assert "still in flight" in again.error[1]
        go.set()
        assert set(await responses(peer, 5)) == {*asked} - {asked[3]}
    assert sorted(begun) == [*asked[:3], *asked[4:]]


async def test_a_connection_with_short_patience_does_not_fill_up_behind_slow_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(_: Asked) -> Any:
        await trio.sleep(1.0)
        return 1

    limits = SessionLimits(Limits(), max_in_flight=2)
    async with session_with({"complete": Row(slow, in_line=True)}, limits=limits) as (peer, _, _):
        for _ in range(20):  # it learns how long answers take
            await peer.stream.send_all(packed(1, 2))
            await responses(peer, 2)
        await peer.stream.send_all(packed(*range(40), timeout_s=20.0))
        began = trio.current_time()
        got = await responses(peer, 40)
        late = {msgid for msgid, event in got.items() if event.error is not None}
        # Two a second, and half of 20 s to begin: some twenty besides those that run at once are let in.
        assert 18 <= 40 - len(late) <= 26
        assert trio.current_time() - began <= 13.0
        assert late == set(range(40 - len(late), 40))


async def test_what_stands_in_line_is_refused_as_not_begun_when_the_daemon_goes() -> None:
    go = trio.Event()

    async def wait(_: Asked) -> Any:
        await go.wait()
        return "done"

    limits = SessionLimits(Limits(), max_in_flight=1)
    starting = Starting()
    async with session_with({"complete": Row(wait, in_line=True)}, limits=limits, starting=starting) as (
        peer,
        session,
        _,
    ):
        first, *others = [await peer.ask("complete", n=n) for n in range(4)]
        await peer.call("ping")
        session.say_going_away(30.0)
        await peer.next()  # the goodbye
        refused = await responses(peer, 3)
        assert set(refused) == {*others}
        assert all(event.error[1].startswith("going_away: ") for event in refused.values())
        go.set()
        assert (await responses(peer, 1))[first].result == "done"
        assert await peer.closed()
    assert starting.statistics().waiting == 0


async def test_who_leaves_takes_what_stood_in_line_along() -> None:
    starting = Starting()

    async def endless(_: Asked) -> Any:
        await trio.sleep_forever()

    async with session_with({"complete": Row(endless, in_line=True)}, starting=starting) as (peer, session, _):
        await peer.stream.send_all(packed(*range(400)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert session.in_flight == 256
        await peer.stream.aclose()
        while session.in_flight:
            await trio.lowlevel.checkpoint()
    assert starting.statistics().waiting == 0


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock()
