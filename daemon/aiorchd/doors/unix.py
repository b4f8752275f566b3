"""The Unix-socket door: takes connections, learns who they are, and gives each a session."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from aiorch.protocol import Connection
from aiorchd.doors.departure import Departure
from aiorchd.doors.identity import Access, identify
from aiorchd.doors.intake import Intake
from aiorchd.doors.log import Log
from aiorchd.doors.method import Method
from aiorchd.doors.recall import Recall, RecallKnown, RecallStored, nothing_known, nothing_stored
from aiorchd.doors.refused import Refused, nobody_counts
from aiorchd.doors.session import Session
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.runtime.starting import Patience, Starting, StartingStatistics

_OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class DoorPolicy:
    """What new connections meet; replaced as a whole when the configuration changes."""

    access: Access
    session: SessionLimits
    max_connections: int = 4096
    limited_by: str = "[daemon] max_connections"
    """What to change for more connections, in words."""
    max_incoming_bytes: int = 4 * 1024 * 1024
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class DoorStatistics:
    """Connections open now, requests in flight in them, bytes waiting to be read by peers, bytes of large messages that
    have come in part; calls that stand in line to begin; and totals since the start."""

    connections: int
    in_flight: int
    pending_write_bytes: int
    incoming_bytes: int
    starting: StartingStatistics
    accepted: int
    refused: int


class UnixDoor:
    """Serves one listening socket until it is told to drain."""

    def __init__(
        self,
        listening: socket.socket,
        methods: Mapping[str, Method],
        recall: Recall,
        policy: Callable[[], DoorPolicy],
        log: Log,
        *,
        recall_known: RecallKnown = nothing_known,
        recall_stored: RecallStored = nothing_stored,
        refused_call: Refused = nobody_counts,
    ) -> None:
        self._listening = listening
        self._methods = methods
        self._recall = recall
        self._recall_known = recall_known
        self._recall_stored = recall_stored
        self._policy = policy
        self._log = log
        self._refused_call = refused_call
        self._sessions: set[Session] = set()
        self._starting = Starting(lambda: policy().patience)
        self._intake = Intake(lambda: policy().max_incoming_bytes)
        self._departure = Departure()
        self._accepted = 0
        self._refused = 0
        self._full = False
        self._accepting = trio.CancelScope()
        self._empty = trio.Event()
        self._empty.set()

    async def serve(self, nursery: trio.Nursery) -> None:
        """Accept until `stop_accepting`; sessions run in ``nursery``, whose owner decides how long they may outlive this."""
        nursery.start_soon(self._starting.run)
        with self._accepting:
            while True:
                await trio.lowlevel.wait_readable(self._listening)
                # Several may wait; taking a few at a time keeps a storm of connects from starving those who are in.
                for _ in range(16):
                    try:
                        connection, _ = self._listening.accept()
                    except BlockingIOError:
                        break
                    except OSError as error:
                        if error.errno in _OUT_OF_DESCRIPTORS:
                            await self._pause(error)
                        break
                    self._take(connection, nursery)

    def stop_accepting(self) -> None:
        """Leave new connections in the backlog, for a successor on the same socket or nobody."""
        self._accepting.cancel()

    async def drain(self, deadline_s: float) -> None:
        """Say goodbye to every session and wait until they have left."""
        self.stop_accepting()
        self._departure.expect(self._sessions)
        for session in tuple(self._sessions):
            session.say_going_away(deadline_s)
        await self._empty.wait()

    def cut(self) -> None:
        """End every session now."""
        for session in tuple(self._sessions):
            session.cut()

    def statistics(self) -> DoorStatistics:
        """Tell who is here."""
        return DoorStatistics(
            connections=len(self._sessions),
            in_flight=sum(session.in_flight for session in self._sessions),
            pending_write_bytes=sum(session.outbox.pending_bytes for session in self._sessions),
            incoming_bytes=self._intake.held_bytes,
            starting=self._starting.statistics(),
            accepted=self._accepted,
            refused=self._refused,
        )

    def _take(self, connection: socket.socket, nursery: trio.Nursery) -> None:
        policy = self._policy()
        connection.setblocking(False)
        try:
            if len(self._sessions) >= policy.max_connections:
                self._turn_away(connection, policy)
                return
            self._accepted += 1
            caller = identify(connection, policy.access, self._accepted)
        except OSError:
            connection.close()  # it left before it was let in
            return
        session = Session(
            connection,
            caller,
            self._methods,
            self._recall,
            policy.session,
            self._log,
            intake=self._intake,
            starting=self._starting,
            recall_known=self._recall_known,
            recall_stored=self._recall_stored,
            refused=self._refused_call,
            departure=self._departure,
            admitted=policy.access.may_call(caller.uid, caller.groups),
        )
        self._full = False
        self._sessions.add(session)
        if len(self._sessions) == 1:
            self._empty = trio.Event()
        self._log.debug("connected", uid=caller.uid, pid=caller.pid, unit=caller.unit or None)
        nursery.start_soon(self._run, session)

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except Exception:  # barrier: one connection
            self._log.exception("session_failed", uid=session.caller.uid, pid=session.caller.pid)
        finally:
            self._sessions.discard(session)
            self._log.debug("left", uid=session.caller.uid, pid=session.caller.pid)
            if not self._sessions:
                self._empty.set()

    def _turn_away(self, connection: socket.socket, policy: DoorPolicy) -> None:
        self._refused += 1
        if not self._full:
            self._full = True
            self._log.info("connections_refused", limit=policy.max_connections, by=policy.limited_by)
        farewell: dict[str, Any] = {
            "code": "overloaded",
            "message": f"the daemon holds its limit of {policy.max_connections} connections ({policy.limited_by})",
            "retry_after_s": 1.0,
        }
        with connection:
            connection.send(Connection.pack_notification("error", farewell))

    async def _pause(self, error: OSError) -> None:
        """Out of descriptors: those who wait stay in the backlog until somebody leaves."""
        if not self._full:
            self._full = True
            self._log.info("accept_paused", reason=error.strerror, remedy="raise LimitNOFILE= or lower max_connections")
        await trio.sleep(_PAUSE_S)
