"""Registered models of an asynchronous client: a connection of their own, a task that attends to it, a task for each question.

The counterpart of `host_threads`, for asyncio and trio alike, which says why what the client asks on a new connection waits for
them. Everything happens in the client's loop; functions that are not ``async`` run in threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from aiorch.aio_connections import AsyncConnections
from aiorch.aio_link import AsyncLink, Runtime
from aiorch.callbacks import Callback, Serving
from aiorch.errors import AiorchError, CallError, HostError
from aiorch.exchange import Pending, Resending
from aiorch.hosting import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOVE_S,
    AsyncModelFunction,
    Registered,
    answer_of,
    refusal_of,
    registration,
    removal,
    tell,
    warn,
)
from aiorch.questions import Question, ping, too_late


class HostTasks:
    """The registered models of one client."""

    def __init__(self, connections: AsyncConnections, runtime: Runtime, timeout_s: float | None) -> None:
        self._connections = connections
        self._runtime = runtime
        self._timeout_s = timeout_s
        # This is all the mutable state.
        self._registered = Registered()
        self._link: AsyncLink | None = None
        self._known = False
        """Whether the daemon there has been told of all that was registered before."""
        self._waiting: list[Pending] = []
        """Who waits for a change of these."""
        self._closed = False

    async def register(self, names: Sequence[str], function: AsyncModelFunction, options: Mapping[str, Any]) -> None:
        """Register models and return when the daemon has taken them. Raises what it refuses them with."""
        question = registration(
            names, {name: value for name, value in options.items() if value is not None}, self._timeout_s
        )
        undo = self._registered.add(names, function, options)
        done = False
        try:
            await self._ask(question, names)
            done = True
        finally:
            if not done:
                undo()

    async def remove(self, names: Sequence[str]) -> None:
        """Register them no more. Raises `NotFound` for what is not registered."""
        self._registered.take_out(names)
        for name in names:
            await self._take_back(name)

    def close(self) -> None:
        """End; what functions still answer is dropped."""
        self._closed = True
        self._tell_of_change()
        self._connections.close()

    @property
    def wanted(self) -> bool:
        """Whether the daemon at the other end of a new connection has to be told of models first."""
        return not self._closed and bool(self._registered)

    def begin(self, link: AsyncLink) -> None:
        """Tell it, and release the connection."""
        self._runtime.spawn(partial(self._move, link))

    async def _move(self, asking: AsyncLink) -> None:
        deadline = self._runtime.now() + MOVE_S
        try:
            await asking.wait(asking.exchange.greeting, deadline)
            self._tell_of_change()  # there is a daemon: who waits to look for one again may do so now
            while asking.usable and (link := await self._where_known(deadline)) is not None:
                if await self._answers(link, deadline):
                    break
        except TimeoutError:
            pass  # then its questions take their chances
        finally:
            asking.release()

    async def _where_known(self, deadline: float) -> AsyncLink | None:
        """Wait for a connection on which all is registered; None when there is nothing to wait for any more."""
        while not self._closed and self._registered:
            link = self._link
            if link is not None and link.usable and self._known:
                return link
            await self._change(deadline)
        return None

    async def _answers(self, link: AsyncLink, deadline: float) -> bool:
        """Find out whether a connection's daemon is there and stays."""
        try:
            await self._ask_on(link, ping(None), deadline)
        except AiorchError:
            pass
        return link.usable

    async def _change(self, deadline: float) -> None:
        """Wait until something may have changed. Raises TimeoutError."""
        waiting = Pending(-1, None)
        self._waiting.append(waiting)
        try:
            await self._runtime.park(waiting, deadline)
        finally:
            self._waiting.remove(waiting)

    def _tell_of_change(self) -> None:
        for waiting in self._waiting:
            self._runtime.wake(waiting)

    async def _ask_on(self, link: AsyncLink, question: Question[Any], deadline: float) -> Pending | None:
        """Ask on this connection and wait for what comes of it; None when it takes no questions any more."""
        if not link.usable:
            return None
        pending = link.ask(question)
        try:
            await link.wait(pending, deadline)
        finally:
            if not pending.answered:
                link.forget(pending)
        return pending

    async def _ask(self, question: Question[Any], besides: Sequence[str] = ()) -> None:
        """Ask, by whichever daemon there is."""
        connections = self._connections
        deadline = connections.deadline(question)
        resending = Resending(question)
        while True:
            link = await connections.connected(deadline)
            self._attend(link, besides)
            try:
                pending = await self._ask_on(link, question, deadline)
            except TimeoutError:
                raise too_late(question) from None
            if pending is None:
                continue
            if pending.failure is None:
                return
            question = await connections.again(question, pending, resending, deadline)

    def _attend(self, link: AsyncLink, besides: Sequence[str] = ()) -> None:
        """See to it that a connection is attended to, and all registered on it; ``besides`` is being registered."""
        if self._link is link:
            return
        self._link = link
        names = [name for name in self._registered.names() if name not in besides]
        self._known = not names
        self._tell_of_change()
        self._runtime.spawn(partial(self._serve, link, link.serve()))
        if names:
            self._runtime.spawn(partial(self._register_again, link, names))

    async def _serve(self, link: AsyncLink, serving: Serving) -> None:
        """Begin a task for each question until the connection is over; then see to the next one."""
        while not serving.answered:
            await link.wait(serving, math.inf)
            while serving.callbacks:
                self._runtime.spawn(partial(self._answer, link, serving.callbacks.popleft()))
            if serving.leaving and not serving.answered:
                serving.leaving = False
                self._runtime.spawn(partial(self._again, link))
        await self._again(link)

    async def _answer(self, link: AsyncLink, callback: Callback) -> None:
        function = self._registered.function(callback)
        if function is None:
            link.answer(callback, None, HostError(f"no function answers for {callback.model} any more", stage="client"))
            return
        answer, error = await said_by(self._runtime, function, callback)
        if error is not None:
            tell(error)
        link.answer(callback, answer, None if error is None else refusal_of(error))

    async def _again(self, gone: AsyncLink) -> None:
        """Register everything anew on another connection, however long it takes to have one."""
        pause_s = FIRST_PAUSE_S
        while not self._closed and self._link is gone:
            if not self._registered:
                self._link = None
                return
            try:
                link = await self._connections.connected(self._runtime.now())
            except (AiorchError, RuntimeError):
                try:
                    await self._change(self._runtime.now() + pause_s)
                except TimeoutError:
                    pass
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            self._attend(link)
            return

    async def _register_again(self, link: AsyncLink, names: Sequence[str]) -> None:
        """Register models anew, each by itself: one that is refused takes no other with it."""
        for name in names:
            question = self._registered.question(name, None)
            if question is None:
                continue
            try:
                pending = await self._ask_on(link, question, math.inf)
            except AiorchError:
                pending = None
            if pending is None or not link.usable:
                return  # the connection is over again, and whoever attends to it will see to that
            if isinstance(pending.failure, CallError):
                warn(name, pending.failure)
            if self._registered.question(name, None) is None:
                await self._take_back(name)
        if self._link is link:
            self._known = True
            self._tell_of_change()

    async def _take_back(self, name: str) -> None:
        try:
            await self._ask(removal([name], self._timeout_s))
        except (AiorchError, RuntimeError):
            pass  # it went with its connection


async def said_by(
    runtime: Runtime, function: AsyncModelFunction, callback: Callback
) -> tuple[dict[str, Any] | None, BaseException | None]:
    """Run a function, an ``async`` one in this loop and any other in a thread; gives its answer or what it raised, and neither
    when nobody waits for it any more."""

    async def act() -> Any:
        call = partial(function, callback.model, callback.request)
        whole = function if iscoroutinefunction(function) else getattr(function, "__call__", None)  # noqa: B004
        said = call() if iscoroutinefunction(whole) else await runtime.in_thread(call)
        return answer_of(await said if isawaitable(said) else said)

    if callback.request.called_off:
        return None, None
    return await runtime.run(callback, act)
