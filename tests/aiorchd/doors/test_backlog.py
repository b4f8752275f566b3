"""Requests of one connection that were read and could not be begun yet."""

from __future__ import annotations

from aiorch.protocol import Request
from aiorchd.doors.backlog import Backlog, Waiting


def waiting(msgid: int, size: int = 10) -> Waiting:
    return Waiting(Request(msgid, "complete", []), 0.0, None, size, in_line=True)


def test_first_come_first_served() -> None:
    backlog = Backlog(max_in_flight=1, max_bytes=1000)
    assert backlog.first() is None
    for msgid in (7, 3, 5):
        backlog.add(waiting(msgid))
    first = backlog.first()
    assert first is not None
    assert first.request.msgid == 7
    assert [backlog.take_first().request.msgid for _ in range(3)] == [7, 3, 5]
    assert not backlog.waiting


def test_it_is_bounded_by_number_and_by_bytes_and_has_room_again() -> None:
    backlog = Backlog(max_in_flight=2, max_bytes=1000)
    for msgid in range(31):
        backlog.add(waiting(msgid))
    assert not backlog.full(10)
    assert backlog.full(691)
    backlog.add(waiting(31))
    assert backlog.full(1), "16 times as many as may be in flight"
    backlog.take_first()
    assert not backlog.full(690)
    assert backlog.take(99) is None
    taken = backlog.take(20)
    assert taken is not None
    assert taken.request.msgid == 20
    assert not backlog.full(700)
    assert backlog.full(701)
    backlog.clear()
    assert not backlog.full(1000)
    assert not backlog.waiting
