"""One connection that many threads wait on: whoever waits first reads for all.

A reader thread would cost every answer a hop from thread to thread, some 10 to 40 microseconds, and a thread that lives
as long as the process and does not survive a fork. Instead the first thread that waits becomes the reader: it blocks in
``recv``, hands their answers to the others, and when its own has come passes the role to one that still waits (leader
and followers, Schmidt et al. 2000). A single-threaded caller is always the reader: one send and one receive a call.

Blocking reads end in time by ``SO_RCVTIMEO``, set again only when it is far from what is needed, since a Python socket
with a timeout costs one more system call for every read. Writes never block while the lock is held.

Signals. In the main thread any line may raise KeyboardInterrupt or what else a signal handler raises. While a thread is
blocked in ``recv`` nothing is lost by that: `deque.extend` takes what ``recv`` returns without coming back to the
interpreter in between. In the few microseconds where books are kept something may be; `Line.mend` notices, and that
connection is given up rather than trusted.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import threading
import time
from collections import deque
from typing import Any, Final

from aiorch.exchange import Pending
from aiorch.line import READ_BYTES, Line
from aiorch.questions import Question

_LOOK_AGAIN_S: Final = 0.05
"""A writer that waits while another thread reads looks this often whether it has to read itself."""

_LONG_READ_S: Final = 60.0
"""Reads that end early are no trouble when they are this rare."""

_READ_SIZES: Final = (READ_BYTES,)


class Link(Line):
    """A connection for threads."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        connection.setblocking(True)
        self._lock = threading.Lock()
        # This is all the mutable state besides the exchange; the lock guards it.
        self._reader: Pending | None = None
        self._parked: dict[Pending, threading.Lock] = {}
        self._abandoned: deque[Pending] = deque()
        self._inbox: deque[bytes] = deque()
        self._pushing: set[Pending] = set()
        self._read_limit_s = math.inf  # what SO_RCVTIMEO says

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self.connection.fileno() < 0

    def ask(self, question: Question[Any], deadline: float) -> Pending | None:
        """Send a question; gives None when this connection takes none any more.

        Waits while the daemon takes nothing, and raises TimeoutError in the end. Raises what `Exchange.ask` raises.
        """
        pending: Pending | None = None
        gone = False
        try:
            with self._lock:
                self._settle()
                if self.exchange.retiring:
                    return None
                pending = self.exchange.ask(question)
                self._wake(self.flush())
                gone = pending.sent or pending.answered
                self._reap()
            if not gone:
                self._push(pending, deadline)
                gone = True
            return pending
        finally:
            if pending is not None and not gone:
                self.forget(pending)

    def wait(self, pending: Pending, deadline: float) -> None:
        """Wait until the question has moved on. Raises TimeoutError; the question then still stands."""
        try:
            while True:
                with self._lock:
                    self._settle()
                    if pending.moved:
                        return
                    gate = None
                    if self._reader is None:
                        self._reader = pending
                    else:
                        gate = threading.Lock()
                        gate.acquire()
                        self._parked[pending] = gate
                if gate is None:
                    self._lead(pending, deadline)
                    return
                self._follow(pending, gate, deadline)
        finally:
            if self._reader is pending:  # an exception: somebody else has to read
                with self._lock:
                    self._settle()
                    self._step_down()

    def forget(self, pending: Pending) -> None:
        """Lose interest in an answer; the daemon is told."""
        with self._lock:
            self._settle()
            self.exchange.forget(pending)
            self._wake(self.flush())
            self._reap()

    def cancel(self, call_id: str | int) -> None:
        """Have a call cancelled that some thread waits for, if it is on this connection."""
        with self._lock:
            self._settle()
            if self.exchange.ended is None:
                self.exchange.cancel(call_id)
                self._wake(self.flush())

    def abandon(self, pending: Pending) -> None:
        """Do as `forget` does from a destructor, which may run in the middle of anything: now if the lock is free."""
        self._abandoned.append(pending)
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def close(self) -> None:
        """End it; whoever waits is told. The daemon cancels what was asked, even if a forked child holds the socket too."""
        with self._lock:
            self._wake(self.exchange.lost("this client was closed"))
            if not self.closed:
                try:
                    self.connection.shutdown(socket.SHUT_RDWR)  # a reader blocked in recv returns
                except OSError:
                    pass  # the daemon was faster
            self._reap()

    # with the lock held

    def _settle(self) -> None:
        """Tidy up what an interrupted thread or a destructor left."""
        if self._torn:
            self._wake(self.mend())
        while self._abandoned:
            self.exchange.forget(self._abandoned.popleft())
            self._wake(self.flush())

    def _wake(self, moved: list[Pending]) -> None:
        if self._parked:
            for pending in moved:
                gate = self._parked.pop(pending, None)
                if gate is not None:
                    gate.release()

    def _hand_over(self) -> None:
        """Let one of those who wait read, if nobody does."""
        if self._parked and self._reader is None:
            self._parked.pop(next(iter(self._parked))).release()

    def _step_down(self) -> None:
        self._reader = None
        self._hand_over()
        self._reap()

    def _take_inbox(self) -> None:
        inbox = self._inbox
        while inbox:
            moved = self.take(inbox[0])
            inbox.popleft()
            self._wake(moved)

    def _reap(self) -> None:
        """Close the socket once nobody needs it: it has ended, or new questions go elsewhere and the old are answered."""
        exchange = self.exchange
        unneeded = exchange.retiring and (exchange.ended is not None or not exchange.in_flight)
        if unneeded and self._reader is None and not self._pushing:  # nobody is inside a system call on it
            self.connection.close()

    # without it

    def _lead(self, pending: Pending, deadline: float) -> None:
        """Read for all until this question has moved on."""
        while True:
            self._read(deadline)
            with self._lock:
                self._take_inbox()
                if pending.moved:
                    self._step_down()
                    return

    def _follow(self, pending: Pending, gate: threading.Lock, deadline: float) -> None:
        """Wait to be woken: this question has moved on, or it is this thread's turn to read."""
        woken = False
        try:
            left = deadline - time.monotonic()
            woken = gate.acquire(timeout=min(left, threading.TIMEOUT_MAX)) if left > 0 else False
            if not woken:
                raise TimeoutError
        finally:
            if not woken:
                with self._lock:
                    self._settle()
                    self._parked.pop(pending, None)
                    self._hand_over()  # it may have been this thread's turn

    def _read(self, deadline: float) -> None:
        """Block until something came and is in the inbox, or an early end of the wait. Raises TimeoutError."""
        if deadline != math.inf:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if left < self._read_limit_s or min(left, _LONG_READ_S) > 4 * self._read_limit_s:
                self._limit_reads(left)
        elif self._read_limit_s < _LONG_READ_S / 4:
            self._limit_reads(math.inf)
        try:
            self._inbox.extend(map(self.connection.recv, _READ_SIZES))
        except BlockingIOError:
            pass  # the limit: look at the clock again
        except OSError as error:
            with self._lock:
                self._wake(self.exchange.lost(error.strerror or str(error)))

    def _limit_reads(self, seconds: float) -> None:
        self._read_limit_s = seconds
        whole, part = divmod(max(1, math.ceil(seconds * 1e6)), 1_000_000) if seconds != math.inf else (0, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", whole, part))

    def _push(self, pending: Pending, deadline: float) -> None:
        """Wait until a question has left in full, reading meanwhile: the daemon may be waiting for just that."""
        poll = select.poll()
        while True:
            try:
                with self._lock:
                    self._settle()
                    self._wake(self.flush())
                    if pending.sent or pending.answered:
                        return
                    self._pushing.add(pending)
                    reads = self._reader is None
                    if reads:
                        self._reader = pending
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                poll.register(self.connection, select.POLLOUT | select.POLLIN if reads else select.POLLOUT)
                ready = poll.poll(math.ceil(1000 * min(left, _LONG_READ_S if reads else _LOOK_AGAIN_S)))
                if reads and any(events & ~select.POLLOUT for _, events in ready):
                    self._read(deadline)
            finally:
                with self._lock:
                    self._settle()
                    self._pushing.discard(pending)
                    if self._reader is pending:
                        self._take_inbox()
                        self._step_down()
