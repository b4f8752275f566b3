"""One connection: reads requests, answers what can be answered at once, and runs the others side by side.

What is known already (a fresh answer in memory) is answered in the reader, without a task, and all answers of one read
leave in one write. What is on disk and read at once is answered where a task would begin. Everything else gets a task. A
connection that ends cancels its calls. Nothing a peer sends or neglects to read reaches beyond its own session.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import trio
from msgspec.structs import replace

from aiorch.errors import (
    Cancelled,
    GoingAway,
    InvalidRequest,
    Overloaded,
    RemoteProtocolError,
)
from aiorch.protocol import ARGUMENTS_AT, Connection, Limits, Notification, Request, Response
from aiorchd.calls.caller import Caller
from aiorchd.calls.leash import Leash
from aiorchd.doors.answers import MAX_ANSWER_BYTES, packed_failure, result_head
from aiorchd.doors.backlog import Backlog, Waiting
from aiorchd.doors.callbacks import Callbacks
from aiorchd.doors.departure import Departure
from aiorchd.doors.follow_on import AT_ONCE, SOMEBODY_ELSE_S, FollowOn
from aiorchd.doors.hang_up import hung_up
from aiorchd.doors.intake import Intake
from aiorchd.doors.log import Log
from aiorchd.doors.method import Asked, Method, Packed
from aiorchd.doors.outbox import Outbox, PeerStalledError
from aiorchd.doors.recall import LATER, Recall, RecallKnown, RecallStored, nothing_known, nothing_stored
from aiorchd.doors.refused import Refused, nobody_counts
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.doors.work import Work
from aiorchd.runtime.starting import Starting

_READ_BYTES: Final = 64 * 1024
_HANG_UP_CHECK_S: Final = 0.5
_PARTING_S: Final = 1.0
_CHEAP_TOGETHER: Final = 4
"""So many refusals in one read make reading a small part of their cost; for fewer it is worth waiting until more have come."""
_KNOWN_BYTES: Final = 8 * 1024
"""No more is looked up by its bytes: many requests at once, or a long one, are decoded all the same."""


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
        recall_stored: RecallStored = nothing_stored,
        refused: Refused = nobody_counts,
        departure: Departure | None = None,
        admitted: bool = True,
    ) -> None:
        self.caller = caller
        self.outbox = Outbox(connection, max_pending_bytes=limits.max_pending_write_bytes, stall_s=limits.write_stall_s)
        self._socket = connection
        self._wire = Connection(limits.wire)
        self.callbacks = Callbacks(self._wire, self.outbox, at_most=limits.max_host_calls)
        """What the daemon asks this peer."""
        self.callbacks.on_quiet = self._part_if_drained
        self._methods = methods
        self._recall = recall
        self._recall_known = recall_known
        self._recall_stored = recall_stored
        self._limits = limits
        self._log = log
        self._intake = intake
        self._starting = starting
        self._refused = refused
        self._departure = Departure() if departure is None else departure
        self._admitted = admitted
        # This is all the mutable state.
        self._work = Work(caller, methods, self.outbox, log, admitted=admitted, done=self._done)
        self._answering = 0
        self._backlog = Backlog(max_in_flight=limits.max_in_flight, max_bytes=limits.wire.max_frame_bytes)
        self._begins = False
        """Whether requests may be begun: not before it runs, and not any more when it ends."""
        self._at_end: Callable[[Callbacks], object] | None = None
        self._eager = FollowOn()
        self._clock = trio.lowlevel.current_clock().current_time
        self._leaving = False
        self._parting = False
        self._in_part = False
        self._patience_s = limits.frame_timeout_s
        self._refused_late = 0
        """How much of what was read last was refused because its turn would come too late."""
        self._slot: trio.Event | None = None
        """Set when there may be room, where somebody waits for it."""
        self._scope = trio.CancelScope()

    @property
    def in_flight(self) -> int:
        """Requests being worked on."""
        return len(self._work.running)

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
        if self._slot is not None:
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
                    self._work.open(nursery)
                    self._begins = True
                    try:
                        await self._read()
                        if self._parting:
                            await self.outbox.emptied()
                    finally:
                        self._begins = False
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
        while self._backlog.waiting:
            self._begin_first()
        self._starting.stand(self, 0)
        if self._work.running:
            self._departure.expect((self,))
        self._part_if_drained()

    def cut(self) -> None:
        """End at once, cancelling what runs."""
        self._scope.cancel()

    def register_call_id(self, call_id: str | int, msgid: int) -> None:
        """Let ``cancel [{call_id}]`` find a request for as long as it runs."""
        self._work.name(call_id, msgid)

    async def _read(self) -> None:
        receive = self._socket.recv
        while True:
            refused, self._refused_late = self._refused_late, 0
            in_part = bool(self._wire.unfinished_bytes)
            if in_part:
                if not await self._rest_comes():
                    return
            elif 0 < refused < _CHEAP_TOGETHER:
                await self._starting.pause_reading()
            else:
                await trio.lowlevel.wait_readable(self._socket)
            try:
                data = receive(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not data:
                return
            received_at = self._clock()
            # Who was just refused is looked up once, when what came was decoded: it is hardly ever one hit.
            if self._open and not (in_part or refused) and (known := self._known(data, received_at)) is not None:
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
            if not await self._take(data, received_at):
                return
            if self.outbox.full:
                await self.outbox.room()

    async def _take(self, data: bytes, received_at: float) -> bool:
        """Answer or begin what was read; False when the connection is over. What was read is let go of with it: a
        connection may be idle for days after a message of megabytes."""
        try:
            events = self._wire.receive_data(data)
        except RemoteProtocolError as error:
            await self._refuse(error)
            return False
        if self._in_part and events:
            self._in_part = False
            self._patience_s = self._limits.frame_timeout_s
            self._intake.hold(self, self._wire.unfinished_bytes)
        answers: list[bytes] = []
        size = 0
        for event in events:
            if type(event) is Request:
                method = self._methods.get(event.method)
                in_line = method is not None and method.in_line
                is_open = self._admitted and not self._leaving
                crowded = is_open and in_line and (bool(self._backlog.waiting) or self._starting.crowded)
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
                prepared = self._recall(self.caller, event, received_at) if is_open and not crowded else None
                if type(prepared) is Packed and len(prepared.body) <= MAX_ANSWER_BYTES:
                    answer = result_head(event.msgid) + prepared.body
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
                    self._start(asked, event.method, in_line=in_line)
                    continue
                waiting = Waiting(event, received_at, prepared, len(data) // len(events), in_line)
                if not (in_line or self._answering) or self._backlog.full(waiting.size):
                    self.outbox.write(b"".join(answers))
                    answers.clear()
                    size = 0
                    if not await self._room_for(waiting):
                        return False
                self._wait_in_line(waiting)
            elif type(event) is Notification:
                self._take_notification(event)
            elif type(event) is Response:
                self.callbacks.take(event)
        if answers:
            self.outbox.write(answers[0] if len(answers) == 1 else b"".join(answers))
        return True

    def _answer_shortly(self, request: Request, received_at: float) -> bytes | None:
        """Answer a call that has to wait for its turn from memory, if it came before in the same bytes; refuse it if its turn
        would come too late. None for one that may wait. All of this before anything is done for it."""
        raw = request.argument_bytes
        if raw is not None and len(raw) <= _KNOWN_BYTES and request.method == "complete":
            known = self._recall_known(self.caller, raw, received_at)
            if known is not None and len(known) <= MAX_ANSWER_BYTES:
                return result_head(request.msgid) + known
        named = request.params[0] if request.params and type(request.params[0]) is dict else {}
        ahead = len(self._backlog.waiting)
        own_s = ahead * self._work.mean_stay_s / self._limits.max_in_flight if self._full(in_line=True) else 0.0
        late_s = self._starting.late_s(named.get("timeout_s"), ahead, own_s)
        if late_s is None:
            return None
        self._refused(self.caller, Overloaded.code)
        self._refused_late += 1
        packed = self._starting.packed_refusal(late_s, as_map=self._work.errors_as_map)
        return packed_failure(request.msgid, packed)

    def _full(self, *, in_line: bool) -> bool:
        """Whether as many run as may. What does not stand in line has places of its own, so that nobody who floods a
        connection with calls is without an answer to its ``status``."""
        work = self._work
        return (work.calls if in_line else len(work.running) - work.calls) >= self._limits.max_in_flight

    def _begins_at_once(self, *, in_line: bool) -> bool:
        if self._leaving:
            return True  # to be refused
        if in_line:
            room = self._work.calls < self._limits.max_in_flight
            return room and not self._backlog.waiting and self._starting.begin()
        return not self._full(in_line=False)

    def _wait_in_line(self, waiting: Waiting) -> None:
        """Let a request wait for its turn; when there is no room for it on a connection that must be read on, refuse it."""
        msgid = waiting.request.msgid
        if msgid in self._work.running or msgid in self._backlog.waiting:
            self._start(waiting.asked(self), waiting.request.method, in_line=waiting.in_line)  # says that it is in use
            return
        if self._begins_at_once(in_line=waiting.in_line):
            self._start(waiting.asked(self), waiting.request.method, in_line=waiting.in_line)
            return
        if self._backlog.full(waiting.size):
            running, waits = len(self._work.running), len(self._backlog.waiting)
            refusal = Overloaded(
                f"this connection has {running} requests in flight and {waits} waiting already", retry_after_s=1.0
            )
            self._work.refuse(msgid, refusal)
            return
        self._backlog.add(waiting)
        self._stand(comes=True)

    def _stand(self, *, comes: bool = False) -> None:
        """Tell the line how many could begin; none while the first has to wait for another of this connection."""
        first = self._backlog.first()
        ready = first is not None and not self._full(in_line=first.in_line)
        self._starting.stand(self, len(self._backlog.waiting) if ready else 0, comes=comes)

    def begin_next(self) -> None:
        """Begin what has waited longest; the line says when."""
        if self._begins and not self._scope.cancel_called:
            self._begin_first()
            self._stand()
        else:
            self._starting.stand(self, 0)

    def _begin_first(self) -> None:
        waiting = self._backlog.take_first()
        if not self._begins:
            return
        request = waiting.request
        if waiting.prepared is None and waiting.in_line and self._open:
            prepared = self._recall(self.caller, request, waiting.received_at)
            if type(prepared) is Packed and len(prepared.body) <= MAX_ANSWER_BYTES:
                self.outbox.write(result_head(request.msgid) + prepared.body)
                return
            waiting = waiting._replace(prepared=prepared)
        self._start(waiting.asked(self), request.method, in_line=waiting.in_line)

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
        at, again = clock(), True
        for _ in range(AT_ONCE):
            os.sched_yield()
            try:
                data = receive(_READ_BYTES)
            except OSError:
                data = None  # nothing yet; or something is the matter, and the usual way will find out what
            now = clock()
            if data is None or not eager.pays or now - at > SOMEBODY_ELSE_S:
                again = eager.looked(found=data is not None, took_s=now - at)
            if not data or (known := self._known(data, now)) is None:
                return data
            if not outbox.write(known) or not again:
                return None
            at = now
        return None

    @property
    def _open(self) -> bool:
        return self._admitted and not self._leaving

    def _known(self, data: bytes, received_at: float) -> bytes | None:
        """Answer what was read without decoding it, if it is one request known by its bytes whose answer is known too."""
        at = ARGUMENTS_AT.get(data[:3])
        if at is None or len(data) > _KNOWN_BYTES:
            return None
        body = self._recall_known(self.caller, data[at:], received_at)
        return None if body is None else b"\x94\x01" + data[2:at] + b"\xc0" + body

    def _start(self, asked: Asked, method: str, *, in_line: bool) -> None:
        msgid = asked.msgid
        if msgid in self._work.running or msgid in self._backlog.waiting:
            self._work.refuse(
                msgid, InvalidRequest(f"msgid: {msgid} is still in flight on this connection; use another")
            )
            return
        if self._leaving:
            # One read before the goodbye is carried out, even if its task comes to run after it; this one is not begun.
            self._work.refuse(
                msgid,
                GoingAway("the daemon is stopping; connect again to reach its successor", retry_after_s=1.0),
            )
            return
        if in_line and asked.prepared is not None:
            stored = self._recall_stored(self.caller, asked.prepared, asked.received_at)
            if stored is LATER:
                asked = replace(asked, stored=True)
            elif stored is not None and len(stored) <= MAX_ANSWER_BYTES:
                self.outbox.write(result_head(msgid) + stored)
                return
        self._work.begin(asked, method, in_line=in_line)

    def _done(self) -> None:
        """Something is over: there is room for another, or it was the last."""
        if self._slot is not None:
            self._slot.set()
        if self._backlog.waiting:
            self._stand()
        if self._leaving:
            self._part_if_drained()

    def _take_notification(self, event: Notification) -> None:
        if event.method != "cancel" or not event.params or type(event.params[0]) is not dict:
            return  # unknown notifications are ignored
        msgid = self._work.named(event.params[0])
        if msgid is None or self._work.cancel(msgid):
            return
        if self._backlog.take(msgid) is not None:
            self._stand()
            self._work.refuse(msgid, Cancelled("cancelled by the caller"))

    async def _refuse(self, error: RemoteProtocolError) -> None:
        """Say why in one last notification; then nobody knows where the next message would begin."""
        self._log.info("connection_refused", uid=self.caller.uid, pid=self.caller.pid, reason=str(error)[:200])
        self.outbox.write(
            Connection.pack_notification("error", {"code": "invalid_request", "message": str(error)[:500]})
        )
        with trio.move_on_after(_PARTING_S):
            await self.outbox.emptied()

    async def _room_for(self, waiting: Waiting) -> bool:
        """Wait until a request may begin or wait in line; False when the peer hung up. Nothing is read meanwhile, so look now
        and then. From a peer that answers, too, reading goes on: then this does not wait."""
        while not self._answering and (
            self._backlog.full(waiting.size) if waiting.in_line else self._full(in_line=False) and not self._leaving
        ):
            self._slot = trio.Event()
            with trio.move_on_after(_HANG_UP_CHECK_S):
                await self._slot.wait()
            self._slot = None
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
        if not self._leaving or self._work.running or self._parting:
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
