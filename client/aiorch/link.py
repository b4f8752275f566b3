"""One connection that many threads wait on: whoever waits first reads for all.

A reader thread would cost every answer a hop from thread to thread, some 10 to 40 microseconds, and a thread that lives
as long as the process and does not survive a fork. Instead the first thread that waits becomes the reader: it blocks in
``recv``, hands their answers to the others, and when its own has come passes the role to one that still waits (leader
and followers, Schmidt et al. 2000). A single-threaded caller is always the reader: one send and one receive a call.

Blocking reads end in time by ``SO_RCVTIMEO``, set again only when it is far from what is needed, since a Python socket
with a timeout costs one more system call for every read. Writes never block while the lock is held.

Signals. In the main thread any line may raise KeyboardInterrupt, or what else a signal handler raises. While a thread is
blocked in ``recv`` nothing is lost by that: `deque.extend` takes what ``recv`` returns without coming back to the
interpreter in between. Where books are kept, which is always between ``_open_books`` and ``_close_books`` and takes a few
microseconds, something may be; the next thread finds the books open, gives the connection up rather than trust them, and
wakes everybody.

Who is alone. Nearly every question is asked when nothing else goes on on its connection, and then keeping books costs more
than all the rest. So `ask_alone` keeps none: it only leaves word that somebody is alone on the connection. Whoever comes
meanwhile, another thread or a signal, finds that when opening the books and enters the question as that of the reader,
which it is; from there on everything goes its usual way. Only the thread whose question it is takes that word back, so
it is never another's that it finds.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from aiorch.callbacks import Callback, Serving
from aiorch.errors import AiorchError, CallError
from aiorch.exchange import Mover, Pending
from aiorch.line import NOW_OR_NOT, READ_BYTES, Line
from aiorch.questions import Question

_LOOK_AGAIN_S: Final = 0.05
"""A writer that waits while another thread reads looks this often whether it has to read itself."""

_LONG_READ_S: Final = 60.0
"""Reads that end early are no trouble when they are this rare."""

_READ_SIZES: Final = (READ_BYTES,)
_NEVER: Final = math.inf

# How the books stand. Quiet: closed, and nothing goes on; alone: closed, and one question is on its way that they do not hold.
_CLOSED: Final = 0
_OPEN: Final = 1
_QUIET: Final = 2
_ALONE: Final = 3


class Link(Line):
    """A connection for threads."""

    def __init__(self, connection: socket.socket, *, careful: bool = False, held: bool = False) -> None:
        super().__init__(connection, careful=careful, held=held)
        connection.setblocking(True)
        self._lock = threading.Lock()
        # This is all the mutable state besides the exchange; the lock guards it.
        self._books = _CLOSED
        self._reader: Pending | Serving | None = None
        self._parked: dict[Pending | Serving, threading.Lock] = {}
        self._abandoned: deque[Pending] = deque()
        self._inbox: deque[bytes] = deque()
        self._pushing: set[Pending | Serving] = set()
        self._read_limit_s = _NEVER  # what SO_RCVTIMEO says

    def ask(self, question: Question[Any], deadline: float) -> Pending | None:
        """Send a question; gives None when this connection takes none any more.

        Waits while the daemon takes nothing, and raises TimeoutError in the end. Raises what `Exchange.ask` raises.
        """
        pending: Pending | None = None
        done = False
        try:
            with self._lock:
                self._open_books()
                if self.exchange.retiring:
                    self._close_books()
                    done = True
                    return None
                try:
                    pending = self.exchange.ask(question)
                except AiorchError:
                    self._close_books()
                    raise
                self._wake(self.flush())
                written = self.exchange.written
                self._close_books()
                done = written
            if not written:
                self._push(pending, deadline)
                done = True
            return pending
        finally:
            if not done:
                self._visit(lambda: None if pending is None else self._drop(pending))

    def ask_alone(self, question: Question[Any], deadline: float) -> tuple[Any] | Pending | None:
        """Ask and wait in one go, past the books, when nothing else is going on on the connection, as is nearly always so.

        Gives the result in a tuple. When something came between, gives the question, which is over then like one that was
        waited for by `wait`. None when something is going on already, or for what `ask` may have to refuse; nothing has
        happened then. Raises what those two raise; the question is forgotten then.
        """
        msgid = 0
        over = False
        exchange, inbox = self.exchange, self._inbox
        wire = exchange.wire
        try:
            with self._lock:
                if self._books != _QUIET:
                    over = True
                    return None
                msgid, data = wire.pack_request(question.method, question.arguments, question.plain)
                size = len(data)
                if size > exchange.surely_taken_bytes:
                    over = True
                    return None
                self._books = _OPEN
                try:
                    written = self.connection.send(data, NOW_OR_NOT)
                except OSError:
                    written = 0  # what is the matter, the usual way will find
                if written == size:
                    self._books = _ALONE
                else:
                    self._reader = exchange.enter(msgid, data, written)
                    self._close_books()
            if written == size:
                if deadline != _NEVER or self._read_limit_s != _NEVER:
                    self._limit_reads(deadline)
                try:
                    inbox.extend(map(self.connection.recv, _READ_SIZES))
                except OSError as error:
                    self._not_read(error)
                with self._lock:
                    if self._books == _ALONE and inbox and (result := wire.receive_answer(inbox[0], msgid)) is not None:
                        inbox.clear()
                        self._books = _QUIET
                        over = True
                        return result
            pending = self._taken_for_reader()
            self._lead(pending, deadline, read=written != size)
            over = True
            return pending
        finally:
            if not over:
                self._visit(lambda: self._give_up_alone(msgid))

    def wait(self, pending: Pending | Serving, deadline: float) -> None:
        """Wait until the question has moved on. Raises TimeoutError; the question then still stands."""
        done = False
        try:
            while not done:
                gate = None
                with self._lock:
                    self._open_books()
                    moved = pending.moved
                    if moved:
                        self._hand_over()  # it may have been woken to read, and answered meanwhile by who wrote (`hear_out`)
                    elif self._reader is None:
                        self._reader = pending
                    else:
                        self._parked[pending] = gate = threading.Lock()
                        gate.acquire()
                    self._close_books()
                    done = moved
                if moved:
                    return
                if gate is None:
                    self._lead(pending, deadline)
                    done = True
                elif not self._follow(gate, deadline):
                    raise TimeoutError
        finally:
            if not done:
                self._visit(lambda: self._leave(pending))

    def forget(self, pending: Pending) -> None:
        """Lose interest in an answer; the daemon is told."""
        self._visit(lambda: self._drop(pending))

    def serve(self) -> Serving:
        """Take questions of the daemon to registered models from now on: `wait` for them, and `answer` each."""
        found: list[Serving] = []
        self._visit(lambda: found.append(self.exchange.serve()))
        return found[0]

    def answer(self, callback: Callback, answer: Any, error: CallError | None) -> None:
        """Answer a question of the daemon; returns when that has left. Does nothing when nobody waits for it any more."""
        sent: list[Pending | None] = []

        def queue() -> None:
            sent.append(self.exchange.answer(callback, answer, error))
            self._wake(self.flush())

        self._visit(queue)
        if sent and (pending := sent[0]) is not None and not pending.sent:
            self._push(pending, _NEVER)

    def release(self) -> None:
        """Let the questions leave that were held back. Waits while the daemon takes nothing."""

        def let_go() -> None:
            self.exchange.release()
            self._wake(self.flush())

        self._visit(let_go)
        if not self.exchange.written:
            self._push(Pending(-1, None), _NEVER)

    def cancel(self, call_id: str | int) -> None:
        """Have a call cancelled that some thread waits for, if it is on this connection."""
        self._visit(lambda: self._cancel(call_id))

    def abandon(self, pending: Pending) -> None:
        """Do as `forget` does from a destructor, which may run in the middle of anything: now if the lock is free."""
        self._abandoned.append(pending)
        if self._lock.acquire(blocking=False):
            try:
                self._open_books()
                self._close_books()
            finally:
                self._lock.release()

    def close(self) -> None:
        """End it; whoever waits is told. The daemon cancels what was asked, even if a forked child holds the socket too."""
        self._visit(lambda: self._lose("this client was closed"))

    # with the lock held

    def hear_out(self) -> list[Mover]:
        """See `Line`; while somebody reads, it is theirs to take."""
        return super().hear_out() if self._reader is None and not self._inbox else []

    def _open_books(self) -> None:
        if self._books == _ALONE:
            self._reader = self.exchange.enter(self.exchange.wire.last_msgid)
        elif self._books == _OPEN:
            self._lose("a signal interrupted it")
            for pending in tuple(self._parked):
                self._release(pending)
        self._books = _OPEN
        while self._abandoned:
            self._drop(self._abandoned.popleft())

    def _close_books(self) -> None:
        exchange, idle = self.exchange, self._reader is None and not self._pushing
        if exchange.unneeded and idle:  # nobody is inside a system call on it either
            self.connection.close()
        quiet = idle and exchange.quiet and not (self._parked or self._inbox or self._abandoned)
        self._books = _QUIET if quiet else _CLOSED

    def _wake(self, moved: Sequence[Pending | Serving]) -> None:
        if self._parked:
            for pending in moved:
                self._release(pending)

    def _hand_over(self) -> None:
        """Let one of those who wait read, if nobody does."""
        if self._parked and self._reader is None:
            self._release(next(iter(self._parked)))

    def _release(self, pending: Pending | Serving) -> None:
        gate = self._parked.get(pending)
        if gate is not None:
            if gate.locked():
                gate.release()
            del self._parked[pending]  # last: one that is interrupted here is released twice rather than never

    def _take_inbox(self) -> None:
        while self._inbox:
            self._wake(self.take(self._inbox.popleft()))

    def _drop(self, pending: Pending) -> None:
        self.exchange.forget(pending)
        self._wake(self.flush())

    def _cancel(self, call_id: str | int) -> None:
        if self.exchange.ended is None:
            self.exchange.cancel(call_id)
            self._wake(self.flush())

    def _leave(self, pending: Pending | Serving) -> None:
        """Stop waiting for something: whatever this thread did for the others, one of them has to do now."""
        self._pushing.discard(pending)
        self._parked.pop(pending, None)
        if self._reader is pending:
            self._take_inbox()
            self._reader = None
        self._hand_over()

    def _give_up(self, pending: Pending) -> None:
        self._leave(pending)
        if not pending.answered:
            self._drop(pending)

    def _give_up_alone(self, msgid: int) -> None:
        """Do as `_give_up` for what was asked by `ask_alone`, if it is not over: it has been entered as the reader's then."""
        reader = self._reader
        if isinstance(reader, Pending) and reader.msgid == msgid:
            self._give_up(reader)

    def _lose(self, reason: str) -> None:
        """End the connection, also under whoever is blocked in reading it."""
        self._wake(self.exchange.lost(reason))
        if not self.closed:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the daemon was faster

    # without it

    def _lead(self, pending: Pending | Serving, deadline: float, *, read: bool = True) -> None:
        """Read for all until this question has moved on; and write what is left over from others, or was held back.

        Without ``read`` there is something in the inbox already.
        """
        moved = False
        poll: select.poll | None = None
        while not moved:
            if not read:
                read = True
            elif self.exchange.written:
                self._read(deadline)
            else:
                poll = poll or select.poll()
                self._poll(poll, deadline, reads=True)
            with self._lock:
                self._open_books()
                self._take_inbox()
                if poll is not None:
                    self._wake(self.flush())
                moved = pending.moved
                if moved:
                    self._reader = None
                    self._hand_over()
                self._close_books()

    def _follow(self, gate: threading.Lock, deadline: float) -> bool:
        """Wait to be woken: a question has moved on, or it is this thread's turn to read. False when time ran out."""
        left = deadline - time.monotonic()
        return left > 0 and gate.acquire(timeout=min(left, threading.TIMEOUT_MAX))

    def _visit(self, act: Callable[[], None]) -> None:
        """Do something with the lock and the books; and see to it that they are closed even if a signal comes between."""
        done = False
        try:
            with self._lock:
                self._open_books()
                act()
                self._close_books()
                done = True
        finally:
            if not done:
                with self._lock:
                    self._open_books()
                    self._close_books()

    def _taken_for_reader(self) -> Pending:
        """Give the question of `ask_alone` as it stands in the books, where whoever opens them first enters it."""
        with self._lock:
            self._open_books()
            reader = self._reader
            self._close_books()
        return cast("Pending", reader)

    def _read(self, deadline: float) -> None:
        """Block until something came and is in the inbox, or an early end of the wait. Raises TimeoutError."""
        self._limit_reads(deadline)
        try:
            self._inbox.extend(map(self.connection.recv, _READ_SIZES))
        except OSError as error:
            self._not_read(error)

    def _not_read(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError):
            return  # the limit: look at the clock again
        reason = error.strerror or str(error)
        self._visit(lambda: self._lose(reason))

    def _limit_reads(self, deadline: float) -> None:
        """See to it that reading ends in time. Raises TimeoutError when there is none left."""
        if deadline != _NEVER:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if left < self._read_limit_s or min(left, _LONG_READ_S) > 4 * self._read_limit_s:
                # A little less than is left, so that the next call with the same timeout finds it short enough.
                self._set_read_limit(left if left < 1.0 else 0.9 * left)
        elif self._read_limit_s < _LONG_READ_S / 4:
            self._set_read_limit(_NEVER)

    def _set_read_limit(self, seconds: float) -> None:
        self._read_limit_s = seconds
        whole, part = divmod(max(1, math.ceil(seconds * 1e6)), 1_000_000) if seconds != _NEVER else (0, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", whole, part))

    def _push(self, pending: Pending, deadline: float) -> None:
        """Wait until a question has left in full, reading meanwhile: the daemon may be waiting for just that."""
        poll = select.poll()
        gone = False
        while not gone:
            try:
                with self._lock:
                    self._open_books()
                    self._wake(self.flush())
                    gone = pending.sent or pending.answered or self.exchange.written
                    if not gone:
                        self._pushing.add(pending)
                        if self._reader is None:
                            self._reader = pending
                    self._close_books()
                if not gone:
                    self._poll(poll, deadline, reads=self._reader is pending)
            finally:
                self._visit(lambda: self._leave(pending))

    def _poll(self, poll: select.poll, deadline: float, *, reads: bool) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        poll.register(self.connection, select.POLLOUT | select.POLLIN if reads else select.POLLOUT)
        ready = poll.poll(math.ceil(1000 * min(left, _LONG_READ_S if reads else _LOOK_AGAIN_S)))
        if reads and any(events & ~select.POLLOUT for _, events in ready):
            self._read(deadline)
