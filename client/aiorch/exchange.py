"""The client's half of a connection without I/O: who asked what, what has come back, what is still to be written.

One `Exchange` belongs to one connected socket. The shells only move bytes: they write what is ``unsent`` and report
what they ``wrote``, hand what they read to ``receive``, wake those whose `Pending` moved on, and say when the connection
is ``lost``. All that is decided about a question is decided here, once, for threads, asyncio and trio alike.

A connection that replaces a lost one is tried with care. A daemon that was killed may still have a listener for a few
microseconds, and what connects then is never read; so there the greeting goes first, and questions are held back until
it is answered. The very first connection saves that round trip: greeting and question leave together.

A client that answers for models is known for them by the daemon it has told of them. So where it asks on a new connection, its
questions are held back besides until whoever looks after its models says by `release` that the daemon there knows them.

Sending again. A lost connection leaves open whether a question was carried out, and asking twice may cost twice. So
`Resending` allows it only for what never left in full, what carried a ``key``, what its owner gave ``retries`` for, and
what the daemon refused unseen because it is going away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

from aiorch.callbacks import Callback, Serving
from aiorch.errors import (
    AiorchError,
    CallError,
    ConnectionLost,
    GoingAway,
    HostError,
    IncompleteStream,
    LocalProtocolError,
    Overloaded,
    RemoteProtocolError,
    TooLarge,
    UnknownMethod,
    error_from_wire,
)
from aiorch.protocol import SMALL_FRAME_BYTES, Connection, Limits, Notification, Request, Response, holds_more
from aiorch.questions import Question, hello
from aiorch.reply import Delta, Reply, Server

T = TypeVar("T")

RECEIVE_LIMITS: Final = Limits(max_frame_bytes=64 * 1024 * 1024, max_elements=8_000_000)
"""What is taken from the daemon: more than it takes from us, since it is trusted and lists of vectors are long."""

_BUFFERS_AT_ONCE: Final = 64
# A question that fells the daemon must not do so for ever.
_KEYED_AT_MOST: Final = 3
_UNSENT_AT_MOST: Final = 10
_REFUSED_AT_MOST: Final = 14
"""Some two seconds for a daemon to be gone and its successor to be there."""


class Pending:
    """One question on one connection, and what has come back so far. Its exchange writes it; shells read it."""

    # What most questions never change stands here once: one is made for every call.
    sent = False
    """Whether the request has left in full."""
    answered = False
    """Whether it is over: with ``failure`` when that is not None, else with ``result``."""
    result: Any = None
    failure: AiorchError | None = None
    deltas: deque[Delta] | None = None
    """Those pieces that were not picked up yet."""
    seen = 0
    """How many came."""
    waiter: Any = None
    """Whoever is to be woken when it moves; the shell's own."""

    def __init__(self, msgid: int, call_id: str | int | None) -> None:
        self.msgid = msgid
        self.call_id = call_id
        """By what name pieces of a streamed answer come; None when it does not stream."""

    @property
    def moved(self) -> bool:
        """Whether there is something to pick up."""
        return self.answered or bool(self.deltas)


class Answering(Pending):
    """One question whose model a function of this process answers for: the daemon may ask back before it answers."""

    __slots__ = ("callbacks",)

    def __init__(self, msgid: int, call_id: str | int | None) -> None:
        super().__init__(msgid, call_id)
        self.callbacks: deque[Callback] = deque()
        """What it asks, and was not picked up yet."""

    @property
    def moved(self) -> bool:
        """Whether there is something to pick up."""
        return self.answered or bool(self.deltas) or bool(self.callbacks)


Mover: TypeAlias = "Pending | Serving"
"""Whatever somebody waits for."""


class Exchange:
    """The state of one connection. Not thread-safe: its shell has a lock, or is a single thread."""

    def __init__(self, *, careful: bool = False, held: bool = False) -> None:
        self.wire = Connection(RECEIVE_LIMITS, trusted=True)
        # This is all the mutable state: what waits to be written, whose it is, and who waits for what.
        self._queue: deque[tuple[bytes, Pending | None]] = deque()
        self._held: deque[tuple[bytes, Pending | None]] | None = None
        self._head_written = 0
        self._waiting: dict[int, Pending] = {}
        self._streams: dict[str | int, Pending] = {}
        self._streams_made = 0
        self._taken = Limits()
        """What the daemon takes."""
        self.surely_taken_bytes = SMALL_FRAME_BYTES
        """A question of so many bytes is no more than the daemon takes."""
        self._callbacks: dict[int, Callback] = {}
        """What the daemon has asked and was not answered yet."""
        self.serving: Serving | None = None
        """Who takes questions to registered models, if any are registered on this connection."""
        self._last_words: CallError | None = None
        self.retiring = False
        """Whether new questions belong elsewhere: the daemon goes away, or nothing can be written any more."""
        self.ended: str | None = None
        """Why there is no connection any more."""
        self.server: Server | None = None
        """Who answers, once it has said so."""
        self.greeting = self.ask(hello())
        """The greeting: over when the daemon has answered it, and with the connection."""
        self._released = not held
        if careful or held:
            self._held = deque()

    @property
    def in_flight(self) -> int:
        """Questions that wait for their answers, the greeting aside; in both directions."""
        return len(self._waiting) - (self.greeting.msgid in self._waiting) + len(self._callbacks)

    @property
    def unneeded(self) -> bool:
        """Whether the socket may be closed. One that takes questions to registered models is the daemon's to end: there may be
        calls that were asked before it went away, and it has not come to asking back for them yet."""
        return self.retiring and (self.ended is not None or not (self.in_flight or self.serving is not None))

    def release(self) -> None:
        """Let the questions go that were held back until now, as soon as the greeting is answered."""
        self._released = True
        if self.greeting.answered:
            self._let_go()

    # asking

    def ask(self, question: Question[Any]) -> Pending:
        """Queue a question. Raises `LocalProtocolError` or `TooLarge` for what cannot be sent; nothing is queued then."""
        if not question.streams:
            return self._ask(question, question.arguments)
        call_id = question.arguments.get("call_id")
        if call_id is None:
            # Never used twice: pieces of a cancelled stream may still be on their way.
            self._streams_made += 1
            call_id = f"s{self._streams_made}"
        if call_id in self._streams:
            raise LocalProtocolError(f"call_id: {call_id!r} is still streaming on this connection; use another")
        pending = self._ask(question, {**question.arguments, "call_id": call_id}, call_id)
        self._streams[call_id] = pending
        return pending

    def _ask(self, question: Question[Any], arguments: Mapping[str, Any], call_id: str | int | None = None) -> Pending:
        msgid, data = self.wire.pack_request(question.method, arguments)
        while msgid in self._waiting:  # ids have come round to one that is still in flight
            msgid, data = self.wire.pack_request(question.method, arguments)
        if (wrong := self._too_large(data)) is not None:
            raise TooLarge(f"{wrong}; split the input, or raise its limit", stage="client")
        pending = Answering(msgid, call_id) if arguments.get("host") else Pending(msgid, call_id)
        self._waiting[msgid] = pending
        (self._queue if self._held is None else self._held).append((data, pending))
        return pending

    @property
    def quiet(self) -> bool:
        """Whether nothing is going on, nothing is held back and questions are taken: then one may be asked past these books, and
        answered too, by whoever sees to it that nobody else comes between; see `enter`."""
        return not (self._waiting or self._queue or self.retiring or self.wire.unfinished_bytes)

    def enter(self, msgid: int, data: bytes = b"", written: int = 0) -> Pending:
        """Enter in the books the question that was asked past them, since something comes between after all. Of ``data``, if
        that was not all written, the rest is queued."""
        pending = self._waiting[msgid] = Pending(msgid, None)
        pending.sent = written == len(data)
        if not pending.sent:
            self._queue.append((data, pending))
            self._head_written = written
        return pending

    def _too_large(self, data: bytes) -> str | None:
        """Say why the daemon would close the connection over a request, and with it lose every other call; else None."""
        taken = self._taken
        if len(data) > taken.max_frame_bytes:
            return f"the request has {len(data)} bytes and the daemon takes {taken.max_frame_bytes}"
        if len(data) > max(taken.max_elements, SMALL_FRAME_BYTES) and holds_more(data, taken.max_elements):
            return f"the request holds more than the {taken.max_elements} values that the daemon takes"
        return None

    def forget(self, pending: Pending) -> None:
        """Lose interest: unqueue the question if none of it has left, else tell the daemon to cancel it."""
        if self._waiting.pop(pending.msgid, None) is None:
            return
        if pending.call_id is not None:
            self._streams.pop(pending.call_id, None)
        if not pending.sent and self._unqueue(pending):
            return
        self._queue.append((Connection.pack_notification("cancel", {"msgid": pending.msgid}), None))

    def _unqueue(self, pending: Pending) -> bool:
        for queue, begun in ((self._queue, self._head_written > 0), (self._held or deque(), False)):
            for place, (_, owner) in enumerate(queue):
                if owner is pending and (place or not begun):
                    del queue[place]
                    return True
        return False

    def cancel(self, call_id: str | int) -> None:
        """Have a call cancelled by the name its caller gave it; whoever waits for it gets `Cancelled`."""
        self._queue.append((Connection.pack_notification("cancel", {"call_id": call_id}), None))

    # being asked

    def serve(self) -> Serving:
        """Take questions to registered models from now on."""
        if self.serving is None:
            self.serving = Serving()
            self.serving.answered = self.ended is not None
            self.serving.leaving = self.retiring
        return self.serving

    def answer(self, callback: Callback, answer: Any, error: CallError | None) -> Pending | None:
        """Queue the answer to a question of the daemon, or why there is none; gives what tells when it has left. None when
        nobody waits for it any more."""
        if self._callbacks.get(callback.msgid) is not callback:
            return None
        del self._callbacks[callback.msgid]
        data = b""
        if error is None:
            try:
                data = Connection.pack_result(callback.msgid, answer)
            except LocalProtocolError as unsendable:
                error = HostError(f"the answer of the function cannot be sent ({unsendable})")
            else:
                if (wrong := self._too_large(data)) is not None:
                    error = HostError(wrong.replace("the request", "the answer of the function"))
        if error is not None:
            data = Connection.pack_error(callback.msgid, error.to_wire())
        sent = Pending(-1, None)
        self._queue.append((data, sent))
        return sent

    # writing

    @property
    def written(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._queue

    def unsent(self) -> Sequence[bytes | memoryview]:
        """Give what is to be written next, in order; empty when nothing is."""
        queue = self._queue
        if not self._head_written:
            if len(queue) == 1:
                return (queue[0][0],)
            return [data for data, _ in islice(queue, _BUFFERS_AT_ONCE)]
        rest = memoryview(queue[0][0])[self._head_written :]
        return [rest, *(data for data, _ in islice(queue, 1, _BUFFERS_AT_ONCE))]

    def wrote(self, count: int) -> bool:
        """Take note that the first ``count`` unsent bytes have left; tells whether that was all."""
        queue = self._queue
        while count:
            data, owner = queue[0]
            left = len(data) - self._head_written
            if count < left:
                self._head_written += count
                return False
            count -= left
            self._head_written = 0
            queue.popleft()
            if owner is not None:
                owner.sent = True
        return not queue

    def cannot_write(self, reason: str) -> list[Mover]:
        """The other end takes nothing any more. What never left fails now; answers to the rest may still be read."""
        moved: list[Mover] = []
        self._retire(moved)
        queued = (*self._queue, *(self._held or ()))
        unsent = [owner for _, owner in queued if owner is not None and owner.msgid in self._waiting]
        self._queue.clear()
        self._held = None
        self._head_written = 0
        for pending in unsent:
            self._fail(pending, reason, alone=False)
        return moved + unsent

    # receiving

    def receive(self, data: bytes) -> list[Mover]:
        """Take what was read; gives the questions that moved on. Afterwards there may be something new to write."""
        try:
            events = self.wire.receive_data(data)
        except RemoteProtocolError as error:
            moved = self._handle(error.events)
            return moved + self.lost(f"the daemon broke the protocol: {error}")
        return self._handle(events)

    def lost(self, reason: str) -> list[Mover]:
        """The connection is over; gives the questions that ended with it. What was interrupted in it can be repeated."""
        if self.ended is None:
            self.ended = reason
        self.retiring = True
        self._queue.clear()
        self._held = None
        self._head_written = 0
        self._waiting.pop(self.greeting.msgid, None)
        waiting = list(self._waiting.values())
        for pending in waiting:
            self._fail(pending, reason, alone=len(waiting) == 1)
        moved: list[Mover] = [*waiting]
        if not self._released:
            moved.append(self.greeting)
        self.greeting.answered = True
        if self._callbacks:
            for callback in self._callbacks.values():
                callback.call_off()
            self._callbacks.clear()
        if self.serving is not None:
            self.serving.answered = True
            moved.append(self.serving)
        return moved

    def _handle(self, events: Sequence[Request | Response | Notification]) -> list[Mover]:
        moved: list[Mover] = []
        for event in events:
            if type(event) is Response:
                self._take_answer(event, moved)
            elif type(event) is Notification:
                self._take_notification(event, moved)
            elif type(event) is Request:
                self._take_request(event, moved)
        return moved

    def _take_answer(self, answer: Response, moved: list[Mover]) -> None:
        pending = self._waiting.get(answer.msgid)
        if pending is None:
            return  # of a question that was cancelled
        if pending is self.greeting:
            self._take_greeting(answer)
            if not self._released:
                moved.append(pending)
            return
        if answer.error is None:
            pending.result = answer.result
        else:
            pending.failure = failure = error_from_wire(answer.error)
            if isinstance(failure, GoingAway):
                self._retire(moved)
        self._end(pending)
        moved.append(pending)

    def _take_greeting(self, answer: Response) -> None:
        # A refusal needs no handling: whoever may not greet may not ask, and the answers will say so.
        if answer.error is None and type(answer.result) is dict:
            self.server = Server.from_wire(answer.result)
            bytes_, elements = answer.result.get("max_frame_bytes"), answer.result.get("max_elements")
            self._taken = Limits(
                bytes_ if type(bytes_) is int and bytes_ > 0 else self._taken.max_frame_bytes,
                elements if type(elements) is int and elements > 0 else self._taken.max_elements,
            )
            self.surely_taken_bytes = min(self._taken.max_frame_bytes, SMALL_FRAME_BYTES)
        self.greeting.answered = True
        if self._released:
            self._let_go()

    def _let_go(self) -> None:
        # Only now: while the greeting stands, nothing is asked past those that are held back.
        self._waiting.pop(self.greeting.msgid, None)
        if self._held is not None:
            self._queue.extend(self._held)
            self._held = None

    def _take_notification(self, notification: Notification, moved: list[Mover]) -> None:
        content = notification.params[0] if notification.params else None
        if notification.method == "delta":
            if type(content) is dict:
                self._take_delta(content, moved)
        elif notification.method == "going_away":
            self._retire(moved)
        elif notification.method == "cancel":
            msgid = content.get("msgid") if type(content) is dict else None
            callback = self._callbacks.pop(msgid, None) if type(msgid) is int else None
            if callback is not None:
                callback.call_off()
        elif notification.method == "error":
            self._last_words = error_from_wire(content)
        # Unknown notifications are ignored, as the protocol says.

    def _take_delta(self, content: dict[str, Any], moved: list[Mover]) -> None:
        call_id = content.get("call_id")
        pending = self._streams.get(call_id) if isinstance(call_id, (str, int)) else None
        if pending is None:
            return  # of a stream that was cancelled
        index, text, tool_calls = content.get("index"), content.get("text"), content.get("tool_calls")
        if type(index) is int and index != pending.seen:
            pending.failure = IncompleteStream(
                f"piece {pending.seen} of the answer is missing; {index} came instead", stage="client"
            )
            pending.answered = True
            self.forget(pending)
        else:
            pending.seen += 1
            if pending.deltas is None:
                pending.deltas = deque()
            pending.deltas.append(
                Delta(
                    pending.seen - 1,
                    text if type(text) is str else "",
                    tuple(tool_calls) if type(tool_calls) is list else (),
                )
            )
        moved.append(pending)

    def _retire(self, moved: list[Mover]) -> None:
        if self.serving is not None and not self.retiring:
            self.serving.leaving = True
            moved.append(self.serving)
        self.retiring = True

    def _take_request(self, request: Request, moved: list[Mover]) -> None:
        """Hand a question of the daemon to whoever answers for its model: a function that came with a call, or those that
        are registered here."""
        refusal: CallError = UnknownMethod(f"this client offers no method {request.method[:60]!r}")
        asked = request.params[0] if request.params else None
        if request.method == "host.complete" and type(asked) is dict:
            msgid = asked.get("msgid")
            taker = self._waiting.get(msgid) if type(msgid) is int else self.serving
            if type(taker) is Answering or type(taker) is Serving:
                callback = self._callbacks[request.msgid] = Callback(request.msgid, asked)
                taker.callbacks.append(callback)
                moved.append(taker)
                return
            refusal = HostError("nobody answers for this model on this connection any more", retryable=True)
        self._queue.append((Connection.pack_error(request.msgid, refusal.to_wire()), None))

    def _fail(self, pending: Pending, reason: str, *, alone: bool) -> None:
        words = self._last_words
        said = f"; its last words were: {words}" if words is not None else ""
        if words is not None and (alone or not pending.sent or isinstance(words, Overloaded)):
            pending.failure = words.again()  # it was said because of this question, or to everybody
        elif pending.seen:
            pending.failure = IncompleteStream(
                f"the connection was lost after {pending.seen} pieces of the answer ({reason}){said}", stage="client"
            )
        elif pending.sent:
            pending.failure = ConnectionLost(
                f"the connection was lost before the answer came ({reason}){said}; whether the question was carried out "
                "is not known. Give it a key, or retries=1, to have it sent again"
            )
        else:
            pending.failure = ConnectionLost(f"the connection was lost before the question had left ({reason}){said}")
        self._end(pending)

    def _end(self, pending: Pending) -> None:
        """Let it be over; in this order, so that one that is interrupted here is either over or still waiting."""
        pending.answered = True
        self._waiting.pop(pending.msgid, None)
        if pending.call_id is not None:
            self._streams.pop(pending.call_id, None)


class Resending:
    """Whether one question may be sent once more, by the rule that asking twice may cost twice."""

    def __init__(self, question: Question[Any]) -> None:
        self._retries = question.retries
        self._keyed = _KEYED_AT_MOST if question.keyed else 0
        self._unsent = 0
        self._refused = 0

    def again(self, question: Question[T], failed: Pending, left_s: float) -> tuple[Question[T], float]:
        """Give the question to send once more and how long to wait before that; or raise what failed it.

        ``left_s`` is what is left of the time that the daemon may be told.
        """
        pause_s = self._pause_s(failed)
        if pause_s is None or pause_s >= left_s:
            raise failed.failure or RuntimeError("asked to repeat a question that did not fail")
        return question.with_time_left(left_s - pause_s), pause_s

    def _pause_s(self, failed: Pending) -> float | None:
        if failed.seen:
            return None
        if isinstance(failed.failure, GoingAway):  # it was not begun: another connection reaches the successor
            self._refused += 1
            return _pause_s(self._refused, at_most=_REFUSED_AT_MOST, first_s=0.01)
        if not isinstance(failed.failure, ConnectionLost):
            return None
        if not failed.sent:
            self._unsent += 1
            return _pause_s(self._unsent, at_most=_UNSENT_AT_MOST, first_s=0.001)
        if self._keyed:
            self._keyed -= 1
            return 0.0
        if self._retries:
            self._retries -= 1
            return 0.0
        return None


def _pause_s(times: int, *, at_most: int, first_s: float) -> float | None:
    """Pause not at all the first time, then ever longer, up to a quarter of a second."""
    if times > at_most:
        return None
    return 0.0 if times == 1 else min(0.25, first_s * (1 << (times - 2)))


def whole_answer(pending: Pending, reply: Reply) -> Delta | None:
    """Give a streamed answer that came without pieces, as one that is known already may, as its only piece."""
    if pending.seen or not (reply.text or reply.tool_calls):
        return None
    return Delta(0, reply.text, reply.tool_calls)
