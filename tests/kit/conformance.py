"""What every client of the daemon owes its users, and every daemon its clients: one set of expectations for all of them.

The suite is two classes of pytest tests. `WireConformance` holds for any client in any language that follows
``docs/protocol.md``; `LibraryConformance` adds what the Python library promises besides. Both are written against two
fixtures that whoever runs the suite provides:

- ``server``: a `World`, something that serves a socket and obeys a few verbs. Here it is ``aiorch.testing``'s fake daemon,
  elsewhere the real one with a scripted provider behind it.
- ``driver``: a `Driver`, a client made steerable from a plain test. ``drivers`` has those for the blocking client, the
  asynchronous one on asyncio and on trio, and for any program that reads and writes lines of JSON. That of the library is
  given the ``connect_timeout_s`` of the fixture of that name.

::

    class TestMyDaemon(WireConformance): ...     # with fixtures named driver and server in scope

What the server side must do for the suite to pass:

- answer ``hello``, ``ping``, ``complete``, ``embed`` and ``explain`` as ``docs/protocol.md`` has them;
- pass the pieces of a streamed answer on as they come, not all at the end;
- refuse wrong arguments with ``invalid_request`` and a message that begins with the argument's name, unknown methods
  with ``unknown_method``, unknown ids with ``not_found``;
- stop working on a call within two seconds of its ``cancel``, of its ``timeout_s``, and of its connection's end;
- after ``restart`` serve at the same socket; after ``replace`` too, and answer what was in flight before.

Prompts are never used twice but to see that what is known is given the same way, so a server may cache. Nothing depends on time but upper bounds of several seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pytest

import aiorch

SOON_S = 2.0
"""Within this the server notices that nobody waits for a call any more."""
PATIENCE_S = 20.0
"""Longer than this nothing may take."""
FOREVER_S = 60.0
"""How long an answer takes that nobody is meant to see."""


class World(Protocol):
    """The server under test, and the verbs it obeys."""

    @property
    def socket(self) -> str:
        """Where it serves."""
        ...

    def answer(
        self,
        prompt: str,
        text: str,
        *,
        delay_s: float = 0.0,
        pieces: Sequence[str] | None = None,
        pause_s: float = 0.0,
    ) -> None:
        """From now on answer this prompt so: after a delay; when streamed, in these pieces with pauses between them."""
        ...

    def in_flight(self) -> int:
        """Count the calls it works on now."""
        ...

    def restart(self) -> None:
        """Be killed, without a word to anybody, and come back at the same socket."""
        ...

    def stop(self) -> None:
        """Be killed; nobody serves the socket."""
        ...

    def start(self) -> None:
        """Come back."""
        ...

    def replace(self) -> None:
        """Be replaced gracefully: `going_away`, answer what is in flight, while a successor serves the same socket."""
        ...


class Streaming(Protocol):
    """A streamed answer, steered from outside."""

    def next(self) -> str | None:
        """Take the next piece; None after the last. Raises what the client makes of errors."""
        ...

    def reply(self) -> Mapping[str, Any]:
        """Give the whole reply, after the last piece."""
        ...

    def close(self) -> None:
        """Lose interest."""
        ...


class Started(Protocol):
    """A call under way, steered from outside."""

    def result(self) -> Mapping[str, Any]:
        """Wait for the reply. Raises what the client makes of errors."""
        ...

    def cancel(self) -> None:
        """Lose interest, by whatever means the client has."""
        ...


class Driver(Protocol):
    """A client under test. Errors are raised as `aiorch` has them, whatever the client's language calls them."""

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method and wait for its result."""
        ...

    def start(self, **arguments: Any) -> Started:
        """Begin a ``complete``."""
        ...

    def stream(self, **arguments: Any) -> Streaming:
        """Begin a streamed ``complete``."""
        ...


class HostingDriver(Driver, Protocol):
    """A client that answers for models, too. Functions are plain, and called in whatever way the client has."""

    def register(self, name: str, function: Callable[[str, Any], Any], **options: Any) -> None:
        """Answer for a model from now on."""
        ...

    def unregister(self, name: str) -> None:
        """Answer for it no more."""
        ...

    def waiting(self) -> tuple[Callable[[str, Any], Any], Callable[[], int], Callable[[], int]]:
        """Give a function that waits until it is told that nobody waits for its answer; how many calls of it have begun,
        and how many were told."""
        ...


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds, f"took {took:.2f} s, may take {seconds:g} s"


def eventually(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        pause(0.005)


def pause(seconds: float) -> None:
    """Let time pass for others; no expectation hangs on how much."""
    threading.Event().wait(seconds)


def listed(driver: Driver) -> list[str]:
    """Give the names of the models; none while a daemon takes its time to come back."""
    try:
        return [model["name"] for model in driver.call("models.list")]
    except aiorch.Unreachable:
        return []


class WireConformance:
    """For every client."""

    # asking

    def test_ping(self, driver: Driver, server: World) -> None:
        assert driver.call("ping") == "pong"

    def test_hello_tells_who_is_who(self, driver: Driver, server: World) -> None:
        server_info = driver.call("hello")
        assert server_info["protocol"] == 1
        assert server_info["uid"] == os.getuid()
        assert server_info["version"]

    def test_a_prompt_is_answered(self, driver: Driver, server: World) -> None:
        server.answer("What is the answer?", "Forty-two.")
        reply = driver.call("complete", prompt="What is the answer?")
        assert reply["text"] == "Forty-two."
        assert reply["id"]
        assert reply["model"]
        assert reply["cache"] == "miss"
        assert reply["finish_reason"] == "stop"
        assert set(reply["usage"]) >= {"input", "cache_read", "cache_write", "output", "reasoning"}
        assert set(reply["timing"]) >= {"queue_s", "provider_s", "overhead_s", "total_s"}
        assert {
            "data",
            "tool_calls",
            "provider",
            "simulated",
            "cost_usd",
            "saved_usd",
            "attempts",
            "validation",
        } <= set(reply)

    def test_a_conversation_is_answered(self, driver: Driver, server: World) -> None:
        server.answer("And in German?", "Zweiundvierzig.")
        messages = [
            {"role": "system", "content": "You count."},
            {"role": "user", "content": "What is the answer?"},
            {"role": "assistant", "content": "Forty-two."},
            {"role": "user", "content": "And in German?"},
        ]
        assert driver.call("complete", messages=messages)["text"] == "Zweiundvierzig."

    def test_text_arrives_unharmed(self, driver: Driver, server: World) -> None:
        prompt = 'Grüße, 世界 🎉 \\ " \t\r\n — \u200b'
        server.answer(prompt, prompt[::-1])
        assert driver.call("complete", prompt=prompt)["text"] == prompt[::-1]

    def test_a_megabyte_each_way(self, driver: Driver, server: World) -> None:
        prompt, text = "large " * 175_000, "écho " * 200_000
        server.answer(prompt, text)
        with within(PATIENCE_S):
            assert driver.call("complete", prompt=prompt)["text"] == text

    def test_empty_lists_and_maps_are_served(self, driver: Driver, server: World) -> None:
        server.answer("empty", "fine")
        assert driver.call("complete", prompt="empty", tags=[], extra={})["text"] == "fine"

    def test_vectors(self, driver: Driver, server: World) -> None:
        first = driver.call("embed", input=["one text", "another text"], dimensions=16)
        assert [len(vector) for vector in first["vectors"]] == [16, 16]
        assert all(isinstance(number, float) for vector in first["vectors"] for number in vector)
        again = driver.call("embed", input=["another text"], dimensions=16)
        assert again["vectors"][0] == pytest.approx(first["vectors"][1])
        assert again["vectors"][0] != pytest.approx(first["vectors"][0])

    # errors

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            ({}, "prompt"),
            ({"prompt": 7}, "prompt"),
            ({"prompt": "x", "temperature": "hot"}, "temperature"),
            ({"prompt": "x", "timeout_s": -1}, "timeout_s"),
            ({"prompt": "x", "temprature": 0}, "temprature"),
        ],
    )
    def test_a_wrong_argument_is_named(
        self, driver: Driver, server: World, arguments: dict[str, Any], names: str
    ) -> None:
        with pytest.raises(aiorch.InvalidRequest, match=f"^invalid_request: {names}: ") as caught:
            driver.call("complete", **arguments)
        assert caught.value.retryable is False
        assert driver.call("ping") == "pong"

    def test_an_unknown_method_is_refused(self, driver: Driver, server: World) -> None:
        with pytest.raises(aiorch.UnknownMethod):
            driver.call("compleet", prompt="x")

    def test_an_unknown_id_is_refused(self, driver: Driver, server: World) -> None:
        with pytest.raises(aiorch.NotFound):
            driver.call("explain", request_id="nobody's")

    # streaming

    def test_pieces_come_as_they_are_made(self, driver: Driver, server: World) -> None:
        server.answer("Count.", "one two three", pieces=["one", " two", " three"], pause_s=0.2)
        started = time.monotonic()
        stream = driver.stream(prompt="Count.")
        assert stream.next() == "one"
        first = time.monotonic() - started
        assert [stream.next(), stream.next(), stream.next()] == [" two", " three", None]
        assert time.monotonic() - started > first + 0.3, "the first piece waited for the last"
        assert stream.reply()["text"] == "one two three"

    def test_what_is_known_already_is_streamed_all_the_same(self, driver: Driver, server: World) -> None:
        words = [f"word{number} " for number in range(40)]
        server.answer("Say it twice.", "".join(words), pieces=words)
        replies, pieces = [], []
        for _ in range(2):
            stream = driver.stream(prompt="Say it twice.")
            pieces.append([piece for piece in iter(stream.next, None) if piece])
            replies.append(stream.reply())
        plain = driver.call("complete", prompt="Say it twice.")
        assert ["".join(some) for some in pieces] == ["".join(words)] * 2
        assert min(map(len, pieces)) > 3, "it came in one lump"
        for reply in (replies[1], plain):
            assert reply["cache"] in ("miss", "exact")
            for name in ("text", "tool_calls", "usage", "finish_reason"):
                assert reply[name] == replies[0][name]

    def test_a_stream_that_is_closed_is_cancelled(self, driver: Driver, server: World) -> None:
        server.answer("Never stop.", "a b c", pieces=["a", " b", " c"], pause_s=FOREVER_S)
        stream = driver.stream(prompt="Never stop.")
        assert stream.next() == "a"
        assert server.in_flight() == 1
        stream.close()
        eventually(lambda: server.in_flight() == 0, SOON_S)
        assert driver.call("ping") == "pong"

    def test_two_streams_do_not_mix(self, driver: Driver, server: World) -> None:
        for name in "ab":
            server.answer(f"Spell {name}.", name * 20, pieces=[name] * 20, pause_s=0.001)
        streams = [driver.stream(prompt=f"Spell {name}.") for name in "ab"]
        told = ["", ""]
        ended = [False, False]
        while not all(ended):  # in turns; where one piece ends and the next begins is nobody's promise
            for number, stream in enumerate(streams):
                if not ended[number]:
                    piece = stream.next()
                    ended[number] = piece is None
                    told[number] += piece or ""
        assert told == ["a" * 20, "b" * 20]

    def test_a_cut_stream_is_no_answer(self, driver: Driver, server: World) -> None:
        server.answer("Fall silent.", "half an answer", pieces=["half", " an answer"], pause_s=FOREVER_S)
        stream = driver.stream(prompt="Fall silent.")
        assert stream.next() == "half"
        server.restart()
        with pytest.raises(aiorch.IncompleteStream), within(PATIENCE_S):
            stream.next()

    # many at once

    def test_calls_in_flight_do_not_wait_for_each_other(self, driver: Driver, server: World) -> None:
        for number in range(50):
            server.answer(f"Take your time over {number}.", f"done {number}", delay_s=0.4)
        server.answer("Quickly!", "here")
        with within(10.0):  # one after the other would be 20
            calls = [driver.start(prompt=f"Take your time over {number}.") for number in range(50)]
            eventually(lambda: server.in_flight() == 50, PATIENCE_S)
            assert driver.call("complete", prompt="Quickly!")["text"] == "here"
            assert [call.result()["text"] for call in calls] == [f"done {number}" for number in range(50)]

    # losing interest

    def test_a_timeout_is_kept_by_the_daemon(self, driver: Driver, server: World) -> None:
        server.answer("Sleep.", "awake", delay_s=FOREVER_S)
        with pytest.raises(aiorch.DeadlineExceeded), within(0.3 + SOON_S):
            driver.call("complete", prompt="Sleep.", timeout_s=0.3)
        eventually(lambda: server.in_flight() == 0, SOON_S)

    def test_a_cancelled_call_is_cancelled_in_the_daemon(self, driver: Driver, server: World) -> None:
        server.answer("Dream.", "awake", delay_s=FOREVER_S)
        call = driver.start(prompt="Dream.")
        eventually(lambda: server.in_flight() == 1, PATIENCE_S)
        call.cancel()
        eventually(lambda: server.in_flight() == 0, SOON_S)
        assert driver.call("ping") == "pong"

    # the daemon comes and goes

    def test_a_restart_between_calls_goes_unnoticed(self, driver: Driver, server: World) -> None:
        for number in range(3):
            assert driver.call("ping") == "pong"
            server.restart()
            server.answer(f"After restart {number}?", "still here")
            assert driver.call("complete", prompt=f"After restart {number}?")["text"] == "still here"

    def test_a_restart_during_a_call_fails_it_at_once(self, driver: Driver, server: World) -> None:
        """Whether it was carried out is not known, and asking twice may cost twice."""
        server.answer("Are you sure?", "I was", delay_s=FOREVER_S)
        call = driver.start(prompt="Are you sure?")
        eventually(lambda: server.in_flight() == 1, PATIENCE_S)
        server.restart()
        with pytest.raises(aiorch.ConnectionLost), within(SOON_S):
            call.result()
        assert driver.call("ping") == "pong"

    def test_a_graceful_replacement_loses_nothing(self, driver: Driver, server: World) -> None:
        server.answer("Finish first.", "finished", delay_s=0.3)
        server.answer("Who are you?", "the successor")
        call = driver.start(prompt="Finish first.")
        eventually(lambda: server.in_flight() == 1, PATIENCE_S)
        server.replace()
        assert driver.call("complete", prompt="Who are you?")["text"] == "the successor"
        assert call.result()["text"] == "finished"


class LibraryConformance(WireConformance):
    """For the Python library, on whatever it waits with."""

    @pytest.fixture
    def connect_timeout_s(self) -> float:
        """How long the driver's client waits for a daemon to be there: so long that a busy machine can start one."""
        return PATIENCE_S

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            ({"prompt": "half a \ud83d pair"}, "prompt: holds a lone surrogate"),
            ({"messages": [{"role": "user", "content": "\udcff"}]}, r"messages\[0\]\.content: holds a lone surrogate"),
            ({"prompt": "x", "extra": {1: 2}}, "extra: a map key that is not a string"),
            ({"prompt": "x", "extra": {"at": object()}}, r"extra\.at: object cannot be sent"),
            ({"prompt": "x", "seed": 2**64}, "seed: an integer beyond 64 bits"),
        ],
    )
    def test_what_cannot_be_sent_is_named(
        self, driver: Driver, server: World, arguments: dict[str, Any], names: str
    ) -> None:
        with pytest.raises(aiorch.LocalProtocolError, match=f"^{names}"):
            driver.call("complete", **arguments)
        with pytest.raises(aiorch.LocalProtocolError, match=f"^{names}"):
            driver.stream(**arguments).next()
        assert driver.call("ping") == "pong"

    def test_a_request_over_the_limit_harms_nobody_else(self, driver: Driver, server: World) -> None:
        server.answer("Meanwhile.", "untouched", delay_s=0.2)
        call = driver.start(prompt="Meanwhile.")
        with pytest.raises(aiorch.TooLarge):
            driver.call("complete", prompt="x" * (17 << 20))
        assert call.result()["text"] == "untouched"

    def test_a_key_makes_a_lost_question_safe_to_repeat(self, driver: Driver, server: World) -> None:
        server.answer("Once only.", "never seen", delay_s=FOREVER_S)
        call = driver.start(prompt="Once only.", key="conformance-1")
        eventually(lambda: server.in_flight() == 1, PATIENCE_S)
        server.answer("Once only.", "paid once")
        server.restart()
        assert call.result()["text"] == "paid once"

    def test_retries_repeat_a_lost_question(self, driver: Driver, server: World) -> None:
        server.answer("Again and again.", "never seen", delay_s=FOREVER_S)
        call = driver.start(prompt="Again and again.", retries=1)
        eventually(lambda: server.in_flight() == 1, PATIENCE_S)
        server.answer("Again and again.", "second time")
        server.restart()
        assert call.result()["text"] == "second time"

    def test_an_option_that_does_not_exist_is_refused_here(self, driver: Driver, server: World) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
            driver.stream(prompt="x", temprature=0).next()

    def test_a_daemon_that_is_away_for_a_moment_is_waited_for(self, driver: Driver, server: World) -> None:
        assert driver.call("ping") == "pong"
        server.stop()
        call = driver.start(prompt="Anybody home?")
        server.answer("Anybody home?", "just back")
        pause(0.2)
        server.start()
        assert call.result()["text"] == "just back"

    @pytest.mark.parametrize("connect_timeout_s", [1.0])
    def test_no_daemon_is_said_with_what_to_do(self, driver: Driver, server: World) -> None:
        server.stop()
        with pytest.raises(aiorch.Unreachable, match="aiorchctl doctor") as caught, within(PATIENCE_S):
            driver.call("ping")
        assert [path for path, _ in caught.value.tried] == [server.socket]
        assert server.socket in str(caught.value)
        server.start()
        assert driver.call("ping") == "pong"

    # answering for models

    def test_a_function_that_comes_with_a_call_answers_it(self, driver: HostingDriver, server: World) -> None:
        def answer(model: str, request: Any) -> Any:
            assert request["messages"] == [{"role": "user", "content": "Who answers here?"}]
            assert request["deadline_s"] > 0
            return {"text": f"{model} does", "usage": {"input": 7, "output": 2}}

        reply = driver.start(prompt="Who answers here?", model="of-mine", model_call_func=answer).result()
        assert (reply["text"], reply["model"], reply["provider"]) == ("of-mine does", "of-mine", "host")
        assert (reply["usage"]["input"], reply["usage"]["output"]) == (7, 2)

    def test_a_stream_of_such_a_call_is_one_piece(self, driver: HostingDriver, server: World) -> None:
        stream = driver.stream(prompt="All at once.", model="of-mine", model_call_func=lambda *_: "the whole of it")
        assert [stream.next(), stream.next()] == ["the whole of it", None]
        assert stream.reply()["text"] == "the whole of it"

    @pytest.mark.parametrize("streams", [False, True])
    def test_what_a_function_raises_fails_the_call(self, driver: HostingDriver, server: World, streams: bool) -> None:
        def fail(model: str, request: Any) -> Any:
            raise KeyError("no such thing")

        with pytest.raises(aiorch.HostError, match="KeyError: 'no such thing'"):
            if streams:
                driver.stream(prompt="Fail.", model="of-mine", model_call_func=fail).next()
            else:
                driver.start(prompt="Fail.", model="of-mine", model_call_func=fail).result()
        assert driver.call("ping") == "pong"

    @pytest.mark.parametrize("said", [None, 5, {"text": ""}, {"text": object()}, {"text": "x" * (17 << 20)}, b"bytes"])
    def test_what_is_no_answer_fails_the_call(self, driver: HostingDriver, server: World, said: Any) -> None:
        with pytest.raises(aiorch.HostError):
            driver.start(prompt="Nonsense?", model="of-mine", model_call_func=lambda *_: said).result()
        assert driver.call("ping") == "pong"

    def test_errors_of_the_library_keep_their_kind(self, driver: HostingDriver, server: World) -> None:
        def refuse(model: str, request: Any) -> Any:
            raise aiorch.ContentFiltered("not this")

        with pytest.raises(aiorch.ContentFiltered, match="not this"):
            driver.start(prompt="Refuse.", model="of-mine", model_call_func=refuse).result()

    def test_a_registered_model_answers_until_it_is_unregistered(self, driver: HostingDriver, server: World) -> None:
        driver.register("registered", lambda model, request: f"by {model}: {request['messages'][0]['content']}")
        assert driver.call("complete", prompt="One.", model="registered")["text"] == "by registered: One."
        assert "registered" in [model["name"] for model in driver.call("models.list")]
        with pytest.raises(aiorch.InvalidRequest):
            driver.register("not a name", lambda *_: "x")
        driver.unregister("registered")
        assert "registered" not in [model["name"] for model in driver.call("models.list")]
        with pytest.raises(aiorch.NotFound):
            driver.unregister("registered")

    def test_functions_run_side_by_side(self, driver: HostingDriver, server: World) -> None:
        together = threading.Barrier(12)

        def meet(model: str, request: Any) -> Any:
            together.wait(PATIENCE_S)
            return "met"

        driver.register("meeting", meet, max_concurrency=12)
        calls = [driver.start(prompt=f"Meet, {number}.", model="meeting") for number in range(12)]
        assert driver.call("ping") == "pong"
        assert [call.result()["text"] for call in calls] == ["met"] * 12
        driver.unregister("meeting")

    def test_it_is_registered_anew_after_a_restart(self, driver: HostingDriver, server: World) -> None:
        driver.register("lasting", lambda *_: "still here")
        for number in range(2):
            server.restart()
            eventually(lambda: "lasting" in listed(driver), PATIENCE_S)
            assert driver.call("complete", prompt=f"After restart {number}?!", model="lasting")["text"] == "still here"
        driver.unregister("lasting")

    def test_it_moves_to_a_successor(self, driver: HostingDriver, server: World) -> None:
        driver.register("moving", lambda *_: "moved")
        assert driver.call("complete", prompt="Before.", model="moving")["text"] == "moved"
        server.replace()
        eventually(lambda: "moving" in listed(driver), PATIENCE_S)
        assert driver.call("complete", prompt="Afterwards.", model="moving")["text"] == "moved"
        driver.unregister("moving")

    def test_no_call_notices_that_its_model_moves(self, driver: HostingDriver, server: World) -> None:
        """From several threads, without a pause, while the daemon is replaced."""
        driver.register("moving", lambda model, request: request["messages"][-1]["content"])
        enough = threading.Event()
        wrong: list[str] = []
        answered: list[int] = [0, 0, 0]

        def ask(asker: int) -> None:
            while not enough.is_set():
                prompt = f"Asker {asker} at {time.monotonic()}."
                try:
                    said = driver.call("complete", prompt=prompt, model="moving", timeout_s=PATIENCE_S)["text"]
                except aiorch.AiorchError as error:
                    wrong.append(repr(error))
                    return
                if said != prompt:
                    wrong.append(said)
                answered[asker] += 1

        askers = [threading.Thread(target=ask, args=(asker,)) for asker in range(len(answered))]
        for asker in askers:
            asker.start()
        try:
            eventually(lambda: min(answered) > 2 or bool(wrong), PATIENCE_S)
            server.replace()
            before = tuple(answered)
            eventually(
                lambda: min(b - a for a, b in zip(before, answered, strict=True)) > 20 or bool(wrong), PATIENCE_S
            )
        finally:
            enough.set()
            for asker in askers:
                asker.join()
        assert not wrong
        driver.unregister("moving")

    @pytest.mark.parametrize("registered", [True, False])
    def test_what_was_asked_before_is_answered_where_it_was_asked(
        self, driver: HostingDriver, server: World, registered: bool
    ) -> None:
        """Also what had to wait for its turn, and comes to its model only when the daemon is about to go."""
        begun, may_go = threading.Event(), threading.Event()

        def wait(model: str, request: Any) -> Any:
            begun.set()
            may_go.wait(PATIENCE_S)
            return "finished"

        with_call: dict[str, Any] = {} if registered else {"model_call_func": wait}
        if registered:
            driver.register("narrow", wait, max_concurrency=1)
        calls = [driver.start(prompt=f"{registered} {number}.", model="narrow", **with_call) for number in range(3)]
        assert begun.wait(PATIENCE_S)
        eventually(lambda: server.in_flight() == 3, PATIENCE_S)
        server.replace()
        may_go.set()
        assert [call.result()["text"] for call in calls] == ["finished"] * 3
        if registered:
            assert driver.call("complete", prompt="Narrow still.", model="narrow")["text"] == "finished"
            driver.unregister("narrow")

    @pytest.mark.parametrize("registered", [False, True])
    def test_a_function_hears_when_nobody_waits_any_more(
        self, driver: HostingDriver, server: World, registered: bool
    ) -> None:
        function, begun, told = driver.waiting()
        with_call = {} if registered else {"model_call_func": function}
        if registered:
            driver.register("patient", function)
        with pytest.raises(aiorch.DeadlineExceeded), within(PATIENCE_S):
            driver.start(prompt=f"Wait, {registered}.", model="patient", timeout_s=0.3, **with_call).result()
        assert begun() == 1
        if registered:
            eventually(lambda: told() == 1, SOON_S)
            call = driver.start(prompt="Wait again.", model="patient")
            eventually(lambda: begun() == 2, PATIENCE_S)
            call.cancel()
            eventually(lambda: told() == 2, SOON_S)
            driver.unregister("patient")
        eventually(lambda: server.in_flight() == 0, SOON_S)
