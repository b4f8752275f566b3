"""The asynchronous client, for asyncio and trio, with the surface of the blocking one."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

from aiorch import questions
from aiorch.address import candidates
from aiorch.aio_connections import AsyncConnections, current_runtime
from aiorch.aio_link import AsyncLink, Runtime
from aiorch.errors import HostError
from aiorch.exchange import Answering, Pending, Resending, whole_answer
from aiorch.questions import CompleteOptions, EmbedOptions, Question, too_late
from aiorch.reply import Delta, Embedding, Reply, Server

if TYPE_CHECKING:
    from aiorch.host_tasks import HostTasks
    from aiorch.hosting import ModelOptions

T = TypeVar("T")


class AsyncClient:
    """An asynchronous client of the daemon: ``async with aiorch.AsyncClient() as client``. Tasks share it.

    Works in tasks of asyncio and of trio; the ``async with`` block says which, and owns what runs in the background.
    Arguments, errors and habits are those of `Client`; cancelling a task that waits cancels its call in the daemon. It
    belongs to the loop it was opened in and does not survive a fork.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float = 2.0,
        grace_s: float = 1.0,
    ) -> None:
        self._paths = candidates(socket, os.environ)
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._grace_s = grace_s
        self._runtime: Runtime | None = None
        self._connections: AsyncConnections | None = None
        self._host_tasks: HostTasks | None = None
        """Made when a model is registered."""

    async def __aenter__(self) -> Self:
        if self._connections is not None:
            raise RuntimeError("an AsyncClient is opened once")
        self._runtime = runtime = current_runtime()
        await runtime.open()
        self._connections = AsyncConnections(
            self._paths, runtime, connect_timeout_s=self._connect_timeout_s, grace_s=self._grace_s
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()
        if self._host_tasks is not None:
            self._host_tasks.close()
        if self._runtime is not None:
            await self._runtime.close()

    # asking

    async def complete(self, prompt: str | None = None, **options: Unpack[CompleteOptions]) -> Reply:
        """See `Client.complete`."""
        question = questions.complete("complete", prompt, options, self._timeout_s)
        return await self._ask(question, options.get("model_call_func"))

    def stream(self, prompt: str | None = None, **options: Unpack[CompleteOptions]) -> AsyncStream:
        """Ask for one answer piece by piece: ``async for piece in client.stream(...)``. See `Client.stream`."""
        question = questions.complete("stream", prompt, options, self._timeout_s, streams=True)
        return AsyncStream(self._opened, question, options.get("model_call_func"))

    async def embed(self, input: Sequence[str] | str, **options: Unpack[EmbedOptions]) -> Embedding:  # noqa: A002 - its name
        """See `Client.embed`."""
        return await self._ask(questions.embed(input, options, self._timeout_s))

    async def register_model(
        self, name: str | Sequence[str], *, call: Callable[[str, Any], Any], **options: Unpack[ModelOptions]
    ) -> None:
        """See `Client.register_model`. The function may be ``async``: then it runs in this loop, and is cancelled when nobody
        waits for its answer any more; any other runs in a thread."""
        from aiorch.hosting import names_of

        await self._hosting().register(names_of(name), call, cast("dict[str, Any]", options))

    async def unregister_model(self, name: str | Sequence[str]) -> None:
        """See `Client.unregister_model`."""
        from aiorch.hosting import names_of

        await self._hosting().remove(names_of(name))

    async def ping(self) -> str:
        """See `Client.ping`."""
        return await self._ask(questions.ping(self._timeout_s))

    async def hello(self) -> Server:
        """See `Client.hello`."""
        return await self._ask(questions.hello(self._timeout_s))

    async def status(self) -> dict[str, Any]:
        """See `Client.status`."""
        return await self._ask(questions.status(self._timeout_s))

    async def stats(
        self, *, since_s: float | None = None, by: str | None = None, own: bool | None = None
    ) -> dict[str, Any]:
        """See `Client.stats`."""
        return await self._ask(questions.stats(since_s, by, own, self._timeout_s))

    async def explain(self, request_id: str) -> dict[str, Any]:
        """See `Client.explain`."""
        return await self._ask(questions.explain(request_id, self._timeout_s))

    async def models_list(self) -> list[dict[str, Any]]:
        """See `Client.models_list`."""
        return await self._ask(questions.models_list(self._timeout_s))

    async def cache_stats(self) -> dict[str, Any]:
        """See `Client.cache_stats`."""
        return await self._ask(questions.cache_stats(self._timeout_s))

    async def cache_clear(self, *, operation: str | None = None) -> int:
        """See `Client.cache_clear`."""
        return await self._ask(questions.cache_clear(operation, self._timeout_s))

    async def feedback(self, request_id: str, *, correct: bool) -> bool:
        """See `Client.feedback`."""
        return await self._ask(questions.feedback(request_id, correct, self._timeout_s))

    async def cache_forget(
        self, *, request_id: str | None = None, tag: str | None = None, operation: str | None = None
    ) -> int:
        """See `Client.cache_forget`."""
        return await self._ask(questions.cache_forget(request_id, tag, operation, self._timeout_s))

    async def cache_explain(self, operation: str, a: Any, b: Any) -> dict[str, Any]:
        """Ask whether two inputs of an operation are one question to the cache, at which depth, and why."""
        return await self._ask(questions.cache_explain(operation, a, b, self._timeout_s))

    async def config_get(self, key: str | None = None) -> Any:
        """See `Client.config_get`."""
        return await self._ask(questions.config_get(key, self._timeout_s))

    async def config_reload(self) -> dict[str, Any]:
        """See `Client.config_reload`."""
        return await self._ask(questions.config_reload(self._timeout_s))

    async def config_layers(self) -> dict[str, Any]:
        """See `Client.config_layers`."""
        return await self._ask(questions.config_layers(self._timeout_s))

    async def config_override(self, key: str, value: Any) -> dict[str, Any]:
        """See `Client.config_override`."""
        return await self._ask(questions.config_override(key, value, self._timeout_s))

    async def config_reset(self, key: str | None = None) -> dict[str, Any]:
        """See `Client.config_reset`."""
        return await self._ask(questions.config_reset(key, self._timeout_s))

    async def call(self, method: str, /, **arguments: Any) -> Any:
        """See `Client.call`."""
        return await self._ask(questions.plain(method, arguments, self._timeout_s))

    def cancel(self, call_id: str | int) -> None:
        """See `Client.cancel`; cancelling the task that waits does the same without a name."""
        self._opened.cancel(call_id)

    @property
    def server(self) -> Server | None:
        """See `Client.server`."""
        return self._opened.server

    @property
    def _opened(self) -> AsyncConnections:
        if self._connections is None:
            raise RuntimeError("open the client first: async with aiorch.AsyncClient() as client")
        return self._connections

    def _hosting(self) -> HostTasks:
        from aiorch.host_tasks import HostTasks

        if self._host_tasks is None:
            opened = self._opened
            self._host_tasks = HostTasks(opened.like_these(), opened.runtime, self._timeout_s)
            opened.moving = self._host_tasks
        return self._host_tasks

    async def _ask(self, question: Question[T], function: Callable[[str, Any], Any] | None = None) -> T:
        connections = self._opened
        deadline = connections.deadline(question)
        resending: Resending | None = None
        while True:
            link, pending = await connections.send(question, deadline)
            raised: BaseException | None = None
            try:
                await link.wait(pending, deadline)
                while type(pending) is Answering and not pending.answered:
                    raised = await _answer(connections.runtime, function, link, pending)
                    await link.wait(pending, deadline)
            except TimeoutError:
                raise too_late(question) from None
            finally:
                if not pending.answered:
                    link.forget(pending)
            if pending.failure is None:
                return question.parse(pending.result)
            if raised is not None and isinstance(pending.failure, HostError):
                raise pending.failure from raised
            if resending is None:
                resending = Resending(question)
            question = await connections.again(question, pending, resending, deadline)


class AsyncStream:
    """One streamed answer; iterating asynchronously gives its text piece by piece. See `Stream`; for one task at a time.

    Leave its ``async with`` block, or ``aclose`` it, to cancel what has not come yet. An object that is dropped does so
    too, a moment later.
    """

    def __init__(
        self,
        connections: AsyncConnections,
        question: Question[Reply],
        function: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._function = function
        self._connections = connections
        self._question = question
        self._deadline = math.inf
        self._link: AsyncLink | None = None
        self._pending: Pending | None = None
        self._resending = Resending(question)
        self._over = False
        self._reply: Reply | None = None

    @property
    def reply(self) -> Reply:
        """The whole answer, once the last piece has been taken. Raises RuntimeError before."""
        if self._reply is None:
            raise RuntimeError("the stream has not come to its end")
        return self._reply

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while True:
            delta = await self._next()
            if delta is None:
                raise StopAsyncIteration
            if delta.text:
                return delta.text

    def events(self) -> AsyncIterator[Delta]:
        """Iterate over all pieces, parts of tool calls included."""
        return _Events(self)

    async def aclose(self) -> None:
        """Cancel what has not come yet."""
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        link, pending = getattr(self, "_link", None), getattr(self, "_pending", None)
        if link is not None and pending is not None and not pending.answered and link.pid == os.getpid():
            link.abandon(pending)

    def _close(self) -> None:
        self._over = True
        if self._link is not None and self._pending is not None and not self._pending.answered:
            self._link.forget(self._pending)

    async def _next(self) -> Delta | None:
        while not self._over:
            link, pending = self._link, self._pending
            if link is None or pending is None:
                self._deadline = self._connections.deadline(self._question)
                await self._send()
            elif pending.deltas:
                await link.wait(pending, self._deadline)
                return pending.deltas.popleft()
            elif not pending.answered:
                await self._wait(link, pending)
                if type(pending) is Answering and pending.callbacks and not pending.answered:
                    await self._answer(link, pending)
            elif pending.failure is None:
                self._over = True
                self._reply = reply = self._question.parse(pending.result)
                return whole_answer(pending, reply)
            else:
                self._over = True  # unless
                self._question = await self._connections.again(self._question, pending, self._resending, self._deadline)
                await self._send()
                self._over = False
        return None

    async def _send(self) -> None:
        self._link, self._pending = await self._connections.send(self._question, self._deadline)

    async def _answer(self, link: AsyncLink, pending: Answering) -> None:
        done = False
        try:
            await _answer(self._connections.runtime, self._function, link, pending)
            done = True
        finally:
            if not done:
                self._close()

    async def _wait(self, link: AsyncLink, pending: Pending) -> None:
        try:
            await link.wait(pending, self._deadline)
        except TimeoutError:
            raise too_late(self._question) from None
        finally:
            if not pending.moved:
                self._close()


async def _answer(
    runtime: Runtime, function: Callable[[str, Any], Any] | None, link: AsyncLink, asked: Answering
) -> BaseException | None:
    """Answer what was asked back by the function that came with the call; gives what it raised last."""
    from aiorch.host_tasks import said_by
    from aiorch.hosting import refusal_of

    raised: BaseException | None = None
    while asked.callbacks and function is not None:
        callback = asked.callbacks.popleft()
        answer, raised = await said_by(runtime, function, callback)
        link.answer(callback, answer, None if raised is None else refusal_of(raised))
    return raised


class _Events:
    """The pieces of a stream as they came; not an async generator, which would need closing."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        delta = await self._stream._next()  # noqa: SLF001 - two halves of one thing
        if delta is None:
            raise StopAsyncIteration
        return delta
