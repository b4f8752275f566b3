"""A session over a real socket pair: what a peer can do, good or bad, and what it costs nobody else."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import msgpack
import pytest
import trio
import trio.testing
from sessions import session_with

from aiorch.errors import Overloaded
from aiorch.protocol import Connection, Limits, Notification, Request, Response
from aiorchd.calls.caller import Caller
from aiorchd.core.start_line import AT_ONCE as AT_ONCE_IN_LINE
from aiorchd.doors.deltas import Deltas
from aiorchd.doors.follow_on import AT_ONCE
from aiorchd.doors.method import Asked, Packed
from aiorchd.doors.methods import Row
from aiorchd.doors.recall import LATER, Stored
from aiorchd.doors.session_limits import SessionLimits


async def test_ping() -> None:
    async with session_with() as (peer, _, _):
        assert (await peer.call("ping")).result == "pong"


async def test_errors_are_text_until_hello_asks_for_maps() -> None:
    async def overloaded(_: Asked) -> Any:
        raise Overloaded("full", retry_after_s=2.0, stage="admit")

    async with session_with({"x": overloaded}) as (peer, _, _):
        assert (await peer.call("x")).error == [0, "overloaded: full"]
        hello = (await peer.call("hello", errors="map")).result
        assert hello["uid"] == 1000
        assert (hello["max_frame_bytes"], hello["max_elements"]) == (Limits().max_frame_bytes, Limits().max_elements)
        error = (await peer.call("x")).error
        assert error["code"] == "overloaded"
        assert error["retry_after_s"] == 2.0
        assert error["stage"] == "admit"


async def test_what_follows_hello_in_the_same_write_is_refused_in_the_wished_form() -> None:
    for _ in range(8):  # tasks start in an order of their own
        async with session_with() as (peer, _, _):
            await peer.stream.send_all(
                msgpack.packb([0, 0, "hello", [{"errors": "map"}]]) + msgpack.packb([0, 1, "nope", [{}]])
            )
            answers = [await peer.next() for _ in range(2)]
            refused = next(answer for answer in answers if isinstance(answer, Response) and answer.msgid == 1)
            assert refused.error["code"] == "unknown_method"


async def test_an_answer_beyond_what_clients_take_is_an_error_and_no_closed_connection() -> None:
    body = msgpack.packb("x" * 65 * 1024 * 1024)

    async def huge(_: Asked) -> Any:
        return Packed(body)

    async with session_with({"huge": huge}, recall=lambda *_: Packed(body)) as (peer, _, _):
        answer = await peer.call("huge")
        assert answer.error[1].startswith("too_large: the answer has")


async def test_unknown_methods_are_told_what_there_is() -> None:
    async with session_with() as (peer, _, _):
        error = (await peer.call("pong")).error[1]
        assert error.startswith("unknown_method: ")
        assert "ping" in error


async def test_only_administrators_administer() -> None:
    async with session_with() as (peer, _, _):
        assert (await peer.call("secret")).error[1].startswith("forbidden: ")
    async with session_with(admin=True) as (peer, _, _):
        assert (await peer.call("secret")).result == "pong"


async def test_who_is_not_allowed_is_answered_politely() -> None:
    async with session_with(admitted=False) as (peer, _, _):
        error = (await peer.call("ping")).error[1]
        assert error.startswith("forbidden: ")
        assert "allow_users" in error


async def test_a_defect_is_answered_without_its_traceback_and_the_session_goes_on() -> None:
    async def broken(_: Asked) -> Any:
        raise RuntimeError("sk-secret in a message")

    async with session_with({"x": broken}) as (peer, _, log):
        error = (await peer.call("x")).error[1]
        assert error.startswith("internal: ")
        assert "sk-secret" not in error
        assert log.lines[0][0] == "request_failed"
        assert (await peer.call("ping")).result == "pong"


async def test_an_answer_that_cannot_be_sent_is_an_error_and_no_silence() -> None:
    async def odd(_: Asked) -> Any:
        return {1: 2}

    async with session_with({"x": odd}) as (peer, _, _):
        assert (await peer.call("x")).error[1].startswith("internal: ")


async def test_requests_run_side_by_side(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(asked: Asked) -> Any:
        await trio.sleep(asked.params[0]["s"])
        return asked.params[0]["s"]

    async with session_with({"slow": slow}) as (peer, _, _):
        for seconds in (3, 1, 2):
            await peer.ask("slow", s=seconds)
        got = [await peer.next() for _ in range(3)]
        assert [event.result for event in got] == [1, 2, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize("by", ["msgid", "call_id"])
async def test_cancel_reaches_the_handler(by: str) -> None:
    ended = trio.Event()

    async def endless(asked: Asked) -> Any:
        asked.session.register_call_id("mine", asked.msgid)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with session_with({"x": endless}) as (peer, session, _):
        msgid = await peer.ask("x")
        while not session.in_flight:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0.01)
        named = {"msgid": msgid} if by == "msgid" else {"call_id": "mine"}
        await peer.stream.send_all(Connection.pack_notification("cancel", named))
        event = await peer.next()
        assert isinstance(event, Response)
        assert event.error[1].startswith("cancelled: ")
        assert ended.is_set()


async def test_a_peer_that_leaves_cancels_its_calls() -> None:
    ended = trio.Event()

    async def endless(_: Asked) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with session_with({"x": endless}) as (peer, _, _):
        await peer.ask("x")
        await peer.stream.aclose()
        with trio.fail_after(5):
            await ended.wait()


async def test_a_peer_that_leaves_while_the_reader_waits_is_noticed() -> None:
    ended = trio.Event()

    async def endless(_: Asked) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    limits = SessionLimits(Limits(), max_in_flight=1)
    async with session_with({"x": endless}, limits=limits) as (peer, _, _):
        await peer.ask("x")
        await peer.ask("x")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.stream.aclose()
        with trio.fail_after(5):
            await ended.wait()


async def test_in_flight_is_bounded_by_not_reading_on() -> None:
    go = trio.Event()

    async def wait(_: Asked) -> Any:
        await go.wait()
        return 1

    limits = SessionLimits(Limits(), max_in_flight=2)
    async with session_with({"x": wait}, limits=limits) as (peer, session, _):
        for _ in range(5):
            await peer.ask("x")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert session.in_flight == 2
        go.set()
        for _ in range(5):
            assert isinstance(await peer.next(), Response)


async def test_a_msgid_in_use_is_refused() -> None:
    async def endless(_: Asked) -> Any:
        await trio.sleep_forever()

    async with session_with({"x": endless}) as (peer, _, _):
        await peer.stream.send_all(msgpack.packb([0, 7, "x", []]) + msgpack.packb([0, 7, "ping", []]))
        event = await peer.next()
        assert isinstance(event, Response)
        assert "still in flight" in event.error[1]


@pytest.mark.parametrize(
    "junk", [b"\xc1", b"\x90" * 100, msgpack.packb({"a": 1}), msgpack.packb([0, 1]), b"\xdd\xff\xff\xff\xff"]
)
async def test_junk_gets_one_last_word_and_a_close(junk: bytes) -> None:
    async with session_with() as (peer, _, _):
        await peer.stream.send_all(junk)
        event = await peer.next()
        assert isinstance(event, Notification)
        assert event.method == "error"
        assert event.params[0]["code"] == "invalid_request"
        assert await peer.closed()


async def test_what_neovim_sends_is_served() -> None:
    async with session_with() as (peer, _, _):
        await peer.stream.send_all(b"\x94\x00\x01\xa4ping\x90" + b"\x93\x02\xb0nvim_error_event\x91\xa1\xff")
        await peer.stream.send_all(b"\x94\x00\x02\xa5hello\x91\x90" + b"\x94\x01\x63\xc0\xc0")
        answers = {
            event.msgid: event for event in (await peer.next(), await peer.next()) if isinstance(event, Response)
        }
        assert answers[1].result == "pong"
        assert answers[2].error is None


async def test_hits_of_one_read_leave_in_order() -> None:
    def recall(_: Caller, request: Request, __: float) -> Any:
        return Packed(msgpack.packb(request.params[0]["n"])) if request.method == "hit" else None

    async with session_with(recall=recall) as (peer, _, _):
        for n in range(100):
            await peer.ask("hit", n=n)
        got = [await peer.next() for _ in range(100)]
        assert [event.result for event in got] == list(range(100))  # type: ignore[union-attr]


def knowing(answers: dict[bytes, Any]) -> Callable[[Caller, bytes, float], bytes | None]:
    """Know these argument bytes."""

    def recall_known(_: Caller, argument_bytes: bytes, __: float) -> bytes | None:
        known = answers.get(argument_bytes)
        return None if known is None else msgpack.packb(known)

    return recall_known


async def test_what_is_known_by_its_bytes_is_answered_undecoded_under_any_msgid() -> None:
    arguments = msgpack.packb("hit") + msgpack.packb([{"n": 1}])
    seen: list[str] = []

    def recall(_: Caller, request: Request, __: float) -> Any:
        seen.append(request.method)
        return Packed(msgpack.packb("decoded"))

    async with session_with(recall=recall, recall_known=knowing({arguments: "known"})) as (peer, _, _):
        # msgids up to 32 bits in every spelling; the longer one is rare and is decoded.
        for spelled, msgid, answer in (
            (b"\x07", 7, "known"),
            (b"\xcc\x07", 7, "known"),
            (b"\xcd\xff\xff", 0xFFFF, "known"),
            (b"\xce\xff\xff\xff\xff", 0xFFFFFFFF, "known"),
            (b"\xcf" + bytes(7) + b"\x07", 7, "decoded"),
        ):
            await peer.stream.send_all(b"\x94\x00" + spelled + arguments)
            event = await peer.next()
            assert isinstance(event, Response)
            assert (event.msgid, event.error, event.result) == (msgid, None, answer)
        assert seen == ["hit"]
        # One that is not known, two at once, and one that comes in pieces are decoded like all others.
        await peer.stream.send_all(b"\x94\x00\x01" + msgpack.packb("hit") + msgpack.packb([{"n": 2}]))
        await peer.next()
        await peer.stream.send_all(2 * (b"\x94\x00\x02" + arguments))
        await peer.next()
        await peer.next()
        await peer.stream.send_all(b"\x94\x00\x03" + arguments[:5])
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.stream.send_all(arguments[5:])
        event = await peer.next()
        assert isinstance(event, Response)
        assert (event.msgid, event.result) == (3, "decoded")
        assert seen == ["hit"] * 5


async def test_what_is_on_disk_is_answered_where_it_would_begin_some_in_each_turn() -> None:
    turn, turn_of_answer, begun = 0, list[int](), list[int]()

    def recall_stored(_: Caller, prepared: object, __: float) -> bytes | None:
        if prepared == "on no disk":
            return None
        turn_of_answer.append(turn)
        return msgpack.packb(f"found {prepared}")

    async def call(asked: Asked) -> Any:
        begun.append(asked.msgid)
        return "asked"

    async def turns() -> None:
        nonlocal turn
        while True:
            await trio.lowlevel.checkpoint()
            turn += 1

    def recall(_: Caller, request: Request, __: float) -> object:
        return request.params[0]["n"]

    rows = {"call": Row(call, in_line=True), "other": Row(call)}
    async with session_with(rows, recall=recall, recall_stored=recall_stored) as (peer, _, _), trio.open_nursery() as n:
        n.start_soon(turns)
        assert (await peer.call("call", n=0)).result == "found 0"
        assert (await peer.call("call", n="on no disk")).result == "asked"
        assert (await peer.call("other", n=1)).result == "asked"  # which is no question
        assert len(begun) == 2
        # Of many at once a few are looked for in each turn of the loop, and nobody waits for all of them.
        many = [peer.wire.pack_request("call", {"n": number}) for number in range(40)]
        await peer.stream.send_all(b"".join(packed for _, packed in many))
        found = {
            event.msgid: event.result for event in [await peer.next() for _ in many] if isinstance(event, Response)
        }
        assert found == {msgid: f"found {number}" for number, (msgid, _) in enumerate(many)}
        assert len(begun) == 2
        # Trio goes through the tasks of a turn in any order: what is counted as one may be parts of two.
        assert max(Counter(turn_of_answer).values()) <= 2 * AT_ONCE_IN_LINE
        n.cancel_scope.cancel()


async def test_a_request_is_told_that_its_answer_is_on_disk() -> None:
    told: list[bool] = []

    async def call(asked: Asked) -> Any:
        told.append(asked.stored)
        return "asked"

    def recall_stored(_: Caller, prepared: object, __: float) -> Literal[Stored.LATER] | None:
        return LATER if prepared else None

    def recall(_: Caller, request: Request, __: float) -> object:
        return request.params[0]["there"]

    rows = {"call": Row(call, in_line=True)}
    async with session_with(rows, recall=recall, recall_stored=recall_stored) as (peer, _, _):
        for there in (True, False):
            assert (await peer.call("call", there=there)).result == "asked"
    assert told == [True, False]


async def test_who_asks_on_and_on_is_answered_at_once_and_others_have_their_turn(
    mock_clock: trio.testing.MockClock,
) -> None:
    arguments = msgpack.packb("hit") + msgpack.packb([{}])
    turns, turn_of_answer = 0, []

    async with session_with(recall_known=lambda *_: ask_on()) as (peer, session, _):

        def ask_on() -> bytes:
            """As a caller on this CPU that asks again the moment it is answered."""
            turn_of_answer.append(turns)
            if len(turn_of_answer) < 100:
                peer.stream.socket._sock.send(b"\x94\x00\x01" + arguments)
            return msgpack.packb("known")

        async def somebody_else() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(somebody_else)
            await peer.stream.send_all(b"\x94\x00\x01" + arguments)
            for _ in range(100):
                event = await peer.next()
                assert isinstance(event, Response)
                assert event.result == "known"
            nursery.cancel_scope.cancel()
        # The one that was waited for, and those that followed on; at most twice between two turns of the other, since Trio runs
        # what is ready in any order.
        in_one_turn = Counter(turn_of_answer).values()
        assert AT_ONCE < max(in_one_turn) <= 2 * (AT_ONCE + 1)
        # What follows on and is not known, and a peer that leaves, go the usual way.
        await peer.stream.aclose()
        with trio.fail_after(5):
            while session._socket.fileno() >= 0:
                await trio.lowlevel.checkpoint()


async def test_a_request_that_follows_on_and_is_not_known_is_decoded() -> None:
    arguments = msgpack.packb("hit") + msgpack.packb([{}])

    async with session_with(recall_known=lambda _, asked, __: once(asked)) as (peer, _, _):

        def once(asked: bytes) -> bytes | None:
            if asked != arguments:
                return None
            peer.stream.socket._sock.send(peer.wire.pack_request("ping", {})[1])
            return msgpack.packb("known")

        await peer.stream.send_all(b"\x94\x00\x09" + arguments)
        answers = [await peer.next() for _ in range(2)]
        assert [event.result for event in answers] == ["known", "pong"]  # type: ignore[union-attr]


async def test_nothing_is_known_to_a_caller_who_is_not_admitted() -> None:
    arguments = msgpack.packb("hit") + msgpack.packb([{}])
    async with session_with(admitted=False, recall_known=knowing({arguments: "known"})) as (peer, _, _):
        await peer.stream.send_all(b"\x94\x00\x01" + arguments)
        event = await peer.next()
        assert isinstance(event, Response)
        assert event.error[1].startswith("forbidden")


async def test_bytes_that_complete_a_frame_are_not_taken_for_a_known_request() -> None:
    arguments = msgpack.packb("hit") + msgpack.packb([{}])
    request = b"\x94\x00\x01" + arguments
    async with session_with(recall_known=knowing({arguments: "known"})) as (peer, _, _):
        # The same bytes, as the text of another request's argument.
        await peer.stream.send_all(b"\x94\x00\x02" + msgpack.packb("ping") + b"\x91\xc4" + bytes([len(request)]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.stream.send_all(request)
        event = await peer.next()
        assert isinstance(event, Response)
        assert event.msgid == 2


async def test_a_peer_that_never_reads_costs_its_buffer_and_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    def recall(_: Caller, request: Request, __: float) -> Any:
        return Packed(msgpack.packb("x" * 10_000)) if request.method == "hit" else None

    limits = SessionLimits(Limits(), max_pending_write_bytes=100_000, write_stall_s=30.0)
    async with session_with(recall=recall, limits=limits) as (peer, session, log):
        _, one = peer.wire.pack_request("hit", {})
        with trio.move_on_after(5) as full:
            while True:
                await peer.stream.send_all(one * 100)
        assert full.cancelled_caught  # the daemon stopped reading
        # One read's worth of answers may be on top of the bound, in pieces no larger than it.
        assert session.outbox.pending_bytes <= 220_000
        start = trio.current_time()
        while not session.outbox.broken:
            await trio.sleep(1)
        assert trio.current_time() - start <= 31
        assert log.lines[-1][0] == "connection_cut"


async def test_going_away_is_said_and_what_is_in_flight_is_finished() -> None:
    go = trio.Event()

    async def wait(_: Asked) -> Any:
        await go.wait()
        return "done"

    async with session_with({"x": wait}) as (peer, session, _):
        await peer.ask("x")
        await trio.testing.wait_all_tasks_blocked(0.01)
        session.say_going_away(30.0)
        event = await peer.next()
        assert isinstance(event, Notification)
        assert (event.method, event.params) == ("going_away", [{"deadline_s": 30.0}])
        refused = await peer.call("ping")
        assert refused.error[1].startswith("going_away: ")
        go.set()
        last = await peer.next()
        assert isinstance(last, Response)
        assert last.result == "done"
        assert await peer.closed()


async def test_an_idle_session_ends_at_once_when_the_daemon_goes() -> None:
    async with session_with() as (peer, session, _):
        await peer.call("ping")
        session.say_going_away(30.0)
        assert isinstance(await peer.next(), Notification)
        assert await peer.closed()


async def test_what_was_on_its_way_when_the_daemon_goes_is_refused_as_not_begun() -> None:
    async with session_with() as (peer, session, _):
        requests = [peer.wire.pack_request("ping", {}) for _ in range(3)]
        raw = peer.stream.socket
        await raw.send(requests[0][1] + requests[1][1])  # in the kernel; the session has not run since
        session.say_going_away(30.0)
        with pytest.raises(BrokenPipeError):  # so that whoever sends it knows that it was not taken
            await raw.send(requests[2][1])
        assert isinstance(await peer.next(), Notification)
        for msgid, _ in requests[:2]:
            refused = await peer.next()
            assert isinstance(refused, Response)
            assert refused.msgid == msgid
            assert refused.error[1].startswith("going_away: ")
        assert await peer.stream.receive_some(1) == b""  # an end, not a reset


async def test_the_next_of_a_full_connection_is_refused_when_the_daemon_goes() -> None:
    go = trio.Event()

    async def wait(_: Asked) -> Any:
        await go.wait()
        return "done"

    async with session_with({"x": wait}, limits=SessionLimits(Limits(), max_in_flight=1)) as (peer, session, _):
        await peer.ask("x")
        late = await peer.ask("x")
        await trio.testing.wait_all_tasks_blocked(0.01)
        session.say_going_away(30.0)
        go.set()
        assert isinstance(await peer.next(), Notification)
        done, refused = await peer.next(), await peer.next()
        assert isinstance(done, Response)
        assert done.result == "done"
        assert isinstance(refused, Response)
        assert refused.msgid == late
        assert refused.error[1].startswith("going_away: ")
        assert await peer.stream.receive_some(1) == b""


async def test_a_slow_reader_gets_everything_when_the_daemon_goes(autojump_clock: trio.testing.MockClock) -> None:
    async def big(_: Asked) -> Any:
        return "x" * 5_000_000

    async with session_with({"x": big}) as (peer, session, _):
        await peer.ask("x")
        while not session.outbox.pending_bytes:
            await trio.lowlevel.checkpoint()
        session.say_going_away(30.0)
        await trio.sleep(0.9)
        answer = await peer.next()
        assert isinstance(answer, Response)
        assert len(answer.result) == 5_000_000
        assert isinstance(await peer.next(), Notification)
        assert await peer.stream.receive_some(1) == b""


async def test_a_peer_that_reads_nothing_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async def big(_: Asked) -> Any:
        return "x" * 5_000_000

    async with trio.open_nursery() as nursery, session_with({"x": big}) as (peer, session, _):
        await peer.ask("x")
        while not session.outbox.pending_bytes:
            await trio.lowlevel.checkpoint()
        start = trio.current_time()
        session.say_going_away(30.0)
        ended = trio.Event()

        async def watch() -> None:
            while session._socket.fileno() >= 0:
                await trio.sleep(0.05)
            ended.set()

        nursery.start_soon(watch)
        await ended.wait()
        assert trio.current_time() - start == pytest.approx(1.0, abs=0.1)


async def test_deltas_are_numbered_and_can_be_named() -> None:
    async def stream(asked: Asked) -> Any:
        for sink in (
            Deltas(asked.session.outbox, "c1", None),
            Deltas(asked.session.outbox, None, ("nvim_exec_lua", "code")),
        ):
            assert not sink.started
            await sink.send(text="a")
            await sink.send(tool_calls=[{"index": 0}])
            assert sink.started
        return "whole"

    async with session_with({"x": stream}) as (peer, _, _):
        await peer.ask("x")
        events = [await peer.next() for _ in range(5)]
        assert [event.params for event in events[:4]] == [  # type: ignore[union-attr]
            [{"call_id": "c1", "index": 0, "text": "a"}],
            [{"call_id": "c1", "index": 1, "tool_calls": [{"index": 0}]}],
            ["code", [{"call_id": None, "index": 0, "text": "a"}]],
            ["code", [{"call_id": None, "index": 1, "tool_calls": [{"index": 0}]}]],
        ]
        assert events[3].method == "nvim_exec_lua"  # type: ignore[union-attr]
        assert isinstance(events[4], Response)


async def test_half_a_message_is_not_waited_for_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with session_with(limits=SessionLimits(Limits(), frame_timeout_s=5.0)) as (peer, _, log):
        whole = msgpack.packb([0, 1, "ping", ["x" * 100]])
        for byte in whole[:40]:  # drop by drop, and soon enough all the same
            await peer.stream.send_all(bytes([byte]))
            await trio.sleep(0.1)
        await peer.stream.send_all(whole[40:] + whole[:10])
        assert isinstance(await peer.next(), Response)
        began = trio.current_time()
        with trio.move_on_after(60), pytest.raises(trio.BrokenResourceError):
            while True:
                await peer.stream.send_all(whole[10:11])
                await trio.sleep(1.5)
        assert 4.0 < trio.current_time() - began < 8.0  # its time begins anew with each message, and not with each byte
        assert "did not come whole within 5 s" in log.lines[-1][1]["reason"]
        event = await peer.next()
        assert isinstance(event, Notification)
        assert "did not come whole" in event.params[0]["message"]


async def test_a_message_that_never_began_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with session_with(limits=SessionLimits(Limits(), frame_timeout_s=5.0)) as (peer, _, _):
        await trio.sleep(3600)
        assert (await peer.call("ping")).result == "pong"


async def test_a_task_that_has_answered_takes_what_comes_next() -> None:
    tasks: list[trio.lowlevel.Task] = []

    async def who(_: Asked) -> Any:
        tasks.append(trio.lowlevel.current_task())
        await trio.lowlevel.checkpoint()
        return len(tasks)

    async with session_with({"who": who}) as (peer, _, _):
        for number in range(5):
            assert (await peer.call("who")).result == number + 1
    assert len(set(tasks)) == 1


async def test_of_many_tasks_some_rest_and_all_end_with_the_session() -> None:
    go = trio.Event()

    async def wait(_: Asked) -> Any:
        await go.wait()
        return "done"

    before = trio.lowlevel.current_statistics().tasks_living
    async with session_with({"wait": wait}) as (peer, _, _):
        await trio.testing.wait_all_tasks_blocked()
        idle = trio.lowlevel.current_statistics().tasks_living
        await peer.stream.send_all(b"".join(msgpack.packb([0, number, "wait", [{}]]) for number in range(30)))
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == idle + 30
        go.set()
        answered = {(await peer.next()).msgid for _ in range(30)}  # type: ignore[union-attr]
        assert answered == set(range(30))
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == idle + 8
        assert (await peer.call("ping")).result == "pong"
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_task_at_rest_holds_nothing_of_what_it_answered() -> None:
    class Result(dict[str, str]):
        """What a weak reference may be had of."""

    given: list[weakref.ref[Result]] = []

    async def give(asked: Asked) -> Any:
        asked.params.append(Result(prompt="secret"))
        given.append(weakref.ref(asked.params[-1]))
        return "given"

    async with session_with({"give": give}) as (peer, _, _):
        for _ in range(2):
            assert (await peer.call("give")).result == "given"
        await trio.testing.wait_all_tasks_blocked()
        assert [one() for one in given] == [None, None]
