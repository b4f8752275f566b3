"""The connections of a blocking client: which one to ask on, making one, sending again, forks, the end."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from aiorch.address import Dial, Patience
from aiorch.exchange import Answering, Pending, Resending
from aiorch.link import Link
from aiorch.questions import Question, too_late
from aiorch.reply import Server

T = TypeVar("T")


class Moving(Protocol):
    """What a client has to do elsewhere before it asks anything on a new connection."""

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do, in this process."""
        ...

    def begin(self, link: Link) -> None:
        """Do it beside, and let the questions leave that are held back on this connection when it is done, or cannot be."""
        ...


class _Home:
    """What one process has of a client: its connections, and the lock for making a new one."""

    def __init__(self, paths: tuple[str, ...], patience: Patience) -> None:
        self.paths = paths
        self.patience = patience
        self.lock = threading.Lock()
        self.link: Link | None = None
        self.links: tuple[Link, ...] = ()


class Connections:
    """Thread-safe. Questions go to the newest connection; older ones live until what was asked on them is answered."""

    def __init__(self, paths: tuple[str, ...], *, connect_timeout_s: float, grace_s: float) -> None:
        self._paths = paths
        self._connect_timeout_s = connect_timeout_s
        self._grace_s = grace_s
        self._homes: dict[int, _Home] = {}
        """By process id: a forked child finds none of its own here and makes one."""
        self.moving: Moving | None = None
        """Set once a model is registered."""
        self._closed = False

    @property
    def server(self) -> Server | None:
        """Who answered last, as far as it has said so."""
        home = self._homes.get(os.getpid())
        links = home.links if home is not None else ()
        return next((link.exchange.server for link in reversed(links) if link.exchange.server is not None), None)

    def deadline(self, question: Question[Any]) -> float:
        """Give the monotonic time until which an answer is awaited from now."""
        timeout_s = question.timeout_s
        if timeout_s is None:
            return math.inf
        if (
            type(timeout_s) is float and timeout_s > 0.0 and question.carries_timeout
        ):  # nearly always; the rule is there
            return time.monotonic() + timeout_s + self._grace_s
        return time.monotonic() + question.patience_s(self._grace_s)

    def send(self, question: Question[Any], deadline: float) -> tuple[Link, Pending]:
        """Send a question on the connection there is, or on a new one.

        Raises `Unreachable`, `DeadlineExceeded`, and what `Exchange.ask` raises.
        """
        while True:
            home = self._homes.get(os.getpid())
            link = home.link if home is not None else None
            if link is None or not link.usable:
                link = self._connect(deadline)
            try:
                pending = link.ask(question, deadline)
            except TimeoutError:
                raise too_late(question) from None
            if pending is not None:
                return link, pending

    def like_these(self) -> Connections:
        """Make others to the same daemon, for another purpose."""
        home = self._homes.get(os.getpid())
        paths = self._paths if home is None else home.paths
        return Connections(paths, connect_timeout_s=self._connect_timeout_s, grace_s=self._grace_s)

    def connected(self, deadline: float) -> Link:
        """Give the connection there is, or a new one. Raises `Unreachable`."""
        home = self._homes.get(os.getpid())
        link = home.link if home is not None else None
        return link if link is not None and link.usable else self._connect(deadline)

    def ask_answering(
        self, question: Question[Any], deadline: float, answer: Callable[[Link, Answering], None]
    ) -> Pending:
        """Do as `ask` for a question whose model this process answers for: ``answer`` is called when it is asked back."""
        link, pending = self.send(question, deadline)
        try:
            while not pending.answered:
                link.wait(pending, deadline)
                if type(pending) is Answering and not pending.answered:
                    answer(link, pending)
        finally:
            if not pending.answered:
                link.forget(pending)
        return pending

    def ask_alone(self, question: Question[Any], deadline: float) -> tuple[Any] | Pending | None:
        """Do as `Link.ask_alone` on the connection there is, if any."""
        home = self._homes.get(os.getpid())
        link = home.link if home is not None else None
        return link.ask_alone(question, deadline) if link is not None else None

    def ask(self, question: Question[Any], deadline: float) -> Pending:
        """Send a question that does not stream and wait until it is over; raises what `send` and `Link.wait` raise."""
        link, pending = self.send(question, deadline)
        try:
            link.wait(pending, deadline)
        finally:
            if not pending.answered:
                link.forget(pending)
        return pending

    def again(self, question: Question[T], failed: Pending, resending: Resending, deadline: float) -> Question[T]:
        """Give the question to send once more, when it is time to; or raise what failed it."""
        question, pause_s = resending.again(question, failed, deadline - self._grace_s - time.monotonic())
        time.sleep(pause_s)
        return question

    def cancel(self, call_id: str | int) -> None:
        """Have a call cancelled, on whichever connection it is."""
        home = self._homes.get(os.getpid())
        for link in home.links if home is not None else ():
            link.cancel(call_id)

    def close(self) -> None:
        """End all; whoever waits is told."""
        self._closed = True
        home = self._homes.get(os.getpid())
        for link in home.links if home is not None else ():
            link.close()

    def let_go(self) -> None:
        """In a forked child: close its copies of the parent's sockets, and nothing else."""
        for home in tuple(self._homes.values()):
            for link in home.links:
                link.connection.close()

    def _connect(self, deadline: float) -> Link:
        self._refuse_if_closed()
        home = self._homes.setdefault(
            os.getpid(), _Home(self._paths, Patience(self._connect_timeout_s))
        )  # one operation: threads of a child may race here
        self._leave_the_parents(home)
        started = time.monotonic()
        give_up_at = min(deadline, home.patience.until(started, home.link))
        dial = Dial(home.paths)
        while True:
            with home.lock:  # never held while waiting: an attempt does not block
                if home.link is not None and home.link.usable:
                    return home.link
                connected = dial.attempt()
                if connected is not None:
                    link = self._adopt(home, *connected)
                    self._refuse_if_closed()
                    return link
            now = time.monotonic()
            if now + dial.delay_s > give_up_at:
                raise dial.unreachable(now - started)
            time.sleep(dial.delay_s)
            self._refuse_if_closed()

    def _adopt(self, home: _Home, connection: socket.socket, path: str) -> Link:
        moving = self.moving if self.moving is not None and self.moving.wanted else None
        link = Link(connection, careful=home.link is not None, held=moving is not None)
        if moving is not None:
            moving.begin(link)  # before anybody can ask on it: whatever interrupts this thread, somebody releases it
        home.links = (*(old for old in home.links if not old.closed), link)
        home.link = link
        home.paths = (path,)  # another daemon, with another configuration, is no replacement for the one it knows
        if self._closed:  # by another thread, meanwhile
            link.close()
        return link

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this client was closed")

    def _leave_the_parents(self, home: _Home) -> None:
        """After a fork: close the child's copies of the parent's sockets, so that their end is the parent's alone to say."""
        for pid, other in tuple(self._homes.items()):
            if other is not home:
                home.paths = other.paths
                for link in other.links:
                    link.connection.close()
                self._homes.pop(pid, None)
