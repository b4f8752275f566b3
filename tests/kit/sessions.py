"""A session of the door with a peer played by hand at the other end of a real socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from aiorch.protocol import Connection, Event, Limits, Request, Response
from aiorchd.calls.caller import Caller
from aiorchd.doors.intake import Intake
from aiorchd.doors.method import Asked
from aiorchd.doors.methods import Row, _hello, _ping
from aiorchd.doors.recall import RecallStored, nothing_known, nothing_stored
from aiorchd.doors.refused import Refused, nobody_counts
from aiorchd.doors.session import Session
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.runtime.starting import Starting


@dataclass
class Memory:
    """Log lines, kept."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def exception(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    info = exception
    debug = exception


class Peer:
    """The other end, played by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.wire = Connection(Limits(max_frame_bytes=1 << 30, max_elements=10_000_000))
        self.events: list[Event] = []

    async def ask(self, method: str, **arguments: Any) -> int:
        msgid, data = self.wire.pack_request(method, arguments)
        await self.stream.send_all(data)
        return msgid

    async def next(self) -> Event:
        while not self.events:
            data = await self.stream.receive_some(65536)
            assert data, "the session closed the connection"
            self.events.extend(self.wire.receive_data(data))
        return self.events.pop(0)

    async def call(self, method: str, **arguments: Any) -> Response:
        msgid = await self.ask(method, **arguments)
        event = await self.next()
        assert isinstance(event, Response)
        assert event.msgid == msgid
        return event

    async def closed(self) -> bool:
        try:
            return await self.stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True


Handler = Callable[[Asked], Awaitable[Any]]


@asynccontextmanager
async def session_with(
    handlers: Mapping[str, Handler | Row] | None = None,
    *,
    limits: SessionLimits | None = None,
    admitted: bool = True,
    admin: bool = False,
    recall: Callable[[Caller, Request, float], Any] = lambda *_: None,
    recall_known: Callable[[Caller, bytes, float], bytes | None] = nothing_known,
    recall_stored: RecallStored = nothing_stored,
    intake: Intake | None = None,
    starting: Starting | None = None,
    refused: Refused = nobody_counts,
    going_round: bool = True,
) -> AsyncIterator[tuple[Peer, Session, Memory]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    ours.setblocking(False)
    log = Memory()
    starting = starting or Starting()
    table = {
        "ping": Row(_ping),
        "hello": Row(_hello),
        **{name: made if isinstance(made, Row) else Row(made) for name, made in (handlers or {}).items()},
    }
    table["secret"] = Row(_ping, admin_only=True)
    session = Session(
        ours,
        Caller(uid=1000, gid=1000, pid=1, admin=admin),
        table,
        recall,
        limits or SessionLimits(Limits()),
        log,
        intake=intake or Intake(lambda: 1024 * 1024),
        starting=starting,
        recall_known=recall_known,
        recall_stored=recall_stored,
        refused=refused,
        admitted=admitted,
    )
    async with trio.open_nursery() as nursery:
        if going_round:  # else somebody else lets that line go on
            nursery.start_soon(starting.run)
        nursery.start_soon(session.run)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        async with stream:
            yield Peer(stream), session, log
            nursery.cancel_scope.cancel()
    assert session.in_flight == 0
