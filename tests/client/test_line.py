"""One connected socket and the exchange on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

import aiorch
from aiorch import questions
from aiorch.line import Line
from aiorch.link import Link
from aiorch.protocol import Connection

FULL = {"code": "overloaded", "message": "it holds its limit of 7 connections", "retry_after_s": 1.0}


@pytest.fixture
def turned_away() -> Iterator[socket.socket]:
    """A connection that a daemon was too full for: it said so and hung up, before anything was asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours:
        theirs.sendall(Connection.pack_notification("error", FULL))
        theirs.close()
        yield ours


def test_who_is_turned_away_before_anything_was_asked_is_told_why(turned_away: socket.socket) -> None:
    line = Line(turned_away)
    pending = line.exchange.ask(questions.ping(None))
    assert pending in line.flush()
    assert isinstance(pending.failure, aiorch.Overloaded)
    assert "its limit of 7 connections" in str(pending.failure)
    assert not line.usable


def test_a_thread_is_told_too(turned_away: socket.socket) -> None:
    link = Link(turned_away)
    pending = link.ask(questions.ping(None), time.monotonic() + 10)
    assert pending is not None
    assert isinstance(pending.failure, aiorch.Overloaded)


def test_answers_that_came_before_are_taken() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours:
        line = Line(ours)
        first = line.exchange.ask(questions.ping(None))
        line.flush()
        theirs.recv(65536)
        theirs.sendall(Connection.pack_result(first.msgid, "pong"))
        theirs.close()
        second = line.exchange.ask(questions.ping(None))
        assert set(line.flush()) == {first, second}
        assert (first.result, first.failure) == ("pong", None)
        assert isinstance(second.failure, aiorch.ConnectionLost)


def test_nothing_said_is_a_lost_connection() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours:
        theirs.close()
        line = Line(ours)
        pending = line.exchange.ask(questions.ping(None))
        line.flush()
        assert isinstance(pending.failure, aiorch.ConnectionLost)
        assert not pending.sent


def test_who_was_to_read_and_is_answered_by_a_writer_lets_another_read() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours:
        link, far = Link(ours), time.monotonic() + 30
        first, second = link.ask(questions.ping(None), far), link.ask(questions.ping(None), far)
        assert first is not None
        assert second is not None
        link._reader = first  # its thread reads, so the other one waits
        waiting = threading.Thread(target=link.wait, args=(second, far), daemon=True)
        waiting.start()
        while not link._parked:
            waiting.join(0.001)
        link._reader = None  # the moment between being woken to read and reading
        theirs.sendall(Connection.pack_result(first.msgid, "pong"))
        theirs.close()
        third = link.ask(questions.ping(None), far)  # cannot be written, and hears what was said before
        assert third is not None
        assert isinstance(third.failure, aiorch.ConnectionLost)
        assert first.result == "pong"
        assert not second.moved
        link.wait(first, far)
        waiting.join(10)
        assert isinstance(second.failure, aiorch.ConnectionLost)
