"""The fake daemon that hosts test with: it does what it was told, and says what it was asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

import aiorch
from aiorch.testing import Answer, Asked, Failure, FakeDaemon


def test_as_a_host_would_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeDaemon({"Tag: cats": "animals, pets"}) as daemon:
        monkeypatch.setenv("AIORCH_SOCKET", daemon.socket)
        with aiorch.Client() as client:
            reply = client.complete("Tag: cats", tags=["t"], model="small")
        assert (reply.text, reply.model, reply.simulated, reply.cost_usd) == ("animals, pets", "small", True, 0.0)
        assert daemon.prompts == ["Tag: cats"]
        (asked,) = daemon.requests
        assert asked.arguments == {"prompt": "Tag: cats", "tags": ["t"], "model": "small"}
        assert (asked.uid, asked.pid, asked.connection, asked.cancelled) == (os.getuid(), os.getpid(), 1, False)
    assert not Path(os.environ["AIORCH_SOCKET"]).parent.exists()


def test_other_processes_find_it() -> None:
    with FakeDaemon() as daemon:
        environment = {**daemon.env(), "PYTHONPATH": str(Path(aiorch.__file__).parents[1])}
        code = "import aiorch; print(aiorch.Client().complete('hello').text)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("hello\n", "")
        assert daemon.requests[0].pid != os.getpid()


def test_what_may_be_scripted() -> None:
    answers: dict[str, Any] = {
        "text": "plain",
        "record": Answer(text="{}", finish_reason="length", cost_usd=None, cache="exact", fields={"attempts": 7}),
        "error": aiorch.RateLimited("slow down", retry_after_s=1.5),
        "failure": Failure(error=aiorch.ContentFiltered("no"), delay_s=0.01),
        "function": lambda asked: asked.prompt.upper(),
        "nested": lambda asked: lambda again: Answer(text="deep"),
        "raises": raises,
    }
    with FakeDaemon(answers, default="otherwise") as daemon, aiorch.Client(daemon.socket) as client:
        assert client.complete("text").text == "plain"
        record = client.complete("record", output_schema={"type": "object"})
        assert (record.data, record.finish_reason, record.cost_usd, record.cache, record.attempts) == (
            {},
            "length",
            None,
            "exact",
            7,
        )
        with pytest.raises(aiorch.RateLimited) as caught:
            client.complete("error")
        assert (caught.value.retryable, caught.value.retry_after_s) == (True, 1.5)
        with pytest.raises(aiorch.ContentFiltered):
            client.complete("failure")
        assert client.complete("function").text == "FUNCTION"
        assert client.complete("nested").text == "deep"
        with pytest.raises(aiorch.NotFound, match="by a function"):
            client.complete("raises")
        assert client.complete("anything else").text == "otherwise"
        daemon.answer("anything else", "now this")
        assert client.complete("anything else").text == "now this"
        assert client.complete(messages=[{"role": "user", "content": "text"}]).text == "plain"


def raises(asked: Asked) -> str:
    raise aiorch.NotFound("by a function")


def breaks(asked: Asked) -> str:
    raise LookupError(asked.prompt)


def test_a_script_that_breaks_fails_its_test_too() -> None:
    with pytest.raises(LookupError, match="boom"), FakeDaemon(default=breaks) as daemon:
        with aiorch.Client(daemon.socket) as client, pytest.raises(aiorch.InternalError, match="LookupError: boom"):
            client.complete("boom")


def test_an_answer_that_cannot_be_sent_fails_its_test_too() -> None:
    with pytest.raises(aiorch.LocalProtocolError), FakeDaemon(methods={"odd": lambda asked: {1, 2}}) as daemon:
        with aiorch.Client(daemon.socket) as client, pytest.raises(aiorch.InternalError, match="cannot be sent"):
            client.call("odd")


def test_the_tests_own_failure_is_not_hidden() -> None:
    with pytest.raises(KeyError, match="the test's own"), FakeDaemon(default=breaks) as daemon:
        with aiorch.Client(daemon.socket) as client, pytest.raises(aiorch.InternalError):
            client.complete("boom")
        raise KeyError("the test's own")


def test_methods_may_be_added_and_replaced() -> None:
    def stats(asked: Asked) -> dict[str, Any]:
        if asked.arguments.get("by") == "moon":
            raise aiorch.InvalidRequest("by: no")
        return {"calls": 5}

    with FakeDaemon(methods={"stats": stats, "odd.one": lambda asked: [asked.arguments]}) as daemon:
        with aiorch.Client(daemon.socket) as client:
            assert client.stats() == {"calls": 5}
            with pytest.raises(aiorch.InvalidRequest):
                client.stats(by="moon")
            assert client.call("odd.one", a=1) == [{"a": 1}]
            with pytest.raises(aiorch.UnknownMethod):
                client.call("odd.two")


def test_streams_are_cut_by_words_or_as_scripted() -> None:
    with FakeDaemon({"own": Answer(text="abcdef", pieces=["abc", "", "def"])}) as daemon:
        with aiorch.Client(daemon.socket) as client:
            for text in ("two words", "  odd\n\nspaces ", "one", " "):
                assert "".join(client.stream(text)) == text
            assert list(client.stream("two words")) == ["two", " words"]
            assert [delta.text for delta in client.stream("own").events()] == ["abc", "", "def"]


def test_delays_and_cuts() -> None:
    answers = {
        "slow": Answer(text="x", delay_s=0.1),
        "cut": Answer(text="a b", cut_after=1),
        "gone": Answer(cut_after=0),
    }
    with FakeDaemon(answers) as daemon, aiorch.Client(daemon.socket) as client:
        started = time.monotonic()
        client.complete("slow")
        assert time.monotonic() - started >= 0.1
        with pytest.raises(aiorch.IncompleteStream):
            list(client.stream("cut"))
        with pytest.raises(aiorch.ConnectionLost):
            client.complete("gone")


def test_a_key_is_remembered() -> None:
    replies = iter(["first", "second"])
    with FakeDaemon(default=lambda asked: next(replies)) as daemon, aiorch.Client(daemon.socket) as client:
        assert [client.complete("x", key="k").text for _ in range(3)] == ["first"] * 3
        assert client.complete("x").text == "second"


def test_its_states_can_be_waited_for() -> None:
    with FakeDaemon() as daemon, aiorch.Client(daemon.socket) as client:
        assert (daemon.connections, daemon.connections_made, daemon.in_flight) == (0, 0, 0)
        client.ping()
        daemon.wait_until(lambda daemon: daemon.connections == 1)
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            daemon.wait_until(lambda daemon: daemon.connections == 2, timeout_s=0.05)
        daemon.cut()
        assert daemon.connections == 0
        daemon.stop()
        assert not Path(daemon.socket).exists()
        daemon.stop()
        daemon.start()
        daemon.start()
        client.ping()
        assert daemon.connections_made == 2


def test_clients_of_other_kinds_are_served() -> None:
    """Errors as text without a greeting, pieces by a method of the caller's, empty arrays for maps, text of any bytes."""
    with FakeDaemon({"err": aiorch.NotFound("no")}) as daemon, socket.socket(socket.AF_UNIX) as plain:
        plain.connect(daemon.socket)
        plain.settimeout(10)
        unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")

        def say(*messages: Any) -> None:
            plain.sendall(b"".join(msgpack.packb(message) for message in messages))

        def hear(count: int) -> list[Any]:
            heard: list[Any] = []
            while len(heard) < count:
                unpacker.feed(plain.recv(65536))
                heard += unpacker
            return heard

        say([0, 1, "ping", []], [0, 2, "ping", [[]]], [0, 3, "complete", [{"prompt": "err"}]], [0, 4, "ping", [5]])
        assert [message[1:3] for message in hear(4)] == [
            [1, None],
            [2, None],
            [3, [0, "not_found: no"]],
            [4, [0, "invalid_request: params: must be an array holding one map of named arguments"]],
        ]
        say([0, 5, "complete", [{"prompt": "a b", "stream": True, "notify": ["nvim_exec_lua", "code", 7]}]])
        heard = hear(3)
        assert heard[0] == [2, "nvim_exec_lua", ["code", 7, {"call_id": None, "index": 0, "text": "a"}]]
        assert heard[2][:3] == [1, 5, None]
        say([2, "unheard_of", []], [1, 99, None, None], [0, 6, "ping", []])
        assert hear(1) == [[1, 6, None, "pong"]]
        plain.sendall(b"\xc1")
        (last,) = hear(1)
        assert last[:2] == [2, "error"]
        assert last[2][0]["code"] == "invalid_request"
        assert plain.recv(10) == b""


def test_a_message_id_may_not_be_used_twice_at_once() -> None:
    with FakeDaemon({"slow": Answer(delay_s=5)}) as daemon, socket.socket(socket.AF_UNIX) as plain:
        plain.connect(daemon.socket)
        plain.sendall(msgpack.packb([0, 1, "complete", [{"prompt": "slow"}]]) + msgpack.packb([0, 1, "ping", []]))
        response = msgpack.unpackb(plain.recv(65536))
        assert response[1] == 1
        assert response[2][1].startswith("invalid_request: msgid: 1 is still in flight")


def test_notifications_can_be_sent() -> None:
    with FakeDaemon() as daemon, aiorch.Client(daemon.socket) as client:
        client.ping()
        daemon.tell("progress", {"job": "j"})
        assert client.complete("unmoved").text == "unmoved"


def test_a_long_temporary_directory_does_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with FakeDaemon() as daemon, aiorch.Client(daemon.socket) as client:
        assert client.ping() == "pong"
    assert list(long.iterdir()) == []


def test_it_serves_where_it_is_told(tmp_path: Path) -> None:
    with FakeDaemon(socket=tmp_path / "s") as daemon, aiorch.Client(tmp_path / "s") as client:
        assert daemon.socket == str(tmp_path / "s")
        assert client.ping() == "pong"
    with pytest.raises(RuntimeError, match="with block"):
        _ = FakeDaemon().socket


def test_many_connections_and_a_reader_that_sleeps() -> None:
    text = "x" * 400_000
    with FakeDaemon({"large": text}) as daemon:
        clients = [aiorch.Client(daemon.socket) for _ in range(100)]
        for client in clients:
            client.ping()
        with socket.socket(socket.AF_UNIX) as sleeper:
            sleeper.connect(daemon.socket)
            sleeper.sendall(
                b"".join(msgpack.packb([0, number, "complete", [{"prompt": "large"}]]) for number in range(20))
            )
            daemon.wait_until(lambda daemon: len(daemon.prompts) == 20)
            assert all(client.complete("quick").text == "quick" for client in clients)
            received = 0
            while received < 20 * 400_000:
                received += len(sleeper.recv(1 << 20))
        for client in clients:
            client.close()
        daemon.wait_until(lambda daemon: daemon.connections == 0)
