"""A thread that reads while Trio's thread waits for it, but not for long.

A question to a worker thread of Trio's costs some turns of the event loop beside the reading, which takes a tenth of that
when the pages are in memory. Here the asker hands over and waits, which costs two changes of thread; if the disk makes it
wait longer than it may, it goes on, and hears of the end later. The thread is begun when it is first needed, and does not
keep the process from ending, however long the disk lets it hang.

The two wake each other by event counters (eventfd(2)). Python's locks and queues would do, but take twice as long: who is woken
by them finds the interpreter still held by who woke it.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any, Final, Generic, TypeVar

import trio

ResultT = TypeVar("ResultT")


class _Reading(Generic[ResultT]):
    """One thing to read. ``results`` holds what it gave, or nothing where it ended in a defect."""

    __slots__ = ("ended", "results", "when_late", "work")

    def __init__(self, work: Callable[[], ResultT]) -> None:
        self.work = work
        self.results: list[ResultT] = []
        self.ended = False
        self.when_late: Callable[[], None] | None = None


class _Line:
    """What a thread and its asker share. It belongs to the thread, which closes it when it is told to end."""

    def __init__(self) -> None:
        self.handed: _Reading[Any] | None = None
        """None: the end."""
        self.asked: Final = os.eventfd(0, os.EFD_CLOEXEC)
        self.done: Final = os.eventfd(0, os.EFD_CLOEXEC)
        self.settling: Final = Lock()

    def hand(self, reading: _Reading[Any] | None) -> None:
        self.handed = reading
        os.eventfd_write(self.asked, 1)

    def read(self) -> None:
        """Be the thread."""
        while True:
            os.eventfd_read(self.asked)
            reading = self.handed
            if reading is None:
                self.close()
                return
            try:
                reading.results.append(reading.work())
            finally:
                with self.settling:
                    reading.ended = True
                if reading.when_late is None:
                    os.eventfd_write(self.done, 1)
                else:
                    reading.when_late()

    def close(self) -> None:
        os.close(self.asked)
        os.close(self.done)


class BriefReader:
    """One at a time is asked; whoever asks sees to that."""

    def __init__(self) -> None:
        self._line: _Line | None = None
        self._thread: Thread | None = None
        self._poll = select.poll()

    def ask(
        self, work: Callable[[], ResultT], limit_s: float, when_late: Callable[[list[ResultT]], None]
    ) -> list[ResultT] | None:
        """Let the thread do ``work``, which must not raise, and give its result as the one item of a list.

        None when it is not done within ``limit_s`` (rounded up to milliseconds); then ``when_late`` is called with the list
        on Trio's thread once it is. The list is empty where ``work`` raised all the same, which ends the thread.
        """
        line = self._line
        if line is None or self._thread is None or not self._thread.is_alive():
            line = self._begin()
        reading = _Reading(work)
        line.hand(reading)
        if not self._poll.poll(math.ceil(limit_s * 1000)):
            token = trio.lowlevel.current_trio_token()
            with line.settling:
                if not reading.ended:
                    reading.when_late = lambda: _tell(token, when_late, reading.results)
                    return None
        os.eventfd_read(line.done)
        return reading.results

    def close(self) -> None:
        """Let the thread end when it has done what it does; a later question begins another."""
        if self._line is not None and self._thread is not None:
            if self._thread.is_alive():
                self._line.hand(None)
            else:
                self._line.close()
        self._line = self._thread = None

    def _begin(self) -> _Line:
        if self._line is not None:  # its thread met a defect
            self._line.close()
        line = self._line = _Line()
        self._poll = select.poll()
        self._poll.register(line.done, select.POLLIN)
        self._thread = Thread(target=line.read, name="aiorchd reader", daemon=True)
        self._thread.start()
        return line


def _tell(token: trio.lowlevel.TrioToken, told: Callable[[list[ResultT]], None], results: list[ResultT]) -> None:
    try:
        token.run_sync_soon(told, results)
    except trio.RunFinishedError:
        pass  # nobody is left to hear of it
