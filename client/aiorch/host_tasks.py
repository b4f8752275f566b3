"""Registered models of an asynchronous client: a connection of their own, a task that attends to it, a task for each question.

The counterpart of `host_threads`, for asyncio and trio alike. Everything happens in the client's loop; functions that are not
``async`` run in threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final

from aiorch.aio_connections import AsyncConnections
from aiorch.aio_link import AsyncLink, Runtime
from aiorch.callbacks import Callback, Serving
from aiorch.errors import AiorchError, CallError, HostError
from aiorch.hosting import AsyncModelFunction, Registered, answer_of, refusal_of, registration, removal, tell, warn
from aiorch.questions import Question, too_late

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0


class HostTasks:
    """The registered models of one client."""

    def __init__(self, connections: AsyncConnections, runtime: Runtime, timeout_s: float | None) -> None:
        self._connections = connections
        self._runtime = runtime
        self._timeout_s = timeout_s
        # This is all the mutable state.
        self._registered = Registered()
        self._link: AsyncLink | None = None
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
        self._connections.close()

    async def _ask(self, question: Question[Any], besides: Sequence[str] = ()) -> None:
        connections = self._connections
        deadline = connections.deadline(question)
        self._attend(await connections.connected(deadline), besides)
        link, pending = await connections.send(question, deadline)
        try:
            await link.wait(pending, deadline)
        except TimeoutError:
            raise too_late(question) from None
        finally:
            if not pending.answered:
                link.forget(pending)
        if pending.failure is not None:
            raise pending.failure

    def _attend(self, link: AsyncLink, besides: Sequence[str] = ()) -> None:
        """See to it that a connection is attended to, and all registered on it; ``besides`` is being registered."""
        if self._link is link:
            return
        self._link = link
        self._runtime.spawn(partial(self._serve, link, link.serve()))
        names = [name for name in self._registered.names() if name not in besides]
        if names:
            self._runtime.spawn(partial(self._register_again, names))

    async def _serve(self, link: AsyncLink, serving: Serving) -> None:
        """Begin a task for each question until the connection is over; then see to the next one."""
        while not serving.answered:
            await link.wait(serving, float("inf"))
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
        pause_s = _FIRST_PAUSE_S
        while not self._closed and self._link is gone:
            if not self._registered:
                self._link = None
                return
            try:
                link = await self._connections.connected(self._runtime.now() + pause_s)
            except (AiorchError, RuntimeError):
                await self._runtime.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            self._attend(link)
            return

    async def _register_again(self, names: Sequence[str]) -> None:
        """Register models anew, each by itself: one that is refused takes no other with it."""
        for name in names:
            question = self._registered.question(name, self._timeout_s)
            if question is None:
                continue
            try:
                await self._ask(question)
            except CallError as failure:
                warn(name, failure)
            except (AiorchError, RuntimeError):
                return  # the connection is over again, and whoever attends to it will see to that
            if self._registered.question(name, None) is None:
                await self._take_back(name)

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
