"""Functions of this process that answer for models: what they give, where they run, and what is left when they are done."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import drivers
import pytest

import aiorch
from aiorch.callbacks import Callback
from aiorch.errors import HostError, RateLimited
from aiorch.exchange import Answering, Exchange
from aiorch.hosting import answer_of, refusal_of
from aiorch.protocol import Connection, Response
from aiorch.questions import Question, complete, plain
from aiorch.testing import Asked, FakeDaemon


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def host_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aiorch-host")]


# --- what a function gives


class Dumped:
    def model_dump(self) -> dict[str, Any]:
        return {
            "choices": [{"message": {"content": "hi", "tool_calls": None}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        }


USAGE = {"input": 6, "cache_read": 4, "output": 5, "reasoning": 2}


@pytest.mark.parametrize(
    ("said", "wire"),
    [
        ("text", {"text": "text"}),
        ({"text": "a", "usage": {"input": 1}}, {"text": "a", "usage": {"input": 1}}),
        ({"data": [1]}, {"data": [1]}),
        (Dumped(), {"text": "hi", "finish_reason": "stop", "usage": USAGE}),
        (Dumped().model_dump(), {"text": "hi", "finish_reason": "stop", "usage": USAGE}),
        (
            {"choices": [{"message": {"content": None, "tool_calls": [{"id": "c"}]}}]},
            {"text": "", "tool_calls": [{"id": "c"}]},
        ),
        (
            aiorch.Reply({"text": "r", "finish_reason": "length", "usage": {"input": 3, "estimated": True}}),
            {
                "text": "r",
                "finish_reason": "length",
                "tool_calls": [],
                "usage": {
                    "input": 3,
                    "cache_read": 0,
                    "cache_write": 0,
                    "output": 0,
                    "reasoning": 0,
                    "estimated": True,
                },
            },
        ),
        (SimpleNamespace(text="s", data={"a": 1}), {"text": "s", "data": {"a": 1}}),
    ],
)
def test_what_counts_as_an_answer(said: Any, wire: dict[str, Any]) -> None:
    assert answer_of(said) == wire


@pytest.mark.parametrize("said", [None, 5, b"bytes", SimpleNamespace(answer="x"), ["x"]])
def test_what_does_not(said: Any) -> None:
    with pytest.raises(HostError, match="the function gave"):
        answer_of(said)


def test_an_exception_is_told_by_type_and_message_only() -> None:
    assert str(refusal_of(ValueError("bad " * 1000))) == f"host_error: ValueError: {'bad ' * 1000}"[: 12 + 500]
    assert refusal_of(ValueError()).message == "ValueError"
    assert refusal_of(ValueError("\ud800")).message == "ValueError: ?"
    limited = RateLimited("slow", retry_after_s=3.0)
    assert refusal_of(limited) is limited


# --- the exchange


def answered(exchange: Exchange) -> list[Any]:
    wire = Connection()
    data = b"".join(bytes(part) for part in exchange.unsent())
    exchange.wrote(len(data))
    return [event for event in wire.receive_data(data) if isinstance(event, Response)]


def asked_back(exchange: Exchange, number: int, **fields: Any) -> list[Any]:
    _, data = Connection().pack_request("host.complete", {"model": "m", "name": "m", "messages": [], **fields})
    assert data[2] == 1
    return list(exchange.receive(b"\x94\x00" + bytes((number,)) + data[3:]))


def test_a_question_finds_the_call_it_is_for() -> None:
    exchange = Exchange()
    pending = exchange.ask(plain("complete", {"prompt": "q", "host": True}, None))
    assert isinstance(pending, Answering)
    assert asked_back(exchange, 7, msgid=pending.msgid) == [pending]
    assert pending.moved
    callback = pending.callbacks.popleft()
    assert not pending.moved
    assert (callback.model, dict(callback.request)) == ("m", {"messages": []})
    exchange.wrote(len(b"".join(bytes(part) for part in exchange.unsent())))
    assert exchange.in_flight == 2
    sent = exchange.answer(callback, {"text": "x"}, None)
    assert [(one.msgid, one.result) for one in answered(exchange)] == [(7, {"text": "x"})]
    assert sent is not None
    assert sent.sent
    assert exchange.in_flight == 1
    assert exchange.answer(callback, {"text": "again"}, None) is None


def test_one_that_nobody_answers_for_is_refused() -> None:
    exchange = Exchange()
    plain_call = exchange.ask(plain("ping", {}, None))
    asked_back(exchange, 7)  # nothing is registered
    asked_back(exchange, 8, msgid=plain_call.msgid)  # that call brought no function
    asked_back(exchange, 9, msgid=99)  # no such call
    codes = [(one.msgid, one.error["code"]) for one in answered(exchange)]
    assert codes == [(7, "host_error"), (8, "host_error"), (9, "host_error")]


def test_cancelled_and_lost_ones_are_called_off() -> None:
    exchange = Exchange()
    serving = exchange.serve()
    assert asked_back(exchange, 7) == [serving]
    asked_back(exchange, 8)
    first, second = serving.callbacks
    told: list[Callback] = []
    for callback in (first, second):
        callback.on_called_off = lambda callback=callback: told.append(callback)  # type: ignore[misc]
    exchange.receive(Connection.pack_notification("cancel", {"msgid": 7}))
    assert told == [first]
    assert first.request.called_off
    exchange.receive(Connection.pack_notification("cancel", {"msgid": 99}))
    exchange.receive(Connection.pack_notification("cancel", {"msgid": "7"}))
    assert serving in exchange.lost("gone")
    assert told == [first, second]
    assert serving.answered
    assert exchange.answer(second, {"text": "x"}, None) is None


def test_one_that_is_serving_hears_of_a_goodbye_once() -> None:
    exchange = Exchange()
    serving = exchange.serve()
    goodbye = Connection.pack_notification("going_away", {"deadline_s": 1.0})
    assert exchange.receive(goodbye) == [serving]
    assert serving.leaving
    assert exchange.receive(goodbye) == []


@pytest.mark.parametrize("answer", [{"text": "x" * (17 << 20)}, {"text": {1: 2}}, {"text": "\ud800"}])
def test_an_answer_that_cannot_be_sent_is_an_error(answer: Any) -> None:
    exchange = Exchange()
    serving = exchange.serve()
    asked_back(exchange, 7)
    exchange.answer(serving.callbacks.popleft(), answer, None)
    [refused] = answered(exchange)
    assert refused.error["code"] == "host_error"
    assert "the answer of the function" in refused.error["message"]


def test_questions_with_a_function_say_so() -> None:
    question: Question[Any] = complete("complete", "q", {"model_call_func": len}, None)
    assert question.arguments == {"prompt": "q", "host": True}


# --- the blocking client


def test_there_are_no_threads_until_something_is_registered(daemon: FakeDaemon) -> None:
    with aiorch.Client(daemon.socket) as client:
        client.complete("hi", model="m", model_call_func=lambda *_: "ho")
        assert host_threads() == []
        client.register_model("mine", call=lambda *_: "x")
        assert host_threads() == ["aiorch-host"]
        assert daemon.connections == 2
    eventually(lambda: host_threads() == [])
    eventually(lambda: daemon.connections == 0)


def test_a_function_that_comes_with_a_call_runs_in_its_thread_and_may_ask_itself(daemon: FakeDaemon) -> None:
    threads = []

    def answer(model: str, request: Any) -> str:
        threads.append(threading.get_ident())
        return client.complete("inner").text + "!"

    with aiorch.Client(daemon.socket) as client:
        assert client.complete("outer", model="m", model_call_func=answer).text == "inner!"
        assert threads == [threading.get_ident()]
        assert daemon.connections_made == 1


def test_the_cause_of_a_failure_is_at_hand_where_it_happened(daemon: FakeDaemon) -> None:
    with aiorch.Client(daemon.socket) as client, pytest.raises(HostError) as caught:
        client.complete("hi", model="m", model_call_func=lambda *_: 1 / 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_a_registered_function_raises_is_logged_here(daemon: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with aiorch.Client(daemon.socket) as client, caplog.at_level(logging.WARNING, "aiorch"):
        client.register_model("mine", call=lambda *_: 1 / 0)
        with pytest.raises(HostError, match="ZeroDivisionError: division by zero") as caught:
            client.complete("hi", model="mine")
    assert "Traceback" not in str(caught.value)
    assert caplog.records[0].exc_info is not None


def test_an_async_function_needs_an_async_client(daemon: FakeDaemon) -> None:
    async def answer(model: str, request: Any) -> str:
        return "never"

    with aiorch.Client(daemon.socket) as client, pytest.raises(HostError, match="only an AsyncClient can run it"):
        client.complete("hi", model="m", model_call_func=answer)


def test_a_function_must_be_one(daemon: FakeDaemon) -> None:
    call: Any = "not a function"
    with aiorch.Client(daemon.socket) as client:
        with pytest.raises(TypeError, match="call must be a function, got str"):
            client.register_model("mine", call=call)
        with pytest.raises(TypeError, match="unexpected keyword argument 'price'"):
            client.register_model("mine", call=len, price=1.0)  # type: ignore[call-arg]
        with pytest.raises(aiorch.InvalidRequest, match="^invalid_request: name: give the name"):
            client.register_model([], call=len)


def test_a_refused_registration_leaves_what_was_there(daemon: FakeDaemon) -> None:
    with aiorch.Client(daemon.socket) as client:
        client.register_model("mine", call=lambda *_: "first")
        with pytest.raises(aiorch.InvalidRequest):
            client.register_model(["mine", "fake"], call=lambda *_: "second")
        assert client.complete("hi", model="mine").text == "first"


def test_many_calls_at_once_run_in_as_many_threads_and_these_are_used_again(daemon: FakeDaemon) -> None:
    together = threading.Barrier(20)

    def meet(model: str, request: Any) -> str:
        together.wait(10)
        return "met"

    with aiorch.Client(daemon.socket) as client:
        client.register_model("mine", call=meet)
        said: list[str] = []
        for _ in range(3):
            callers = [
                threading.Thread(target=lambda: said.append(client.complete("q", model="mine").text)) for _ in range(20)
            ]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        assert said == ["met"] * 60
        assert host_threads().count("aiorch-host-function") <= 40


def test_a_forked_child_holds_nothing_of_it(daemon: FakeDaemon) -> None:
    with aiorch.Client(daemon.socket) as client:
        client.register_model("mine", call=lambda *_: "by the parent")
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, client.complete("from the child", model="mine").text.encode())
                client.register_model("childs", call=lambda *_: "by the child")
                os.write(writer, b"|" + client.complete("again", model="childs").text.encode())
                client.close()
            finally:
                os._exit(0)
        os.close(writer)
        said = b""
        while part := os.read(reader, 1000):
            said += part
        os.close(reader)
        os.waitpid(child, 0)
        assert said == b"by the parent|by the child"
        assert client.complete("still", model="mine").text == "by the parent"


def test_a_host_that_is_killed_is_gone_though_its_child_lives(daemon: FakeDaemon) -> None:
    """The child shares the socket until it lets go of it, which it does as it is born."""
    told, tell = os.pipe()
    parent = os.fork()
    if not parent:
        client = aiorch.Client(daemon.socket)
        client.register_model("orphan", call=lambda *_: "x")
        child = os.fork()
        if not child:
            time.sleep(20)
            os._exit(0)
        os.write(tell, f"{child}\n".encode())
        time.sleep(20)
        os._exit(0)
    child = int(os.read(told, 100))
    os.close(told)
    os.close(tell)
    try:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        eventually(lambda: daemon.connections == 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_client_that_is_forgotten_lets_go(daemon: FakeDaemon) -> None:
    client = aiorch.Client(daemon.socket)
    client.register_model("mine", call=lambda *_: "x")
    del client
    gc.collect()
    eventually(lambda: daemon.connections == 0)
    eventually(lambda: host_threads() == [])


def test_a_daemon_that_is_away_is_waited_for_as_long_as_it_takes(daemon: FakeDaemon) -> None:
    with aiorch.Client(daemon.socket, connect_timeout_s=0.1) as client:
        client.register_model("mine", call=lambda *_: "back")
        daemon.stop()
        time.sleep(0.5)
        daemon.start()
        eventually(lambda: "mine" in [model["name"] for model in client.models_list()])
        assert client.complete("hi", model="mine").text == "back"


# --- a daemon that is replaced


class Registrar:
    """What the daemon does about ``models.register``: takes it the first time, and later only when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked = 0

    def __call__(self, asked: Asked) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 1:
            self.may.wait(20)
        return {"registered": [asked.arguments["name"]]}


@pytest.fixture(params=["blocking", "on_asyncio", "on_trio"])
def driving(request: pytest.FixtureRequest) -> Any:
    return getattr(drivers, request.param)


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("how", ["go_away", "restart"])
def test_nothing_is_asked_before_the_models_are_registered(driving: Any, how: str, asked_before: bool) -> None:
    registrar = Registrar()
    with FakeDaemon(methods={"models.register": registrar}) as daemon, driving(daemon.socket) as driver:
        driver.register("mine", lambda *_: "x")
        if asked_before:
            driver.call("ping")
        getattr(daemon, how)()
        call = driver.start(prompt="afterwards", model="mine")
        daemon.wait_until(lambda daemon: registrar.asked == 2 and daemon.connections_made >= 3 + asked_before)
        assert daemon.prompts == []
        registrar.may.set()
        assert call.result()["text"] == "afterwards"
        asked = [request.method for request in daemon.requests]
        assert asked[-3:] == ["models.register", "ping", "complete"]


def test_one_that_knows_the_models_already_is_asked_whether_it_still_does(driving: Any, daemon: FakeDaemon) -> None:
    with driving(daemon.socket) as driver:
        driver.register("mine", lambda *_: "x")
        assert driver.call("complete", prompt="first", model="mine")["text"] == "x"
        assert driver.call("complete", prompt="second", model="mine")["text"] == "x"
        assert [request.method for request in daemon.requests] == ["models.register", "ping", "complete", "complete"]
        driver.unregister("mine")
        daemon.cut()
        driver.call("complete", prompt="third")
        assert [request.method for request in daemon.requests][-2:] == ["models.remove", "complete"]


def test_a_question_that_is_held_back_keeps_its_deadline_and_can_be_cancelled(driving: Any) -> None:
    registrar = Registrar()
    with FakeDaemon(methods={"models.register": registrar}) as daemon, driving(daemon.socket, grace_s=0.1) as driver:
        driver.register("mine", lambda *_: "x")
        daemon.go_away()
        with pytest.raises(aiorch.DeadlineExceeded):
            driver.start(prompt="soon", model="mine", timeout_s=0.2).result()
        assert daemon.prompts == []
        registrar.may.set()
        assert driver.call("complete", prompt="later", model="mine")["text"] == "later"
        assert daemon.prompts == ["later"]


def test_questions_are_not_held_back_for_ever(driving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiorch.host_threads.MOVE_S", 0.2)
    monkeypatch.setattr("aiorch.host_tasks.MOVE_S", 0.2)
    registrar = Registrar()
    with FakeDaemon(methods={"models.register": registrar}) as daemon, driving(daemon.socket) as driver:
        driver.register("mine", lambda *_: "x")
        daemon.go_away()
        assert driver.call("complete", prompt="at last")["text"] == "at last"
        registrar.may.set()


def test_closing_meanwhile_ends_all() -> None:
    registrar = Registrar()
    failed: list[BaseException] = []
    with FakeDaemon(methods={"models.register": registrar}) as daemon, aiorch.Client(daemon.socket) as client:
        client.register_model("mine", call=lambda *_: "x")
        daemon.go_away()

        def ask() -> None:
            with pytest.raises((aiorch.ConnectionLost, RuntimeError)) as caught:
                client.complete("never", model="mine")
            failed.append(caught.value)

        asker = threading.Thread(target=ask)
        asker.start()
        daemon.wait_until(lambda daemon: registrar.asked == 2 and daemon.in_flight == 1)
        client.close()
        asker.join(10)
        assert len(failed) == 1
        eventually(lambda: host_threads() == [])
        assert daemon.prompts == []
        registrar.may.set()


def test_a_forked_child_waits_for_none_of_its_parents_models() -> None:
    registrar = Registrar()
    with FakeDaemon(methods={"models.register": registrar}) as daemon, aiorch.Client(daemon.socket) as client:
        client.register_model("mine", call=lambda *_: "x")
        client.ping()
        daemon.go_away()
        (told, tell), (go, let_go) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            try:
                for number in range(2):  # on its first connection, and on the next
                    os.write(tell, client.complete(f"{number}").text.encode())
                    os.read(go, 1)
            finally:
                os._exit(0)
        assert os.read(told, 1) == b"0"
        daemon.cut()
        os.write(let_go, b"!")
        assert os.read(told, 1) == b"1"
        os.write(let_go, b"!")
        os.waitpid(child, 0)
        for descriptor in (told, tell, go, let_go):
            os.close(descriptor)
        registrar.may.set()


def test_registering_goes_on_with_the_successor(driving: Any) -> None:
    """A daemon that refuses because it goes is no reason to refuse the model."""
    refused = threading.Event()

    def register(asked: Asked) -> dict[str, Any]:
        if not refused.is_set():
            refused.set()
            daemon.go_away()
            raise aiorch.GoingAway("it goes")
        return {"registered": [asked.arguments["name"]]}

    with FakeDaemon(methods={"models.register": register}) as daemon, driving(daemon.socket) as driver:
        driver.register("mine", lambda *_: "x")
        connections = [request.connection for request in daemon.requests]
        assert (connections[0], set(connections[1:])) == (1, {2})
