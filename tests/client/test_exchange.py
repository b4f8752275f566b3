"""The client's half of a connection, without a socket: a test plays the daemon by hand."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

import aiorch
from aiorch import questions
from aiorch.exchange import Exchange, Pending, Resending, whole_answer
from aiorch.protocol import Connection, Notification, Request
from aiorch.reply import Delta, Reply


class Daemon:
    """The other end: takes what the exchange writes, gives it bytes."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.wire = Connection()

    def take(self, count: int | None = None) -> list[Any]:
        """Read what the exchange has to write, or the first bytes of it."""
        data = b"".join(self.exchange.unsent())[:count]
        self.exchange.wrote(len(data))
        return self.wire.receive_data(data)

    def ask(self, prompt: str = "hi", **options: Any) -> Pending:
        return self.exchange.ask(questions.complete("complete", prompt, options, None))

    def stream(self, **options: Any) -> Pending:
        return self.exchange.ask(questions.complete("stream", "hi", options, None, streams=True))

    def say(self, *messages: Any) -> list[Pending]:
        return self.exchange.receive(b"".join(msgpack.packb(message) for message in messages))

    def delta(self, pending: Pending, index: int, **content: Any) -> list[Pending]:
        return self.say([2, "delta", [{"call_id": pending.call_id, "index": index, **content}]])


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


def test_the_greeting_leaves_with_the_first_question(daemon: Daemon) -> None:
    daemon.ask()
    greeting, asked = daemon.take()
    assert (greeting.method, greeting.params[0]["errors"]) == ("hello", "map")
    assert (asked.method, asked.params) == ("complete", [{"prompt": "hi"}])
    assert daemon.exchange.in_flight == 1
    assert daemon.say([1, greeting.msgid, None, {"version": "9", "protocol": 1, "uid": 7, "more": True}]) == []
    assert daemon.exchange.server is not None
    assert (daemon.exchange.server.version, daemon.exchange.server.uid) == ("9", 7)
    assert daemon.exchange.server.raw["more"] is True


def test_a_refused_greeting_harms_nothing(daemon: Daemon) -> None:
    pending = daemon.ask()
    greeting, asked = daemon.take()
    daemon.say([1, greeting.msgid, [0, "forbidden: not you"], None], [1, asked.msgid, None, {"text": "ho"}])
    assert pending.result == {"text": "ho"}
    assert daemon.exchange.server is None


def test_answers_find_their_questions_in_any_order(daemon: Daemon) -> None:
    pendings = [daemon.ask(str(number)) for number in range(5)]
    asked = [event for event in daemon.take() if event.method == "complete"]
    moved = daemon.say(*([1, request.msgid, None, request.params[0]["prompt"]] for request in reversed(asked)))
    assert moved == pendings[::-1]
    assert [pending.result for pending in pendings] == list("01234")
    assert daemon.exchange.in_flight == 0


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ([0, "rate_limited: slow down"], aiorch.RateLimited, "slow down"),
        ([1, "not_found: no"], aiorch.NotFound, "no"),
        ({"code": "overloaded", "message": "full", "retry_after_s": 2}, aiorch.Overloaded, "full"),
        ({"code": "brand_new", "message": "x"}, aiorch.CallError, "x"),
        ("just text", aiorch.InternalError, "just text"),
        (17, aiorch.InternalError, "17"),
        ({}, aiorch.InternalError, ""),
        ([], aiorch.InternalError, "[]"),
    ],
)
def test_both_forms_of_errors_and_worse_are_understood(
    daemon: Daemon, error: Any, kind: type[aiorch.CallError], message: str
) -> None:
    pending = daemon.ask()
    *_, asked = daemon.take()
    daemon.say([1, asked.msgid, error, None])
    assert type(pending.failure) is kind
    assert pending.failure.message == message


def test_pieces_of_a_stream_come_in_order_and_before_its_answer(daemon: Daemon) -> None:
    pending = daemon.stream()
    *_, asked = daemon.take()
    assert asked.params[0]["stream"] is True
    assert asked.params[0]["call_id"] == pending.call_id
    assert daemon.delta(pending, 0, text="a") == [pending]
    assert daemon.delta(pending, 1, tool_calls=[{"id": "t"}]) == [pending]
    assert pending.moved
    assert not pending.answered
    assert list(pending.deltas or ()) == [Delta(0, "a"), Delta(1, "", ({"id": "t"},))]
    daemon.say([1, asked.msgid, None, {"text": "a"}])
    assert pending.answered
    assert daemon.delta(pending, 2, text="late") == []


def test_a_missing_piece_ends_the_stream(daemon: Daemon) -> None:
    pending = daemon.stream()
    *_, asked = daemon.take()
    daemon.delta(pending, 0, text="a")
    assert daemon.delta(pending, 2, text="c") == [pending]
    assert isinstance(pending.failure, aiorch.IncompleteStream)
    (cancel,) = daemon.take()
    assert cancel == Notification("cancel", [{"msgid": asked.msgid}])


def test_streams_are_told_apart_and_names_are_never_used_twice(daemon: Daemon) -> None:
    first = daemon.stream()
    daemon.take()
    daemon.exchange.forget(first)
    second = daemon.stream()
    assert first.call_id != second.call_id
    assert daemon.delta(first, 0, text="late") == []
    named = daemon.stream(call_id="mine")
    assert named.call_id == "mine"
    with pytest.raises(aiorch.LocalProtocolError, match="call_id: 'mine' is still streaming"):
        daemon.stream(call_id="mine")
    daemon.delta(named, 0, text="x")
    assert list(named.deltas or ()) == [Delta(0, "x")]
    assert not second.deltas


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"call_id": None}, {"call_id": []}, {"call_id": "s1", "index": "x", "text": 7, "tool_calls": {}}],
)
def test_nonsense_in_notifications_is_survived(daemon: Daemon, content: Any) -> None:
    pending = daemon.stream()
    daemon.take()
    for method in ("delta", "going_away", "error", "unheard_of"):
        daemon.say([2, method, [content]])
        daemon.say([2, method, []])
    assert not pending.answered


def test_an_answer_nobody_waits_for_is_ignored(daemon: Daemon) -> None:
    assert daemon.say([1, 4711, None, 1], [1, -5, None, 1]) == []


def test_a_request_of_the_daemon_is_refused_and_life_goes_on(daemon: Daemon) -> None:
    pending = daemon.ask()
    *_, asked = daemon.take()
    daemon.say([0, 3, "host.tool", [{"name": "t"}]])
    (refusal,) = daemon.take()
    assert refusal.msgid == 3
    assert refusal.error["code"] == "unknown_method"
    daemon.say([1, asked.msgid, None, "fine"])
    assert pending.result == "fine"


def test_goodbye_retires_the_connection_and_not_its_questions(daemon: Daemon) -> None:
    pending = daemon.ask()
    *_, asked = daemon.take()
    daemon.say([2, "going_away", [{"deadline_s": 5}]])
    assert daemon.exchange.retiring
    assert not pending.answered
    daemon.say([1, asked.msgid, None, "fine"])
    assert pending.result == "fine"


# writing


def test_what_has_left_is_known_to_the_byte(daemon: Daemon) -> None:
    first, second = daemon.ask("a" * 100), daemon.ask("b" * 100)
    total = sum(len(part) for part in daemon.exchange.unsent())
    sent = []
    for _ in range(total):
        daemon.take(1)
        sent.append((first.sent, second.sent))
    assert daemon.exchange.written
    assert sent[-1] == (True, True)
    assert sent.index((True, False)) < sent.index((True, True))
    assert (False, True) not in sent
    assert sent[total - 2] == (True, False)


def test_a_question_forgotten_before_it_left_is_never_sent(daemon: Daemon) -> None:
    daemon.ask("first")
    daemon.take(10)
    second, third = daemon.ask("second"), daemon.ask("third")
    daemon.exchange.forget(second)
    asked = [event for event in daemon.take() if isinstance(event, Request) and event.method == "complete"]
    assert [request.params[0]["prompt"] for request in asked] == ["first", "third"]
    assert third.sent


def test_a_question_forgotten_half_sent_is_finished_and_cancelled(daemon: Daemon) -> None:
    daemon.take()
    pending = daemon.ask("x" * 1000)
    assert daemon.take(500) == []
    daemon.exchange.forget(pending)
    asked, cancel = daemon.take()
    assert cancel == Notification("cancel", [{"msgid": asked.msgid}])


def test_forgetting_twice_or_after_the_answer_says_nothing(daemon: Daemon) -> None:
    pending = daemon.ask()
    *_, asked = daemon.take()
    daemon.say([1, asked.msgid, None, 1])
    daemon.exchange.forget(pending)
    other = daemon.ask()
    daemon.take()
    daemon.exchange.forget(other)
    daemon.exchange.forget(other)
    assert len(daemon.take()) == 1


def test_what_cannot_be_sent_leaves_no_trace(daemon: Daemon) -> None:
    daemon.take()
    with pytest.raises(aiorch.LocalProtocolError, match="^prompt: holds a lone surrogate"):
        daemon.ask("\ud800")
    with pytest.raises(aiorch.TooLarge, match="16777216"):
        daemon.ask("x" * (16 << 20))
    assert daemon.exchange.written
    assert daemon.exchange.in_flight == 0


def test_the_daemon_may_say_how_much_it_takes(daemon: Daemon) -> None:
    daemon.ask()
    greeting, _ = daemon.take()
    daemon.say([1, greeting.msgid, None, {"max_frame_bytes": 1000}])
    with pytest.raises(aiorch.TooLarge, match="takes 1000"):
        daemon.ask("x" * 1000)


def test_more_values_than_the_daemon_takes_are_not_sent(daemon: Daemon) -> None:
    def ask(values: int) -> None:
        daemon.exchange.ask(questions.plain("complete", {"prompt": "x", "extra": {"a": [0] * values}}, None))

    ask(99_000)
    with pytest.raises(aiorch.TooLarge, match="more than the 100000 values"):
        ask(101_000)
    greeting = daemon.take()[0]
    daemon.say([1, greeting.msgid, None, {"max_elements": 200_000}])
    ask(150_000)


# a connection that replaces another


@pytest.fixture
def careful() -> Daemon:
    daemon = Daemon()
    daemon.exchange = Exchange(careful=True)
    return daemon


def test_a_careful_connection_holds_questions_until_it_is_greeted(careful: Daemon) -> None:
    pending, dropped = careful.ask("held"), careful.ask("dropped")
    (greeting,) = careful.take()
    assert greeting.method == "hello"
    assert careful.exchange.written
    assert careful.exchange.in_flight == 2
    careful.exchange.forget(dropped)
    careful.say([1, greeting.msgid, None, {}])
    (asked,) = careful.take()
    assert asked.params == [{"prompt": "held"}]
    assert pending.sent
    later = careful.ask("later")
    careful.take()
    assert later.sent


@pytest.mark.parametrize("end", [lambda exchange: exchange.lost("x"), lambda exchange: exchange.cannot_write("x")])
def test_what_was_held_has_not_left(careful: Daemon, end: Any) -> None:
    pending = careful.ask()
    careful.take()
    assert end(careful.exchange) == [pending]
    assert isinstance(pending.failure, aiorch.ConnectionLost)
    assert not pending.sent


def test_a_careful_connection_goes_on_when_the_greeting_is_refused(careful: Daemon) -> None:
    careful.ask()
    (greeting,) = careful.take()
    careful.say([1, greeting.msgid, [0, "forbidden: no"], None])
    (asked,) = careful.take()
    assert asked.method == "complete"


# held back for the models of a client


def held() -> Daemon:
    daemon = Daemon()
    daemon.exchange = Exchange(held=True)
    return daemon


@pytest.mark.parametrize("released_first", [False, True])
def test_questions_are_held_back_until_released_and_greeted(released_first: bool) -> None:
    daemon = held()
    pending = daemon.ask("held")
    (greeting,) = daemon.take()
    assert greeting.method == "hello"
    if released_first:
        daemon.exchange.release()
        assert daemon.exchange.written
        assert daemon.say([1, greeting.msgid, None, {}]) == []
    else:
        assert daemon.say([1, greeting.msgid, None, {}]) == [daemon.exchange.greeting], "somebody waits for it"
        assert daemon.exchange.greeting.answered
        assert daemon.exchange.written
        assert daemon.exchange.in_flight == 1
        assert not daemon.exchange.quiet, "nothing overtakes what is held back"
        daemon.exchange.release()
    (asked,) = daemon.take()
    assert asked.params == [{"prompt": "held"}]
    assert pending.sent
    daemon.exchange.release()
    assert daemon.exchange.written


def test_nothing_overtakes_even_when_nothing_is_held_back_yet() -> None:
    daemon = held()
    (greeting,) = daemon.take()
    daemon.say([1, greeting.msgid, None, {}])
    assert daemon.exchange.in_flight == 0
    assert not daemon.exchange.quiet
    daemon.exchange.release()
    assert daemon.exchange.quiet


def test_who_waits_for_a_greeting_hears_of_the_end_instead() -> None:
    daemon = held()
    pending = daemon.ask()
    daemon.take()
    assert set(daemon.exchange.lost("x")) == {pending, daemon.exchange.greeting}
    assert daemon.exchange.greeting.answered
    daemon.exchange.release()
    assert daemon.exchange.written
    assert isinstance(pending.failure, aiorch.ConnectionLost)
    assert not pending.sent


def test_the_daemon_ends_a_connection_on_which_models_are_registered(daemon: Daemon) -> None:
    daemon.take()
    daemon.exchange.serve()
    assert not daemon.exchange.unneeded
    daemon.say([2, "going_away", [{"deadline_s": 5.0}]])
    assert not daemon.exchange.unneeded, "it may ask back until then"
    daemon.exchange.lost("closed")
    assert daemon.exchange.unneeded


def test_who_serves_hears_that_nothing_can_be_written_any_more(daemon: Daemon) -> None:
    daemon.take()
    serving = daemon.exchange.serve()
    assert daemon.exchange.cannot_write("broken pipe") == [serving]
    assert serving.leaving


# the end


def test_a_lost_connection_says_of_each_question_how_far_it_came(daemon: Daemon) -> None:
    sent, streaming = daemon.ask(), daemon.stream()
    daemon.take()
    daemon.delta(streaming, 0, text="half")
    unsent = daemon.ask()
    assert set(daemon.exchange.lost("reset")) == {sent, streaming, unsent}
    assert isinstance(sent.failure, aiorch.ConnectionLost)
    assert "not known" in str(sent.failure)
    assert isinstance(unsent.failure, aiorch.ConnectionLost)
    assert "before the question had left (reset)" in str(unsent.failure)
    assert isinstance(streaming.failure, aiorch.IncompleteStream)
    assert daemon.exchange.lost("again") == []
    assert daemon.exchange.retiring


def test_a_socket_that_takes_nothing_fails_only_what_had_not_left(daemon: Daemon) -> None:
    sent = daemon.ask()
    daemon.take()
    unsent = daemon.ask()
    assert daemon.exchange.cannot_write("broken pipe") == [unsent]
    assert isinstance(unsent.failure, aiorch.ConnectionLost)
    assert not sent.answered
    assert daemon.exchange.retiring


def test_last_words_go_to_whom_they_concern(daemon: Daemon) -> None:
    pending = daemon.ask()
    daemon.take()
    daemon.say([2, "error", [{"code": "invalid_request", "message": "a frame is larger"}]])
    daemon.exchange.lost("closed")
    assert isinstance(pending.failure, aiorch.InvalidRequest)


def test_last_words_do_not_blame_everybody(daemon: Daemon) -> None:
    first, second = daemon.ask(), daemon.ask()
    daemon.take()
    daemon.say([2, "error", [{"code": "invalid_request", "message": "a frame is larger"}]])
    daemon.exchange.lost("closed")
    for pending in (first, second):
        assert isinstance(pending.failure, aiorch.ConnectionLost)
        assert "a frame is larger" in str(pending.failure)


def test_being_turned_away_concerns_everybody(daemon: Daemon) -> None:
    first, second = daemon.ask(), daemon.ask()
    daemon.take()
    daemon.say([2, "error", [{"code": "overloaded", "message": "full", "retry_after_s": 1}]])
    daemon.exchange.lost("closed")
    failures = [first.failure, second.failure]
    assert all(isinstance(failure, aiorch.Overloaded) for failure in failures)
    assert failures[0] is not failures[1]


def test_a_daemon_that_breaks_the_protocol_is_left_after_its_last_good_word(daemon: Daemon) -> None:
    first, second = daemon.ask(), daemon.ask()
    _, asked, _ = daemon.take()
    moved = daemon.exchange.receive(msgpack.packb([1, asked.msgid, None, "fine"]) + b"\xc1\xc1")
    assert moved == [first, second]
    assert first.result == "fine"
    assert isinstance(second.failure, aiorch.ConnectionLost)
    assert "broke the protocol" in str(second.failure)


# sending again


def failed(failure: aiorch.AiorchError | None, *, sent: bool = True, seen: int = 0) -> Pending:
    pending = Pending(1, None)
    pending.answered = True
    pending.failure = failure
    pending.sent = sent
    pending.seen = seen
    return pending


def times(pending: Pending, **options: Any) -> int:
    """Count how often a question that always fails so is sent again."""
    question = questions.complete("complete", "hi", options, None)
    resending = Resending(question)
    for again in range(100):
        try:
            question, pause_s = resending.again(question, pending, 1e9)
        except aiorch.AiorchError as error:
            assert error is pending.failure
            return again
        assert 0 <= pause_s <= 0.25
    raise AssertionError("for ever")


LOST = aiorch.ConnectionLost("x")


@pytest.mark.parametrize(
    ("pending", "options", "expected"),
    [
        (failed(LOST), {}, 0),
        (failed(LOST, sent=False), {}, 10),
        (failed(LOST), {"key": "k"}, 3),
        (failed(LOST), {"retries": 2}, 2),
        (failed(LOST), {"retries": 2, "key": "k"}, 5),
        (failed(LOST, seen=1), {"retries": 2, "key": "k"}, 0),
        (failed(aiorch.IncompleteStream("x"), seen=1), {"retries": 2, "key": "k"}, 0),
        (failed(aiorch.RateLimited("x")), {"retries": 2, "key": "k"}, 0),
        (failed(aiorch.TooLarge("x"), sent=False), {"retries": 2}, 0),
        (failed(aiorch.GoingAway("x")), {}, 14),
    ],
)
def test_what_may_be_sent_again(pending: Pending, options: dict[str, Any], expected: int) -> None:
    assert times(pending, **options) == expected


def test_what_is_sent_again_is_told_what_is_left_of_its_time() -> None:
    question = questions.complete("complete", "hi", {"timeout_s": 30, "key": "k"}, None)
    again, _ = Resending(question).again(question, failed(LOST), 12.5)
    assert again.arguments == {"prompt": "hi", "timeout_s": 12.5, "key": "k"}
    assert question.arguments["timeout_s"] == 30
    with pytest.raises(aiorch.ConnectionLost):
        Resending(question).again(question, failed(LOST), 0.0)


def test_an_answer_without_pieces_is_one() -> None:
    pending = Pending(1, "s")
    assert whole_answer(pending, Reply({"text": "all", "tool_calls": []})) == Delta(0, "all")
    assert whole_answer(pending, Reply({"text": ""})) is None
    pending.seen = 1
    assert whole_answer(pending, Reply({"text": "all"})) is None


def test_ids_that_come_round_pass_over_those_in_flight(daemon: Daemon) -> None:
    old = daemon.ask()
    daemon.exchange.wire._next_msgid = old.msgid - 1
    new = daemon.ask()
    assert new.msgid == old.msgid + 1
