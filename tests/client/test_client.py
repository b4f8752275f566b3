"""The blocking client: threads, signals, forks, timeouts, full sockets, descriptors, the end."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conformance import FOREVER_S, PATIENCE_S, SOON_S, eventually, within

import aiorch
from aiorch.protocol import Connection, Request
from aiorch.testing import Answer, Asked, Failure, FakeDaemon

SLOW = Answer(text="late", delay_s=FOREVER_S)


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[aiorch.Client]:
    with aiorch.Client(daemon.socket) as client:
        yield client


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def no_descriptor_leaks() -> Iterator[None]:
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    eventually(lambda: descriptors() == before, PATIENCE_S)  # the daemon is here too, and closes its ends in a moment


# one caller


def test_a_call_is_one_write_and_one_read(daemon: FakeDaemon, client: aiorch.Client, monkeypatch: Any) -> None:
    """What the figure for a cached answer hangs on."""
    client.ping()
    link = client._connections._homes[os.getpid()].link
    assert link is not None
    used: list[str] = []

    class Counting:
        def __init__(self, connection: socket.socket) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            used.append(name)
            return getattr(self._connection, name)

    monkeypatch.setattr(link, "connection", Counting(link.connection))
    client.complete("hi")
    assert used == ["send", "recv"]
    used.clear()
    client.complete("hi", timeout_s=30)
    assert used == ["send", "setsockopt", "recv"]
    used.clear()
    for timeout_s in (30, 30, 30, None, 60):
        client.complete("hi", timeout_s=timeout_s)
    assert used == ["send", "recv"] * 5


def test_the_first_call_carries_the_greeting(daemon: FakeDaemon, client: aiorch.Client) -> None:
    assert client.server is None
    assert client.ping() == "pong"
    assert client.server is not None
    assert client.server.pid == os.getpid()
    assert client.hello() == client.server


def test_every_method_has_its_place(daemon: FakeDaemon, client: aiorch.Client) -> None:
    reply = client.complete("hi", model="small", tags=["t"])
    assert (reply.text, reply.model) == ("hi", "small")
    assert client.explain(reply.id)["id"] == reply.id
    assert client.status()["state"] == "ready"
    assert client.stats(since_s=60, by="model", own=True) == {"calls": 1}
    assert client.models_list()[0]["name"] == "fake"
    assert client.cache_stats() == {"entries": 0}
    assert (client.cache_clear(), client.cache_forget(request_id=reply.id)) == (0, 0)
    assert client.config_get() == {}
    assert client.config_reload() == {"changed": False}
    assert client.call("ping") == "pong"
    assert [len(vector) for vector in client.embed(["a", "b"]).vectors] == [8, 8]
    assert [(asked.method, asked.arguments) for asked in daemon.requests[1:4]] == [
        ("explain", {"request_id": reply.id}),
        ("status", {}),
        ("stats", {"since": 60, "by": "model", "own": True}),
    ]


def test_the_clients_own_timeout_is_for_calls_that_name_none(daemon: FakeDaemon) -> None:
    daemon.answer("slow", SLOW)
    with aiorch.Client(daemon.socket, timeout_s=0.1) as client:
        with pytest.raises(aiorch.DeadlineExceeded), within(SOON_S):
            client.complete("slow")
        assert client.complete("quick", timeout_s=30.0).text == "quick"
    assert [asked.arguments["timeout_s"] for asked in daemon.requests] == [0.1, 30.0]


# giving up


def mute(asked: Asked) -> Any:
    """Be a daemon that hangs."""
    threading.Event().wait(0.3)
    return "pong"


def test_a_daemon_that_keeps_no_deadline_is_given_up() -> None:
    with FakeDaemon(methods={"ping": mute}) as daemon, aiorch.Client(daemon.socket, timeout_s=0.1) as client:
        with pytest.raises(aiorch.DeadlineExceeded, match=r"ping: no answer came within 0\.1 s") as caught:
            client.ping()
        assert caught.value.stage == "client"
        daemon.wait_until(lambda daemon: daemon.requests[-1].cancelled)
        assert daemon.connections_made == 1
        assert client.complete("still here").text == "still here"


def test_a_told_deadline_gets_a_moment_of_grace(daemon: FakeDaemon) -> None:
    """The daemon's own verdict is worth more; it comes first unless the daemon hangs."""
    daemon.answer("slow", SLOW)
    with aiorch.Client(daemon.socket) as client, pytest.raises(aiorch.DeadlineExceeded) as caught:
        client.complete("slow", timeout_s=0.1)
    assert caught.value.stage is None
    with hung_daemon(daemon.socket + "2") as path, aiorch.Client(path, grace_s=0.05) as client:
        with pytest.raises(aiorch.DeadlineExceeded) as caught:
            client.complete("slow", timeout_s=0.1)
        assert caught.value.stage == "client"


@contextmanager
def hung_daemon(path: str) -> Iterator[str]:
    """Accept and read nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(8)
        yield path


class Interrupted(BaseException):
    """What a signal handler may raise: Celery's soft time limits, pytest-timeout, KeyboardInterrupt."""


@contextmanager
def signal_after(seconds: float) -> Iterator[None]:
    def handler(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_call_is_cancelled_and_its_connection_lives(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("slow", SLOW)
    client.ping()
    with pytest.raises(Interrupted), signal_after(0.05):
        client.complete("slow")
    daemon.wait_until(lambda daemon: daemon.in_flight == 0)
    assert daemon.requests[-1].cancelled
    assert client.complete("next").text == "next"
    assert daemon.connections_made == 1


def test_an_interrupted_stream_is_cancelled(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("slow", Answer(text="a b", pieces=["a", " b"], pause_s=FOREVER_S))
    stream = client.stream("slow")
    assert next(stream) == "a"
    with pytest.raises(Interrupted), signal_after(0.05):
        next(stream)
    daemon.wait_until(lambda daemon: daemon.in_flight == 0)
    assert next(stream, None) is None


def test_an_interrupted_reader_hands_its_role_over(daemon: FakeDaemon, client: aiorch.Client) -> None:
    """The main thread reads for another; when a signal takes it away, the other must read for itself."""
    daemon.answer("slow", SLOW)
    daemon.answer("slower", Answer(text="there", delay_s=0.3))
    other = ThreadPoolExecutor(1)
    waiting: Any = None

    def start_other() -> None:
        nonlocal waiting
        daemon.wait_until(lambda daemon: daemon.in_flight == 1)
        waiting = other.submit(client.complete, "slower")

    starter = threading.Thread(target=start_other)
    starter.start()
    with pytest.raises(Interrupted), signal_after(0.15):
        client.complete("slow")
    starter.join()
    with within(PATIENCE_S):
        assert waiting.result(PATIENCE_S).text == "there"
    other.shutdown()
    assert daemon.connections_made == 1


def test_an_interruption_at_any_step_of_a_lone_call_leaves_the_client_as_it_was(daemon: FakeDaemon) -> None:
    """Python looks for signals when it calls a function and when a built-in one has returned: raise there, at one after another."""
    package = os.path.dirname(aiorch.__file__)
    with no_descriptor_leaks(), aiorch.Client(daemon.socket) as client:

        def interrupted_at(step: int) -> bool:
            steps = 0

            def look(frame: Any, event: str, _: object) -> None:
                nonlocal steps
                if event in ("call", "c_return") and frame.f_code.co_filename.startswith(package):
                    steps += 1
                    if steps == step:
                        sys.setprofile(None)
                        raise Interrupted

            sys.setprofile(look)
            try:
                assert client.complete(f"lone {step}").text == f"lone {step}"
            except Interrupted:
                return True
            finally:
                sys.setprofile(None)
            return False

        client.ping()
        step = 1
        with within(PATIENCE_S):
            while interrupted_at(step):
                assert client.complete(f"next {step}", timeout_s=SOON_S).text == f"next {step}"
                link = client._connections._homes[os.getpid()].link
                assert link is not None
                assert link.exchange.in_flight == 0
                assert client.complete("alone again").text == "alone again"
                assert (link._reader, link._parked, len(link._inbox)) == (None, {}, 0)
                step += 1
        assert step > 10
        assert daemon.connections_made < 4, "only what is interrupted in sending is given up"
        daemon.wait_until(lambda daemon: daemon.in_flight == 0)


# A signal between making a socket and anything else leaves it to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_interruptions_anywhere_leave_no_wrong_answer(daemon: FakeDaemon) -> None:
    """Signals every few hundred microseconds, wherever they fall: each answer is its question's, and nothing hangs."""
    with no_descriptor_leaks(), aiorch.Client(daemon.socket) as client:
        ended = threading.Event()
        wrong: list[str] = []

        def ask_on() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                try:
                    text = client.complete(f"other {number}", timeout_s=PATIENCE_S).text
                except aiorch.ConnectionLost:
                    continue  # a torn connection is given up, and whoever was on it is told
                if text != f"other {number}":
                    wrong.append(text)

        other = threading.Thread(target=ask_on)
        other.start()
        interrupted = answered = 0
        began = time.monotonic()

        def is_enough() -> bool:
            """A second, or on a busy machine as long as it takes for enough of both."""
            took_s = time.monotonic() - began
            return took_s > 1.0 and (min(interrupted, answered) > 100 or took_s > PATIENCE_S)

        try:
            while not is_enough():
                try:
                    with signal_after(0.0001 + 0.00001 * (interrupted % 400)):
                        for number in range(1000):
                            assert client.complete(f"main {number}", timeout_s=PATIENCE_S).text == f"main {number}"
                            answered += 1
                except Interrupted:
                    interrupted += 1
                except aiorch.ConnectionLost:
                    pass
        finally:
            ended.set()
            other.join(PATIENCE_S)
        assert not other.is_alive()
        assert not wrong
        assert interrupted > 100
        assert answered > 100
        assert client.complete("after all").text == "after all"


# streams


def test_a_stream_gives_text_and_then_the_reply(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("st", Answer(text="a b c", cost_usd=0.5))
    stream = client.stream("st", model="small")
    with pytest.raises(RuntimeError, match="has not come to its end"):
        _ = stream.reply
    assert list(stream) == ["a", " b", " c"]
    assert (stream.reply.text, stream.reply.cost_usd, stream.reply.model) == ("a b c", 0.5, "small")
    assert list(stream) == []
    assert daemon.requests[0].arguments["stream"] is True


def test_nothing_is_asked_until_the_first_piece_is(daemon: FakeDaemon, client: aiorch.Client) -> None:
    stream = client.stream("st")
    del stream
    client.ping()
    assert daemon.prompts == []


def test_events_carry_parts_of_tool_calls(play: Play) -> None:
    with ThreadPoolExecutor(1) as pool, aiorch.Client(play.path) as client:
        stream = client.stream("use a tool")
        events = pool.submit(list, stream.events())
        asked = play.asked("complete")
        part = {"index": 0, "function": {"arguments": "{"}}
        for index, content in enumerate(({"text": "so"}, {"tool_calls": [part]}, {"text": ""})):
            play.notify("delta", {"call_id": asked.params[0]["call_id"], "index": index, **content})
        play.answer(asked, {"text": "so", "tool_calls": [part]})
        assert events.result(PATIENCE_S) == [aiorch.Delta(0, "so"), aiorch.Delta(1, "", (part,)), aiorch.Delta(2)]
        assert stream.reply.tool_calls == (part,)


def test_an_answer_known_already_is_one_piece(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("known", Answer(text="all at once", pieces=[]))
    assert list(client.stream("known")) == ["all at once"]


def test_a_stream_that_is_dropped_is_cancelled(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("long", Answer(text="a b", pieces=["a", " b"], pause_s=FOREVER_S))
    for piece in client.stream("long"):
        assert piece == "a"
        break
    daemon.wait_until(lambda daemon: daemon.in_flight == 0)
    with client.stream("long") as stream:
        assert next(stream) == "a"
        assert daemon.in_flight == 1
    daemon.wait_until(lambda daemon: daemon.in_flight == 0)
    assert next(stream, None) is None
    assert daemon.connections_made == 1


def test_a_stream_keeps_its_client_alive(daemon: FakeDaemon) -> None:
    assert list(aiorch.Client(daemon.socket).stream("one two")) == ["one", " two"]


def test_errors_in_a_stream(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("at once", aiorch.RateLimited("slow down", retry_after_s=1.5))
    with pytest.raises(aiorch.RateLimited) as caught:
        next(client.stream("at once"))
    assert caught.value.retry_after_s == 1.5
    broken = aiorch.IncompleteStream("the provider broke off")
    daemon.answer("later", Failure(error=broken, pieces=["half", " an"]))
    stream = client.stream("later")
    assert [next(stream), next(stream)] == ["half", " an"]
    with pytest.raises(aiorch.IncompleteStream, match="the provider broke off"):
        next(stream)
    assert next(stream, None) is None
    daemon.answer("cut", Answer(text="a b c", cut_after=2))
    pieces = []
    with pytest.raises(aiorch.IncompleteStream, match="after 2 pieces"):
        pieces.extend(client.stream("cut", retries=5, key="k"))
    assert daemon.prompts.count("cut") == 1


def test_a_stream_of_which_nothing_was_seen_may_be_repeated(daemon: FakeDaemon, client: aiorch.Client) -> None:
    answers = iter([Answer(text="never", cut_after=0), Answer(text="got it")])
    daemon.answer("again", lambda asked: next(answers))
    assert list(client.stream("again", retries=1)) == ["got", " it"]
    daemon.answer("once", Answer(text="never", cut_after=0))
    with pytest.raises(aiorch.ConnectionLost):
        next(client.stream("once"))


def test_a_stream_has_one_deadline(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("dripping", Answer(text="a b c", pause_s=0.2))
    stream = client.stream("dripping", timeout_s=0.3)
    with pytest.raises(aiorch.DeadlineExceeded), within(SOON_S):
        list(stream)
    assert daemon.in_flight == 0


# many callers


def test_threads_share_one_connection_and_get_their_own_answers(daemon: FakeDaemon, client: aiorch.Client) -> None:
    def ask(thread: int) -> None:
        for number in range(100):
            prompt = f"{thread}:{number} " + "x" * (number * 37 % 3000)
            if number % 10 == 3:
                assert "".join(client.stream(prompt)) == prompt
            elif number % 10 == 7:
                with client.stream(prompt) as stream:
                    assert prompt.startswith(next(stream))
            else:
                assert client.complete(prompt, timeout_s=PATIENCE_S).text == prompt

    client.ping()
    with no_descriptor_leaks(), ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(ask, thread) for thread in range(16)]:
            done.result(60)
    assert daemon.connections_made == 1
    daemon.wait_until(lambda daemon: daemon.in_flight == 0)


def test_threads_survive_restarts(daemon: FakeDaemon, client: aiorch.Client) -> None:
    """Every answer is right or says that it was lost; with a key none is lost."""
    client.ping()
    ended = threading.Event()

    def ask(thread: int) -> tuple[int, int]:
        answered = lost = 0
        while not ended.is_set():
            prompt = f"{thread}:{answered + lost}"
            key = prompt if thread % 2 else None
            try:
                assert client.complete(prompt, key=key).text == prompt
                answered += 1
            except aiorch.ConnectionLost:
                assert key is None
                lost += 1
        return answered, lost

    with no_descriptor_leaks(), ThreadPoolExecutor(16) as pool:
        asking = [pool.submit(ask, thread) for thread in range(16)]
        for restart in range(10):
            sofar = len(daemon.requests)
            daemon.wait_until(lambda daemon, sofar=sofar: len(daemon.requests) >= sofar + 50)  # type: ignore[misc]
            (daemon.restart, daemon.cut, daemon.go_away)[restart % 3]()
        ended.set()
        counts = [call.result(PATIENCE_S) for call in asking]
    assert all(answered for answered, _ in counts)
    assert daemon.connections_made <= 11


def test_graceful_replacements_lose_nothing(daemon: FakeDaemon, client: aiorch.Client) -> None:
    ended = threading.Event()

    def ask(thread: int) -> int:
        answered = 0
        while not ended.is_set():
            assert client.complete(f"{thread}:{answered}").text == f"{thread}:{answered}"
            answered += 1
        return answered

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, thread) for thread in range(8)]
        for _ in range(10):
            sofar = len(daemon.requests)
            daemon.wait_until(lambda daemon, sofar=sofar: len(daemon.requests) >= sofar + 30)  # type: ignore[misc]
            daemon.go_away()
        ended.set()
        assert all(call.result(PATIENCE_S) for call in asking)
    daemon.wait_until(lambda daemon: daemon.connections <= 1)


def test_a_reader_whose_answer_came_lets_another_read(daemon: FakeDaemon, client: aiorch.Client) -> None:
    for number in range(10):
        daemon.answer(f"wait {number}", Answer(text=f"waited {number}", delay_s=0.02 * (10 - number)))
    with ThreadPoolExecutor(10) as pool, within(PATIENCE_S):
        texts = list(pool.map(lambda number: client.complete(f"wait {number}").text, range(10)))
    assert texts == [f"waited {number}" for number in range(10)]


def test_timeouts_of_some_do_not_disturb_others(daemon: FakeDaemon) -> None:
    """Readers give up at different times, each handing the reading on."""
    daemon.answer("patient", Answer(text="worth it", delay_s=0.5))
    with FakeDaemon(methods={"hang": mute}) as hung, aiorch.Client(hung.socket) as client:
        hung.answer("patient", Answer(text="worth it", delay_s=0.5))

        def give_up(number: int) -> bool:
            question = client.call
            with suppress(aiorch.DeadlineExceeded):
                question("hang", timeout_s=0.01 * (number + 1))
                return False
            return True

        with ThreadPoolExecutor(12) as pool:
            patient = pool.submit(client.complete, "patient")
            gave_up = [pool.submit(give_up, number) for number in range(10)]
            assert patient.result(PATIENCE_S).text == "worth it"
            assert all(call.result(PATIENCE_S) for call in gave_up)


def test_a_call_is_cancelled_by_its_name_from_another_thread(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("slow", SLOW)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.complete, "slow", call_id="mine")
        daemon.wait_until(lambda daemon: daemon.in_flight == 1)
        client.cancel("somebody else's")
        client.cancel("mine")
        with pytest.raises(aiorch.Cancelled):
            call.result(PATIENCE_S)


# a daemon played by hand


class Play:
    """One connection of a daemon that the test plays byte by byte."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self.listening = listening
        self.path = path
        self.connection: socket.socket | None = None
        self.wire = Connection()
        self.came: list[Any] = []
        self.rude = False
        """Whether greetings go unanswered."""

    def accept(self) -> socket.socket:
        if self.connection is not None:
            self.connection.close()
        self.connection, _ = self.listening.accept()
        self.connection.settimeout(PATIENCE_S)
        self.wire = Connection()
        self.came = []
        return self.connection

    def asked(self, method: str) -> Request:
        """Read up to the next request of that method."""
        if self.connection is None:
            self.accept()
        assert self.connection is not None
        while True:
            while self.came:
                event = self.came.pop(0)
                if isinstance(event, Request) and event.method == method:
                    return event
            data = self.connection.recv(65536)
            assert data, "the client hung up"
            for event in self.wire.receive_data(data):
                self.came.append(event)
                if isinstance(event, Request) and event.method == "hello" and not self.rude:
                    self.answer(event, {})

    def answer(self, request: Request, result: Any) -> None:
        self.send(Connection.pack_result(request.msgid, result))

    def notify(self, method: str, arguments: Any) -> None:
        self.send(Connection.pack_notification(method, arguments))

    def send(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(data)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


@contextmanager
def scripted_daemon(path: str, backlog: int = 8) -> Iterator[Play]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(backlog)
        listening.settimeout(PATIENCE_S)
        play = Play(listening, path)
        try:
            yield play
        finally:
            play.close()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    with scripted_daemon(str(tmp_path / "s")) as play:
        yield play


@contextmanager
def asking(play: Play, **options: Any) -> Iterator[tuple[aiorch.Client, Callable[..., Any]]]:
    """A client of the played daemon, and a way to begin calls of it."""
    with ThreadPoolExecutor(8) as pool, aiorch.Client(play.path, **options) as client:
        yield client, lambda *prompt, **arguments: pool.submit(client.complete, *prompt, **arguments)


def test_a_question_that_was_cut_half_sent_is_sent_again(play: Play) -> None:
    """It never left in full, so it cannot have been carried out."""
    with asking(play) as (_, start):
        call = start("x" * 2_000_000)  # more than a socket holds
        play.accept().recv(100_000)
        play.accept()  # which closes the first
        request = play.asked("complete")
        assert len(request.params[0]["prompt"]) == 2_000_000
        play.answer(request, {"text": "got it"})
        assert call.result(PATIENCE_S).text == "got it"


def test_a_question_that_was_sent_is_not_sent_again(play: Play) -> None:
    with asking(play) as (_, start):
        call = start("hi")
        play.asked("complete")
        play.close()
        with pytest.raises(aiorch.ConnectionLost, match="not known"):
            call.result(PATIENCE_S)
        play.connection = None
        again = start("hi", retries=1)
        for _ in range(2):
            request = play.asked("complete")
            first_connection = play.connection
            if not again.done() and first_connection is not None and _ == 0:
                play.accept()
        play.answer(request, {"text": "the second time"})
        assert again.result(PATIENCE_S).text == "the second time"


def test_a_listener_that_dies_with_its_daemon_costs_no_retry(play: Play) -> None:
    """A killed daemon's queue takes connections for a moment that nobody will ever read."""
    with asking(play) as (_, start):
        call = start("hi", retries=1)
        play.asked("complete")
        for _ in range(4):
            play.accept().close()  # which takes the greeting unread, or half read, with it
        play.connection = None
        request = play.asked("complete")  # greeted first: a question is not risked on such a connection
        play.answer(request, {"text": "carried out once"})
        assert call.result(PATIENCE_S).text == "carried out once"


def test_a_refused_question_goes_to_the_successor_with_what_is_left_of_its_time(play: Play) -> None:
    with asking(play) as (client, start):
        call = start("hi", timeout_s=30.0)
        request = play.asked("complete")
        assert request.params[0]["timeout_s"] == 30.0
        play.send(Connection.pack_error(request.msgid, [0, "going_away: stopping"]))
        old = play.connection
        play.connection = None
        request = play.asked("complete")
        assert 25 < request.params[0]["timeout_s"] < 30
        play.answer(request, {"text": "the successor"})
        assert call.result(PATIENCE_S).text == "the successor"
        assert client.complete.__self__ is client
        assert old is not None
        assert old.recv(10) == b""  # nothing was left to wait for
        old.close()


def test_a_request_of_the_daemon_is_refused(play: Play) -> None:
    with asking(play) as (_, start):
        call = start("hi")
        request = play.asked("complete")
        play.send(Connection().pack_request("host.tool", {"name": "t"})[1])
        assert play.connection is not None
        (response,) = play.wire.receive_data(play.connection.recv(65536))
        assert response.error["code"] == "unknown_method"  # type: ignore[union-attr]
        play.answer(request, {"text": "and on"})
        assert call.result(PATIENCE_S).text == "and on"


def test_last_words_are_passed_on(play: Play) -> None:
    with asking(play) as (_, start):
        call = start("hi", key="k")
        play.asked("complete")
        play.notify("error", {"code": "overloaded", "message": "too many connections", "retry_after_s": 1.0})
        play.close()
        with pytest.raises(aiorch.Overloaded, match="too many connections") as caught:
            call.result(PATIENCE_S)
        assert caught.value.retry_after_s == 1.0


def test_a_daemon_that_talks_nonsense_is_left(play: Play) -> None:
    with asking(play) as (_, start):
        call = start("hi")
        play.asked("complete")
        play.send(b"HTTP/1.1 400 Bad Request")
        with pytest.raises(aiorch.ConnectionLost, match="broke the protocol"):
            call.result(PATIENCE_S)
        assert play.connection is not None
        assert play.connection.recv(65536) == b""


def test_one_who_writes_much_reads_meanwhile(play: Play) -> None:
    """A daemon that waits for its answers to be read, and a caller that waits for its question to be taken."""
    with asking(play) as (client, start), ThreadPoolExecutor(1) as pool:
        stream = client.stream("first")
        first = pool.submit(next, stream)
        request = play.asked("complete")
        call_id = request.params[0]["call_id"]
        play.notify("delta", {"call_id": call_id, "index": 0, "text": "x"})
        assert first.result(PATIENCE_S) == "x"
        call = start("y" * 3_000_000)
        assert play.connection is not None
        play.came += play.wire.receive_data(play.connection.recv(1000))  # it has begun to write, and nobody else reads
        for index in range(1, 400):
            play.notify("delta", {"call_id": call_id, "index": index, "text": "x" * 10_000})
        play.answer(request, {"text": "all"})
        request = play.asked("complete")
        assert len(request.params[0]["prompt"]) == 3_000_000
        play.answer(request, {"text": "taken"})
        assert call.result(PATIENCE_S).text == "taken"
        assert sum(len(piece) for piece in stream) == 3_990_000


def test_a_daemon_that_takes_nothing_is_given_up(play: Play) -> None:
    with asking(play, grace_s=0.0) as (client, start):
        call = start("x" * 2_000_000, timeout_s=0.2)
        begun = play.accept().recv(1000)
        play.came += play.wire.receive_data(begun)
        with pytest.raises(aiorch.DeadlineExceeded):
            call.result(PATIENCE_S)
        # What has begun to leave must leave in full; what has not is not sent any more.
        with pytest.raises(aiorch.DeadlineExceeded):
            client.complete("second", timeout_s=0.1)
        call = start("third", timeout_s=PATIENCE_S)
        requests = [play.asked("complete").params[0]["prompt"][:6] for _ in range(2)]
        assert requests == ["xxxxxx", "third"]
        call.cancel()
        play.close()


# full sockets


def test_a_full_queue_is_waited_for_and_then_told(tmp_path: Path) -> None:
    """`connect` fails with EAGAIN there, and event loops hand out sockets that are not connected."""
    with scripted_daemon(str(tmp_path / "s"), backlog=0) as play:
        fillers = fill(play.path)
        with aiorch.Client(play.path, connect_timeout_s=0.1) as client:
            with pytest.raises(aiorch.Unreachable, match="its queue of waiting connections is full"):
                client.ping()
        with asking(play, connect_timeout_s=PATIENCE_S) as (_, start):
            call = start("patient")
            threading.Event().wait(0.05)
            for filler in fillers:
                filler.close()
            for _ in fillers:
                play.accept()
            play.accept()
            request = play.asked("complete")
            play.answer(request, {"text": "at last"})
            assert call.result(PATIENCE_S).text == "at last"


def fill(path: str) -> list[socket.socket]:
    """Fill the queue of a listener that does not accept."""
    fillers = []
    while True:
        filler = socket.socket(socket.AF_UNIX)
        filler.setblocking(False)
        try:
            filler.connect(path)
        except BlockingIOError:
            filler.close()
            return fillers
        fillers.append(filler)


# processes


def in_child(act: Callable[[], None]) -> int:
    """Run something in a forked child; gives its exit code: 0 when it went well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_makes_its_own_connection(daemon: FakeDaemon, client: aiorch.Client) -> None:
    def use() -> None:
        before = descriptors()
        assert client.server is None
        assert client.complete("child").text == "child"
        assert "".join(client.stream("child streams")) == "child streams"
        assert client.server is not None
        assert client.server.pid == os.getpid()
        assert descriptors() == before  # the copy of the parent's is closed

    client.ping()
    assert in_child(use) == 0
    assert client.complete("parent").text == "parent"
    assert daemon.connections_made == 2
    assert [asked.connection for asked in daemon.requests] == [1, 2, 2, 1]


def test_a_fork_amid_calls_harms_neither(daemon: FakeDaemon, client: aiorch.Client) -> None:
    """Threads of the parent hold every lock there is; the child has none of the threads."""
    ended = threading.Event()

    def ask(thread: int) -> int:
        answered = 0
        while not ended.is_set():
            assert client.complete(f"{thread}:{answered}").text == f"{thread}:{answered}"
            answered += 1
        return answered

    def use() -> None:
        with ThreadPoolExecutor(4) as pool:  # which race for the child's first connection
            assert list(pool.map(lambda number: client.complete(str(number)).text, range(20))) == [
                str(number) for number in range(20)
            ]

    client.ping()
    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, thread) for thread in range(6)]
        children = [in_child(use) for _ in range(10)]
        ended.set()
        assert all(call.result(PATIENCE_S) for call in asking)
    assert children == [0] * 10
    assert daemon.connections_made == 11


def test_a_stream_does_not_cross_a_fork(daemon: FakeDaemon, client: aiorch.Client) -> None:
    stream = client.stream("a b c")
    assert next(stream) == "a"

    def use() -> None:
        with pytest.raises(aiorch.ConnectionLost, match="belongs to the process that began it"):
            while True:
                next(stream)
        stream.close()

    assert in_child(use) == 0
    assert list(stream) == [" b", " c"]


def test_a_parent_that_closes_is_gone_though_a_child_lives(daemon: FakeDaemon, client: aiorch.Client) -> None:
    """A child that does not use the client keeps a copy of its socket; the daemon must notice the parent's end."""
    client.ping()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reading, 1)
        os._exit(0)
    client.close()
    daemon.wait_until(lambda daemon: daemon.connections == 0)
    os.write(writing, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(reading)
    os.close(writing)


# the end


def test_a_closed_client_says_so(daemon: FakeDaemon) -> None:
    client = aiorch.Client(daemon.socket)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="this client was closed"):
        client.ping()
    with client:
        pass


def test_closing_wakes_whoever_waits(daemon: FakeDaemon) -> None:
    daemon.answer("slow", SLOW)
    client = aiorch.Client(daemon.socket)
    with no_descriptor_leaks(), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(client.complete, "slow", key=str(number)) for number in range(3)]
        daemon.wait_until(lambda daemon: daemon.in_flight == 3)
        client.close()
        for call in calls:
            with pytest.raises((aiorch.ConnectionLost, RuntimeError), match="this client was closed"):
                call.result(PATIENCE_S)
        daemon.wait_until(lambda daemon: daemon.connections == 0)


def test_a_forgotten_client_closes_itself(daemon: FakeDaemon) -> None:
    """Without a ResourceWarning, which would fail this test."""
    client = aiorch.Client(daemon.socket)
    client.ping()
    del client
    gc.collect()
    daemon.wait_until(lambda daemon: daemon.connections == 0)


def test_hundreds_of_clients_leave_nothing(daemon: FakeDaemon) -> None:
    with no_descriptor_leaks():
        for number in range(200):
            with aiorch.Client(daemon.socket) as client:
                client.ping()
                if number % 3 == 0:
                    next(client.stream("left alone"))
        daemon.wait_until(lambda daemon: daemon.connections == 0)


def test_old_connections_are_closed_when_their_last_call_is_answered(daemon: FakeDaemon, client: aiorch.Client) -> None:
    daemon.answer("slow", Answer(text="late", delay_s=0.2))
    client.ping()
    with no_descriptor_leaks(), ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.complete, "slow")
        daemon.wait_until(lambda daemon: daemon.in_flight == 1)
        daemon.go_away()
        client.ping()
        assert daemon.connections == 2
        assert call.result(PATIENCE_S).text == "late"
        daemon.wait_until(lambda daemon: daemon.connections == 1)


def test_a_default_timeout_of_sockets_is_no_concern(daemon: FakeDaemon) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        daemon.answer("slow", Answer(text="late", delay_s=0.2))
        with aiorch.Client(daemon.socket) as client:
            assert client.complete("slow").text == "late"
    finally:
        socket.setdefaulttimeout(before)
