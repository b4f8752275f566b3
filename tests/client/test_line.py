"""One connected socket and the exchange on it."""

from __future__ import annotations

import socket
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
