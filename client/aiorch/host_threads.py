"""Registered models of a blocking client: a connection of their own, a thread that reads it, and threads that run functions.

Nothing of this is there unless something is registered. Registered models have their own connection, so that calls of the
client never wait for a reader that is busy with them, nor the other way round. When it is lost, as it is when the daemon is
restarted, it is made again and everything is registered anew, for as long as the client is open. A daemon that goes away is
still answered on the old connection, until it closes that, while its successor is asked to take over.

What the client asks on a new connection is held back until the daemon there knows the models. A new connection of the client
says nothing about where that of the models is: the daemon may have been replaced between the two, and word of it may still be
on its way. But once the new one is greeted, a daemon that answers on the models' connection is the one that greeted: the one
before has told everybody that it goes, or is dead. So the answer to one ``ping`` there is waited for.

All threads are daemonic: a process ends when its main thread does, whatever a function waits for.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiorch.callbacks import Callback, Serving
from aiorch.connections import Connections
from aiorch.errors import AiorchError, CallError, HostError
from aiorch.exchange import Pending, Resending
from aiorch.hosting import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOVE_S,
    ModelFunction,
    Registered,
    refusal_of,
    registration,
    removal,
    said_of,
    tell,
    warn,
)
from aiorch.link import Link
from aiorch.questions import Question, ping, too_late

_MOST_THREADS: Final = 256
"""As many questions as the daemon has open to one connection."""
_IDLE_S: Final = 10.0


class HostThreads:
    """The registered models of one client in one process."""

    def __init__(self, connections: Connections, timeout_s: float | None) -> None:
        self.pid = os.getpid()
        self._connections = connections
        self._timeout_s = timeout_s
        self._workers = _Workers(_MOST_THREADS)
        self._closed = threading.Event()
        # This is all the mutable state; the condition's lock guards it, and nobody waits for the network under it.
        self._changed = threading.Condition()
        self._registered = Registered()
        self._link: Link | None = None
        self._known = False
        """Whether the daemon there has been told of all that was registered before."""
        os.register_at_fork(after_in_child=_Forgetting(self))

    def register(self, names: Sequence[str], function: ModelFunction, options: Mapping[str, Any]) -> None:
        """Register models and return when the daemon has taken them. Raises what it refuses them with."""
        question = registration(
            names, {name: value for name, value in options.items() if value is not None}, self._timeout_s
        )
        with self._changed:
            undo = self._registered.add(names, function, options)
        done = False
        try:
            self._ask(question, names)
            done = True
        finally:
            if not done:
                with self._changed:
                    undo()

    def remove(self, names: Sequence[str]) -> None:
        """Register them no more. Raises `NotFound` for what is not registered."""
        with self._changed:
            self._registered.take_out(names)
        for name in names:
            self._take_back(name)

    def close(self) -> None:
        """End; what functions still answer is dropped."""
        if self.pid != os.getpid():
            return  # a forked child has none of this, and locks that nobody will ever release
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._workers.close()
        self._connections.close()

    def forget(self) -> None:
        """In a forked child: let go of the parent's connection, whose end is the parent's alone to say."""
        self._connections.let_go()

    @property
    def wanted(self) -> bool:
        """Whether the daemon at the other end of a new connection has to be told of models first."""
        return self.pid == os.getpid() and not self._closed.is_set() and bool(self._registered)

    def begin(self, link: Link) -> None:
        """Tell it, and release the connection."""
        try:
            _begin(lambda: self._move(link), "aiorch-host-move")
        except RuntimeError:  # there are no threads to be had, as when the interpreter ends
            link.release()

    def _move(self, asking: Link) -> None:
        deadline = time.monotonic() + MOVE_S
        try:
            asking.wait(asking.exchange.greeting, deadline)
            with self._changed:
                self._changed.notify_all()  # there is a daemon: who waits to look for one again may do so now
            while asking.usable and (link := self._where_known(deadline)) is not None:
                if self._answers(link, deadline):
                    break
        except TimeoutError:
            pass  # then its questions take their chances
        finally:
            asking.release()

    def _where_known(self, deadline: float) -> Link | None:
        """Wait for a connection on which all is registered; None when there is nothing to wait for any more."""
        with self._changed:
            while not self._closed.is_set() and self._registered:
                link = self._link
                if link is not None and link.usable and self._known:
                    return link
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
        return None

    def _answers(self, link: Link, deadline: float) -> bool:
        """Find out whether a connection's daemon is there and stays."""
        try:
            self._ask_on(link, ping(None), deadline)
        except AiorchError:
            pass
        return link.usable

    def _ask_on(self, link: Link, question: Question[Any], deadline: float) -> Pending | None:
        """Ask on this connection and wait for what comes of it; None when it takes no questions any more."""
        pending = link.ask(question, deadline)
        if pending is not None:
            try:
                link.wait(pending, deadline)
            finally:
                if not pending.answered:
                    link.forget(pending)
        return pending

    def _ask(self, question: Question[Any], besides: Sequence[str] = ()) -> None:
        """Ask, by whichever daemon there is."""
        connections = self._connections
        deadline = connections.deadline(question)
        resending = Resending(question)
        while True:
            link = connections.connected(deadline)
            self._attend(link, besides)
            try:
                pending = self._ask_on(link, question, deadline)
            except TimeoutError:
                raise too_late(question) from None
            if pending is None:
                continue
            if pending.failure is None:
                return
            question = connections.again(question, pending, resending, deadline)

    def _attend(self, link: Link, besides: Sequence[str] = ()) -> None:
        """See to it that a connection is read, and that everything is registered on it; ``besides`` is being registered."""
        with self._changed:
            if self._link is link:
                return
            self._link = link
            names = [name for name in self._registered.names() if name not in besides]
            self._known = not names
            self._changed.notify_all()
        _begin(lambda: self._serve(link, link.serve()), "aiorch-host")
        if names:
            _begin(lambda: self._register_again(link, names), "aiorch-host-again")

    def _serve(self, link: Link, serving: Serving) -> None:
        """Hand questions to threads until the connection is over; then see to the next one."""
        while not serving.answered:
            link.wait(serving, math.inf)
            while serving.callbacks:
                callback = serving.callbacks.popleft()
                self._workers.run(lambda callback=callback: self._answer(link, callback))  # type: ignore[misc]
            if serving.leaving and not serving.answered:
                serving.leaving = False
                _begin(lambda: self._again(link), "aiorch-host-again")
        self._again(link)

    def _answer(self, link: Link, callback: Callback) -> None:
        if callback.request.called_off:
            return
        with self._changed:
            function = self._registered.function(callback)
        if function is None:
            link.answer(callback, None, HostError(f"no function answers for {callback.model} any more", stage="client"))
            return
        answer, error = said_of(function, callback)
        if error is not None:
            tell(error)
        link.answer(callback, answer, None if error is None else refusal_of(error))

    def _again(self, gone: Link) -> None:
        """Register everything anew on another connection, however long it takes to have one."""
        pause_s = FIRST_PAUSE_S
        while not self._closed.is_set():
            with self._changed:
                if self._link is not gone or not self._registered:
                    if self._link is gone:
                        self._link = None
                    return
            try:
                link = self._connections.connected(time.monotonic())
            except (AiorchError, RuntimeError):
                with self._changed:
                    self._changed.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            self._attend(link)
            return

    def _register_again(self, link: Link, names: Sequence[str]) -> None:
        """Register models anew, each by itself: one that is refused takes no other with it."""
        for name in names:
            with self._changed:
                question = self._registered.question(name, None)
            if question is None:
                continue
            try:
                pending = self._ask_on(link, question, math.inf)
            except AiorchError:
                pending = None
            if pending is None or not link.usable:
                return  # the connection is over again, and whoever reads it will see to that
            if isinstance(pending.failure, CallError):
                warn(name, pending.failure)
            with self._changed:
                gone = self._registered.question(name, None) is None
            if gone:
                self._take_back(name)
        with self._changed:
            if self._link is link:
                self._known = True
                self._changed.notify_all()

    def _take_back(self, name: str) -> None:
        try:
            self._ask(removal([name], self._timeout_s))
        except (AiorchError, RuntimeError):
            pass  # it went with its connection


def _begin(act: Callable[[], None], name: str) -> None:
    threading.Thread(target=act, name=name, daemon=True).start()


class _Forgetting:
    """What a forked child does about the parent's connection; holds on to nothing."""

    def __init__(self, hosting: HostThreads) -> None:
        self._hosting = weakref.ref(hosting)

    def __call__(self) -> None:
        hosting = self._hosting()
        if hosting is not None:
            hosting.forget()


class _Workers:
    """Threads made as they are needed; one without work for a while ends."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._idle = self._threads = 0
        self._closed = False

    def run(self, act: Callable[[], None]) -> None:
        """Have something done soon, beside all else that is done."""
        with self._changed:
            self._waiting.append(act)
            if self._idle >= len(self._waiting) or self._threads >= self._at_most:
                self._changed.notify()
                return
            self._threads += 1
        _begin(self._work, "aiorch-host-function")

    def close(self) -> None:
        """Begin nothing more; what runs goes on."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (act := self._next()) is not None:
            act()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            try:
                while not self._waiting:
                    if self._closed or not self._changed.wait(_IDLE_S):
                        if self._waiting:
                            break
                        self._threads -= 1
                        return None
                return self._waiting.popleft()
            finally:
                self._idle -= 1
