"""One connection: reads requests, answers what can be answered at once, and runs the others side by side.

What is known already (a fresh answer in memory) is answered in the reader, without a task, and all answers of one read
leave in one write. Everything else gets a task. A connection that ends cancels its calls. Nothing a peer sends or
neglects to read reaches beyond its own session.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import trio

from aiorch.errors import (
    CallError,
    Cancelled,
    Forbidden,
    GoingAway,
    InternalError,
    InvalidRequest,
    LocalProtocolError,
    Overloaded,
    RemoteProtocolError,
    TooLarge,
    UnknownMethod,
)
from aiorch.protocol import Connection, Limits, Notification, Request, Response, pack, pack_unchecked
from aiorchd.calls.caller import Caller
from aiorchd.calls.leash import Leash
from aiorchd.doors.callbacks import Callbacks
from aiorchd.doors.departure import Departure
from aiorchd.doors.follow_on import AT_ONCE, FollowOn
from aiorchd.doors.hang_up import hung_up
from aiorchd.doors.intake import Intake
from aiorchd.doors.log import Log
from aiorchd.doors.outbox import Outbox, PeerStalledError
from aiorchd.doors.recall import Recall, RecallKnown, nothing_known
from aiorchd.doors.refused import Refused, nobody_counts
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.runtime.starting import Starting

_READ_BYTES: Final = 64 * 1024
_HANG_UP_CHECK_S: Final = 0.5
_PARTING_S: Final = 1.0
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""What every client takes, as docs/protocol.md has it; beyond it they would close the connection, and lose all its calls."""
_BACKLOG_FACTOR: Final = 16
"""So many times the requests in flight may wait here for their turn. What is not read cannot be cancelled, and nobody can
tell how old it is."""
_STAY_SMOOTHING: Final = 0.05
_CHEAP_TOGETHER: Final = 4
"""So many refusals in one read make reading a small part of their cost; for fewer it is worth waiting until more have come."""
_KNOWN_BYTES: Final = 8 * 1024
"""No more is looked up by its bytes: many requests at once, or a long one, are decoded all the same."""


class Method(Protocol):
    """One row of the table of methods: who may call it, and what does it."""

    @property
    def admin_only(self) -> bool:
        """Whether only administrators may."""
        ...

    @property
    def handler(self) -> Callable[[Asked], Awaitable[Any]]:
        """Carries it out; returns plain data or, packed already, bytes in `Packed`."""
        ...

    @property
    def in_line(self) -> bool:
        """Whether it is work that waits its turn and may be turned away; the others are begun at once. Such work heeds the leash
        of its request itself, and raises `Cancelled` when that is cut."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """A result that is packed already."""

    body: bytes


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A request on its way to its handler. ``prepared`` is what `Recall` made of it; ``received_at`` is monotonic."""

    session: Session
    msgid: int
    params: list[Any]
    received_at: float
    prepared: object
    leash: Leash
    """By which the caller ends it."""


class _Waiting(NamedTuple):
    """A request that was read and not begun."""

    request: Request
    received_at: float
    prepared: object
    """What `Recall` made of it; None when it was not asked yet."""
    size: int
    in_line: bool

    def asked(self, session: Session) -> Asked:
        """Give it as its handler takes it."""
        return Asked(session, self.request.msgid, self.request.params, self.received_at, self.prepared, Leash())


class Session:
    """One connection's life; ``run`` is all of it."""

    def __init__(
        self,
        connection: socket.socket,
        caller: Caller,
        methods: Mapping[str, Method],
        recall: Recall,
        limits: SessionLimits,
        log: Log,
        *,
        intake: Intake,
        starting: Starting,
        recall_known: RecallKnown = nothing_known,
        refused: Refused = nobody_counts,
        departure: Departure | None = None,
        admitted: bool = True,
    ) -> None:
        self.caller = caller
        self.outbox = Outbox(connection, max_pending_bytes=limits.max_pending_write_bytes, stall_s=limits.write_stall_s)
        self.errors_as_map = False
        self._socket = connection
        self._wire = Connection(limits.wire)
        self.callbacks = Callbacks(self._wire, self.outbox, at_most=limits.max_host_calls)
        """What the daemon asks this peer."""
        self.callbacks.on_quiet = self._part_if_drained
        self._methods = methods
        self._recall = recall
        self._recall_known = recall_known
        self._limits = limits
        self._log = log
        self._intake = intake
        self._starting = starting
        self._refused = refused
        self._departure = Departure() if departure is None else departure
        self._admitted = admitted
        # This is all the mutable state: what runs, by msgid and by the call_id its caller chose.
        self._running: dict[int, Leash] = {}
        self._call_ids: dict[str | int, int] = {}
        self._calls = 0
        """Of what runs, how many stood in line."""
        self._mean_stay_s = 0.0
        # What was read and could not be begun yet, by msgid, first come first served.
        self._answering = 0
        self._backlog: dict[int, _Waiting] = {}
        self._backlog_bytes = 0
        self._nursery: trio.Nursery | None = None
        """Where requests run; None when none may be begun any more."""
        self._at_end: Callable[[Callbacks], object] | None = None
        self._eager = FollowOn()
        self._clock = trio.lowlevel.current_clock().current_time
        self._leaving = False
        self._parting = False
        self._in_part = False
        self._patience_s = limits.frame_timeout_s
        self._refused_late = 0
        """How much of what was read last was refused because its turn would come too late."""
        self._slot = trio.Event()
        self._scope = trio.CancelScope()

    @property
    def in_flight(self) -> int:
        """Requests being worked on."""
        return len(self._running)

    @property
    def takes(self) -> Limits:
        """What is taken of this peer."""
        return self._limits.wire

    @property
    def max_host_models(self) -> int:
        """Models that this peer may register."""
        return self._limits.max_host_models

    def answer_from_now_on(self, at_end: Callable[[Callbacks], object]) -> None:
        """Mark that the peer may be asked something for as long as the connection lasts; ``at_end`` hears when that is over.
        What is said again changes nothing."""
        if self._at_end is None:
            self._at_end = at_end
            self._begin_answering()

    def _begin_answering(self) -> None:
        """Mark that the peer may be asked something from now on; see `answers`."""
        self._answering += 1
        self._slot.set()

    @contextmanager
    def answers(self) -> Iterator[None]:
        """Mark that the peer may be asked something, for the length of the block: it is read from however much it asks."""
        self._begin_answering()
        try:
            yield
        finally:
            self._answering -= 1

    async def run(self) -> None:
        """Serve until the peer leaves, breaks the protocol or takes nothing; or until drained after `say_going_away`."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._drain, nursery.cancel_scope)
                    self._nursery = nursery
                    try:
                        await self._read(nursery)
                        if self._parting:
                            await self.outbox.emptied()
                    finally:
                        self._nursery = None
                        self._starting.stand(self, 0)
                        self._backlog.clear()
                    nursery.cancel_scope.cancel()
        finally:
            self._intake.hold(self, 0)
            self._socket.close()
            self._departure.done(self)
            self.callbacks.close()
            if self._at_end is not None:
                self._at_end(self.callbacks)

    def say_going_away(self, deadline_s: float) -> None:
        """Tell the peer that the daemon stops; refuse new requests; end once those in flight are answered."""
        if self._leaving:
            return
        self._leaving = True
        self.outbox.write(Connection.pack_notification("going_away", {"deadline_s": deadline_s}))
        while self._backlog:
            self._begin_first()
        self._starting.stand(self, 0)
        if self._running:
            self._departure.expect((self,))
        self._part_if_drained()

    def cut(self) -> None:
        """End at once, cancelling what runs."""
        self._scope.cancel()

    def register_call_id(self, call_id: str | int, msgid: int) -> None:
        """Let ``cancel [{call_id}]`` find a request for as long as it runs."""
        self._call_ids[call_id] = msgid

    async def _read(self, nursery: trio.Nursery) -> None:
        receive = self._socket.recv
        while True:
            refused, self._refused_late = self._refused_late, 0
            if 0 < refused < _CHEAP_TOGETHER and not self._wire.unfinished_bytes:
                await self._starting.pause_reading()
            elif not self._wire.unfinished_bytes:
                await trio.lowlevel.wait_readable(self._socket)
            elif not await self._rest_comes():
                return
            try:
                data = receive(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not data:
                return
            received_at = trio.current_time()
            # Who was just refused is looked up once, when what came was decoded: it is hardly ever one hit.
            if self._open and not refused and (known := self._known(data, received_at)) is not None:
                self.outbox.write(known)
                followed = self._follow_on()
                if self.outbox.full:
                    await self.outbox.room()
                if followed is None:
                    continue
                if not followed:
                    return
                data = followed
                received_at = trio.current_time()
            if not await self._take(data, received_at, nursery):
                return
            if self.outbox.full:
                await self.outbox.room()

    async def _take(self, data: bytes, received_at: float, nursery: trio.Nursery) -> bool:
        """Answer or begin what was read; False when the connection is over. What was read is let go of with it: a
        connection may be idle for days after a message of megabytes."""
        try:
            events = self._wire.receive_data(data)
        except RemoteProtocolError as error:
            await self._refuse(error)
            return False
        if events and self._in_part:
            self._in_part = False
            self._patience_s = self._limits.frame_timeout_s
            self._intake.hold(self, self._wire.unfinished_bytes)
        answers: list[bytes] = []
        size = 0
        for event in events:
            if type(event) is Request:
                method = self._methods.get(event.method)
                in_line = method is not None and method.in_line
                crowded = in_line and self._crowded
                if crowded and (short := self._answer_shortly(event, received_at)) is not None:
                    answers.append(short)
                    size += len(short)
                    if size > self._limits.max_pending_write_bytes:
                        self.outbox.write(b"".join(answers))
                        answers.clear()
                        size = 0
                        await self.outbox.room()
                    continue
                # What has to wait is looked into when its turn comes: reading on is what everybody waits for.
                prepared = self._recall(self.caller, event, received_at) if self._open and not crowded else None
                if type(prepared) is Packed and len(prepared.body) <= _MAX_ANSWER_BYTES:
                    answer = _result_head(event.msgid) + prepared.body
                    answers.append(answer)
                    size += len(answer)
                    if size > self._limits.max_pending_write_bytes:
                        self.outbox.write(b"".join(answers))
                        answers.clear()
                        size = 0
                        await self.outbox.room()
                    continue
                if self._begins_at_once(in_line=in_line):
                    asked = Asked(self, event.msgid, event.params, received_at, prepared, Leash())
                    self._start(nursery, asked, event.method, in_line=in_line)
                    continue
                waiting = _Waiting(event, received_at, prepared, len(data) // len(events), in_line)
                if not (in_line or self._answering) or self._backlog_is_full(waiting.size):
                    self.outbox.write(b"".join(answers))
                    answers.clear()
                    size = 0
                    if not await self._room_for(waiting):
                        return False
                self._wait_in_line(nursery, waiting)
            elif type(event) is Notification:
                self._take_notification(event)
            elif type(event) is Response:
                self.callbacks.take(event)
        if answers:
            self.outbox.write(answers[0] if len(answers) == 1 else b"".join(answers))
        return True

    @property
    def _crowded(self) -> bool:
        return self._open and (bool(self._backlog) or self._starting.crowded)

    def _answer_shortly(self, request: Request, received_at: float) -> bytes | None:
        """Answer a call that has to wait for its turn from memory, if it came before in the same bytes; refuse it if its turn
        would come too late. None for one that may wait. All of this before anything is done for it."""
        raw = request.argument_bytes
        if raw is not None and len(raw) <= _KNOWN_BYTES and request.method == "complete":
            known = self._recall_known(self.caller, raw, received_at)
            if known is not None and len(known) <= _MAX_ANSWER_BYTES:
                return _result_head(request.msgid) + known
        named = request.params[0] if request.params and type(request.params[0]) is dict else {}
        ahead = len(self._backlog)
        own_s = ahead * self._mean_stay_s / self._limits.max_in_flight if self._full(in_line=True) else 0.0
        late_s = self._starting.late_s(named.get("timeout_s"), ahead, own_s)
        if late_s is None:
            return None
        self._refused(self.caller, Overloaded.code)
        self._refused_late += 1
        packed = self._starting.packed_refusal(late_s, as_map=self.errors_as_map)
        return b"\x94\x01" + pack_unchecked(request.msgid) + packed + b"\xc0"

    def _full(self, *, in_line: bool) -> bool:
        """Whether as many run as may. What does not stand in line has places of its own, so that nobody who floods a
        connection with calls is without an answer to its ``status``."""
        return (self._calls if in_line else len(self._running) - self._calls) >= self._limits.max_in_flight

    def _begins_at_once(self, *, in_line: bool) -> bool:
        if self._full(in_line=in_line) or self._leaving:
            return self._leaving
        return not in_line or (not self._backlog and self._starting.begin())

    def _backlog_is_full(self, size: int) -> bool:
        most = _BACKLOG_FACTOR * self._limits.max_in_flight
        return len(self._backlog) >= most or self._backlog_bytes + size > self._limits.wire.max_frame_bytes

    def _wait_in_line(self, nursery: trio.Nursery, waiting: _Waiting) -> None:
        """Let a request wait for its turn; when there is no room for it on a connection that must be read on, refuse it."""
        msgid = waiting.request.msgid
        if msgid in self._running or msgid in self._backlog:
            self._start(
                nursery, waiting.asked(self), waiting.request.method, in_line=waiting.in_line
            )  # says that it is in use
            return
        if self._begins_at_once(in_line=waiting.in_line):
            self._start(nursery, waiting.asked(self), waiting.request.method, in_line=waiting.in_line)
            return
        if self._backlog_is_full(waiting.size):
            refusal = Overloaded(
                f"this connection has {len(self._running)} requests in flight and {len(self._backlog)} waiting already",
                retry_after_s=1.0,
            )
            self._answer_error(msgid, refusal)
            return
        self._backlog[msgid] = waiting
        self._backlog_bytes += waiting.size
        self._stand(comes=True)

    def _stand(self, *, comes: bool = False) -> None:
        """Tell the line how many could begin; none while the first has to wait for another of this connection."""
        first = next(iter(self._backlog.values()), None)
        ready = first is not None and not self._full(in_line=first.in_line)
        self._starting.stand(self, len(self._backlog) if ready else 0, comes=comes)

    def begin_next(self) -> None:
        """Begin what has waited longest; the line says when."""
        if self._nursery is not None and not self._scope.cancel_called:
            self._begin_first()
            self._stand()
        else:
            self._starting.stand(self, 0)

    def _begin_first(self) -> None:
        waiting = self._backlog.pop(next(iter(self._backlog)))
        self._backlog_bytes -= waiting.size
        if self._nursery is None:
            return
        request = waiting.request
        if waiting.prepared is None and waiting.in_line and self._open:
            prepared = self._recall(self.caller, request, waiting.received_at)
            if type(prepared) is Packed and len(prepared.body) <= _MAX_ANSWER_BYTES:
                self.outbox.write(_result_head(request.msgid) + prepared.body)
                return
            waiting = waiting._replace(prepared=prepared)
        self._start(self._nursery, waiting.asked(self), request.method, in_line=waiting.in_line)

    async def _rest_comes(self) -> bool:
        """Wait for more of a message that has come in part; False when that took too long, and the peer was told so."""
        self._in_part = True
        self._intake.hold(self, self._wire.unfinished_bytes)
        await self._intake.turn(self)
        began = trio.current_time()
        with trio.move_on_after(self._patience_s) as patience:
            await trio.lowlevel.wait_readable(self._socket)
        self._patience_s -= trio.current_time() - began
        if patience.cancelled_caught:
            await self._refuse(
                RemoteProtocolError(f"a message did not come whole within {self._limits.frame_timeout_s:g} s")
            )
            return False
        return True

    def _follow_on(self) -> bytes | None:
        """Answer who asks on and on from this CPU, for a bounded time; gives what was read besides, empty at the end."""
        eager = self._eager
        if not eager.worth_trying():
            return None
        clock, receive, outbox = self._clock, self._socket.recv, self.outbox
        at = clock()
        for _ in range(AT_ONCE):
            os.sched_yield()
            try:
                data = receive(_READ_BYTES)
            except OSError:
                data = None  # nothing yet; or something is the matter, and the usual way will find out what
            now = clock()
            again = eager.looked(found=data is not None, took_s=now - at)
            if not data or self._leaving or (known := self._known(data, now)) is None:
                return data
            outbox.write(known)
            if not again or outbox.pending_bytes:
                return None
            at = now
        return None

    @property
    def _open(self) -> bool:
        return self._admitted and not self._leaving

    def _known(self, data: bytes, received_at: float) -> bytes | None:
        """Answer what was read without decoding it, if it is one request known by its bytes whose answer is known too."""
        if len(data) > _KNOWN_BYTES or (split := self._wire.split_request(data)) is None:
            return None
        msgid, argument_bytes = split
        body = self._recall_known(self.caller, argument_bytes, received_at)
        return None if body is None else b"\x94\x01" + msgid + b"\xc0" + body

    def _start(self, nursery: trio.Nursery, asked: Asked, method: str, *, in_line: bool) -> None:
        if asked.msgid in self._running or asked.msgid in self._backlog:
            self._answer_error(
                asked.msgid, InvalidRequest(f"msgid: {asked.msgid} is still in flight on this connection; use another")
            )
            return
        if self._leaving:
            # One read before the goodbye is carried out, even if its task comes to run after it; this one is not begun.
            self._answer_error(
                asked.msgid,
                GoingAway("the daemon is stopping; connect again to reach its successor", retry_after_s=1.0),
            )
            return
        if method == "hello":
            self._agree_on_errors(asked.params)
        self._running[asked.msgid] = asked.leash
        self._calls += in_line
        nursery.start_soon(self._answer, asked, method, in_line)

    def _agree_on_errors(self, params: list[Any]) -> None:
        """Take the wished form of errors as it is read: tasks run in any order, and what follows may be refused first."""
        named = params[0] if params and type(params[0]) is dict else {}
        form = named.get("errors")
        if form in (None, "map", "text"):
            self.errors_as_map = form == "map"

    async def _answer(self, asked: Asked, method: str, in_line: bool) -> None:
        msgid = asked.msgid
        began_at = self._clock()
        try:
            if in_line:
                await self._try_to_answer(asked, method)
            else:
                with trio.CancelScope() as scope:
                    asked.leash.hold(scope.cancel)
                    await self._try_to_answer(asked, method)
                if scope.cancelled_caught:
                    self._answer_error(msgid, Cancelled("cancelled by the caller"))
        finally:
            del self._running[msgid]
            for call_id in [known for known, owner in self._call_ids.items() if owner == msgid]:
                del self._call_ids[call_id]
            self._slot.set()
            if in_line:
                self._calls -= 1
                self._mean_stay_s += _STAY_SMOOTHING * (self._clock() - began_at - self._mean_stay_s)
            if self._backlog:
                self._stand()
            self._part_if_drained()

    async def _try_to_answer(self, asked: Asked, method: str) -> None:
        msgid = asked.msgid
        try:
            result = await self._carry_out(asked, method)
            packed = (
                _result_head(msgid) + result.body if type(result) is Packed else Connection.pack_result(msgid, result)
            )
            if len(packed) > _MAX_ANSWER_BYTES:
                raise TooLarge(
                    f"the answer has {len(packed)} bytes, and no more than {_MAX_ANSWER_BYTES} are sent at once; "
                    'ask for less (of vectors: encoding "bytes")'
                )
            self.outbox.write(packed)
        except CallError as error:
            self._answer_error(msgid, error)
        except LocalProtocolError as error:
            self._answer_error(msgid, InternalError(f"the answer cannot be sent ({error})"))
        except Exception:  # barrier: one request at a door
            self._log.exception("request_failed", method=method[:60], uid=self.caller.uid)
            self._answer_error(
                msgid, InternalError("a defect in the daemon; its log has the details (journalctl -u aiorchd)")
            )

    async def _carry_out(self, asked: Asked, name: str) -> Any:
        if not self._admitted:
            raise Forbidden(
                f"user {self.caller.uid} may not use this daemon; its administrator can add you to [daemon] allow_users "
                "or allow_groups"
            )
        method = self._methods.get(name)
        if method is None:
            raise UnknownMethod(f"there is no method {name[:60]!r}; known are {', '.join(sorted(self._methods))}")
        if method.admin_only and not self.caller.admin:
            raise Forbidden(
                f"{name} is for administrators: root, the daemon's own user, or [daemon] admin_users / admin_groups; "
                f"you are user {self.caller.uid}"
            )
        return await method.handler(asked)

    def _take_notification(self, event: Notification) -> None:
        if event.method != "cancel" or not event.params or type(event.params[0]) is not dict:
            return  # unknown notifications are ignored
        named = event.params[0]
        msgid = named.get("msgid")
        call_id = named.get("call_id")
        if isinstance(call_id, (str, int)):
            msgid = self._call_ids.get(call_id, msgid)
        if type(msgid) is not int:
            return
        leash = self._running.get(msgid)
        if leash is not None:
            leash.cancel()
            return
        waiting = self._backlog.pop(msgid, None)
        if waiting is not None:
            self._backlog_bytes -= waiting.size
            self._stand()
            self._answer_error(msgid, Cancelled("cancelled by the caller"))

    def _answer_error(self, msgid: int, error: CallError) -> None:
        try:
            wire = pack(error.to_wire()) if self.errors_as_map else pack([0, str(error)])
        except LocalProtocolError:
            wire = pack_unchecked([0, f"{error.code}: {error.message}".encode(errors="replace").decode()])
        self.outbox.write(b"\x94\x01" + pack_unchecked(msgid) + wire + b"\xc0")

    async def _refuse(self, error: RemoteProtocolError) -> None:
        """Say why in one last notification; then nobody knows where the next message would begin."""
        self._log.info("connection_refused", uid=self.caller.uid, pid=self.caller.pid, reason=str(error)[:200])
        self.outbox.write(
            Connection.pack_notification("error", {"code": "invalid_request", "message": str(error)[:500]})
        )
        with trio.move_on_after(_PARTING_S):
            await self.outbox.emptied()

    async def _room_for(self, waiting: _Waiting) -> bool:
        """Wait until a request may begin or wait in line; False when the peer hung up. Nothing is read meanwhile, so look now
        and then. From a peer that answers, too, reading goes on: then this does not wait."""
        while not self._answering and (
            self._backlog_is_full(waiting.size) if waiting.in_line else self._full(in_line=False) and not self._leaving
        ):
            self._slot = trio.Event()
            with trio.move_on_after(_HANG_UP_CHECK_S):
                await self._slot.wait()
            if not self._parting and hung_up(self._socket):
                return False
        return True

    async def _drain(self, connection_scope: trio.CancelScope) -> None:
        try:
            await self.outbox.drain()
        except PeerStalledError:
            self._log.info(
                "connection_cut",
                uid=self.caller.uid,
                pid=self.caller.pid,
                reason=f"took nothing for {self._limits.write_stall_s:g} s while answers waited",
            )
        connection_scope.cancel()

    def _part_if_drained(self) -> None:
        """End without losing anything, once nothing is in flight; for who answers for models, anywhere.

        Nothing can be sent to a socket that takes no more: the peer is told so by its next send, and may ask a successor
        instead. What it sent before is still read, and refused as not begun; then the reader finds the end. Closing
        outright would leave the peer in doubt about what was on its way.
        """
        if not self._leaving or self._running or self._parting:
            return
        self._departure.done(self)
        if self.callbacks.asked:
            return
        if self._at_end is not None and not self._departure.quiet:
            self._departure.when_quiet(self, self._part_if_drained)
            return
        self._parting = True
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the peer is gone
        # What is still to be written gets a moment; a peer that does not read it loses it.
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + _PARTING_S)


def _result_head(msgid: int) -> bytes:
    return b"\x94\x01" + pack_unchecked(msgid) + b"\xc0"
