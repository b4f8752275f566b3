"""Clients made steerable for the conformance suite: the library's three, and any program that speaks lines of JSON.

A program under test is started with the socket's path as its last argument. It reads one JSON map a line from its
standard input and writes one a line to its standard output, whenever it has something to say:

    {"id": 1, "do": "call", "method": "complete", "arguments": {"prompt": "hi"}}
    {"id": 2, "do": "call", "method": "complete", "arguments": {"prompt": "hi", "stream": true}}
    {"id": 2, "do": "cancel"}

    {"id": 2, "piece": "ho"}                                a piece of a streamed answer
    {"id": 1, "result": {"text": "ho", ...}}                the result; vectors as lists of numbers
    {"id": 2, "error": {"code": "cancelled", "message": ...}}

Every call is answered once by a result or an error. Errors of the daemon carry its codes; what the client itself finds
has the codes ``connection_lost``, ``unreachable`` and ``incomplete_stream``. Calls are carried out side by side. When its
standard input ends, the program ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import trio
from conformance import PATIENCE_S, Driver, HostingDriver, Started, Streaming

import aiorch
from aiorch.errors import error_from_wire


def _plain(result: Any) -> Any:
    """Give results as plain data, whatever record the library made of them."""
    if isinstance(result, aiorch.Reply):
        return result.raw
    if isinstance(result, aiorch.Embedding):
        return {**result.raw, "vectors": [list(vector) for vector in result.vectors]}
    if isinstance(result, aiorch.Server):
        return result.raw
    return result


# the blocking client


class BlockingDriver:
    """`aiorch.Client`, with a thread for every call that is started."""

    def __init__(self, client: aiorch.Client) -> None:
        self.client = client
        self._begun = 0

    def call(self, method: str, **arguments: Any) -> Any:
        return _plain(_method(self.client, method)(**arguments))

    def start(self, **arguments: Any) -> Started:
        self._begun += 1
        arguments.setdefault("call_id", f"started-{self._begun}")
        return _BlockingCall(self.client, arguments)

    def stream(self, **arguments: Any) -> Streaming:
        return _BlockingStream(self.client.stream(**arguments))

    def register(self, name: str, function: Callable[[str, Any], Any], **options: Any) -> None:
        self.client.register_model(name, call=function, **options)

    def unregister(self, name: str) -> None:
        self.client.unregister_model(name)

    def waiting(self) -> tuple[Callable[[str, Any], Any], Callable[[], int], Callable[[], int]]:
        begun: list[float] = []
        told: list[float] = []

        def wait(model: str, request: Any) -> Any:
            begun.append(time.monotonic())
            # A thread that made a call hears nothing while it runs its function; its daemon has given up by then.
            while not request.called_off and time.monotonic() < begun[-1] + 1.0:
                time.sleep(0.01)
            told.append(time.monotonic())
            return "too late"

        return wait, lambda: len(begun), lambda: len(told)


class _BlockingCall:
    def __init__(self, client: aiorch.Client, arguments: dict[str, Any]) -> None:
        self._client = client
        self._call_id = arguments["call_id"]
        self._done: Future[Any] = Future()
        thread = threading.Thread(target=self._run, args=(arguments,), daemon=True)
        thread.start()

    def _run(self, arguments: dict[str, Any]) -> None:
        try:
            self._done.set_result(self._client.complete(**arguments).raw)
        except BaseException as error:
            self._done.set_exception(error)

    def result(self) -> Mapping[str, Any]:
        return self._done.result(PATIENCE_S)

    def cancel(self) -> None:
        self._client.cancel(self._call_id)


class _BlockingStream:
    def __init__(self, stream: aiorch.Stream) -> None:
        self._stream = stream

    def next(self) -> str | None:
        return next(self._stream, None)

    def reply(self) -> Mapping[str, Any]:
        return self._stream.reply.raw

    def close(self) -> None:
        self._stream.close()


def _method(client: Any, method: str) -> Callable[..., Any]:
    """Choose the typed method where there is one; ``complete`` is typed in `start`, and here as the wire has it."""
    if method in ("embed", "hello", "ping", "explain"):
        typed: Callable[..., Any] = getattr(client, method)
        return typed
    return lambda **arguments: client.call(method, **arguments)


# the asynchronous client


class Loop(Protocol):
    """An event loop in a thread."""

    def spawn(self, act: Callable[[], Awaitable[Any]]) -> tuple[Future[Any], Callable[[], None]]:
        """Start something; gives its outcome to come, and what cancels it."""
        ...

    async def forever(self) -> None:
        """Wait until cancelled."""
        ...


class AsyncDriver:
    """`aiorch.AsyncClient` on a loop in a thread of its own."""

    def __init__(self, client: aiorch.AsyncClient, loop: Loop) -> None:
        self._client = client
        self._loop = loop

    def call(self, method: str, **arguments: Any) -> Any:
        return _plain(self._run(lambda: _method(self._client, method)(**arguments)))

    def start(self, **arguments: Any) -> Started:
        return _AsyncCall(*self._loop.spawn(lambda: self._client.complete(**arguments)))

    def stream(self, **arguments: Any) -> Streaming:
        return _AsyncStream(self, self._client.stream(**arguments))

    def register(self, name: str, function: Callable[[str, Any], Any], **options: Any) -> None:
        self._run(lambda: self._client.register_model(name, call=function, **options))

    def unregister(self, name: str) -> None:
        self._run(lambda: self._client.unregister_model(name))

    def waiting(self) -> tuple[Callable[[str, Any], Any], Callable[[], int], Callable[[], int]]:
        begun: list[float] = []
        told: list[float] = []

        async def wait(model: str, request: Any) -> Any:
            begun.append(time.monotonic())
            try:
                await self._loop.forever()
            finally:
                told.append(time.monotonic())

        return wait, lambda: len(begun), lambda: len(told)

    def _run(self, act: Callable[[], Awaitable[Any]]) -> Any:
        outcome, _ = self._loop.spawn(act)
        return outcome.result(PATIENCE_S)


class _AsyncCall:
    def __init__(self, outcome: Future[Any], cancel: Callable[[], None]) -> None:
        self._outcome = outcome
        self.cancel = cancel

    def result(self) -> Mapping[str, Any]:
        reply: aiorch.Reply = self._outcome.result(PATIENCE_S)
        return reply.raw


class _AsyncStream:
    def __init__(self, driver: AsyncDriver, stream: aiorch.AsyncStream) -> None:
        self._driver = driver
        self._stream = stream

    def next(self) -> str | None:
        async def next_piece() -> str | None:
            return await anext(self._stream, None)

        piece: str | None = self._driver._run(next_piece)
        return piece

    def reply(self) -> Mapping[str, Any]:
        return self._stream.reply.raw

    def close(self) -> None:
        self._driver._run(self._stream.aclose)


class AsyncioLoop:
    """See `Loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def spawn(self, act: Callable[[], Awaitable[Any]]) -> tuple[Future[Any], Callable[[], None]]:
        async def run() -> Any:
            return await act()

        outcome = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return outcome, lambda: (outcome.cancel(), None)[1]

    async def forever(self) -> None:
        await asyncio.Event().wait()


class TrioLoop:
    """See `Loop`."""

    def __init__(self, token: trio.lowlevel.TrioToken, nursery: trio.Nursery) -> None:
        self._token = token
        self._nursery = nursery

    def spawn(self, act: Callable[[], Awaitable[Any]]) -> tuple[Future[Any], Callable[[], None]]:
        outcome: Future[Any] = Future()
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    outcome.set_result(await act())
                except Exception as error:
                    outcome.set_exception(error)
            if scope.cancelled_caught:
                outcome.set_exception(aiorch.Cancelled("its scope was"))

        self._token.run_sync_soon(self._nursery.start_soon, run)
        return outcome, lambda: self._token.run_sync_soon(scope.cancel)

    async def forever(self) -> None:
        await trio.sleep_forever()


@contextlib.contextmanager
def _in_thread(run: Callable[[Future[AsyncDriver]], None], stop: list[Callable[[], None]]) -> Iterator[AsyncDriver]:
    ready: Future[AsyncDriver] = Future()

    def main() -> None:
        try:
            run(ready)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=main)
    thread.start()
    try:
        yield ready.result(PATIENCE_S)
    finally:
        for end in stop:
            end()
        thread.join()


@contextlib.contextmanager
def blocking(socket: str, **options: Any) -> Iterator[HostingDriver]:
    with aiorch.Client(socket, **options) as client:
        yield BlockingDriver(client)


@contextlib.contextmanager
def on_asyncio(socket: str, **options: Any) -> Iterator[HostingDriver]:
    stop: list[Callable[[], None]] = []

    async def serve(ready: Future[AsyncDriver]) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        stop.append(lambda: (loop.call_soon_threadsafe(ended.set), None)[1])
        async with aiorch.AsyncClient(socket, **options) as client:
            ready.set_result(AsyncDriver(client, AsyncioLoop(loop)))
            await ended.wait()

    with _in_thread(lambda ready: asyncio.run(serve(ready)), stop) as driver:
        yield driver


@contextlib.contextmanager
def on_trio(socket: str, **options: Any) -> Iterator[HostingDriver]:
    stop: list[Callable[[], None]] = []

    async def serve(ready: Future[AsyncDriver]) -> None:
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery, aiorch.AsyncClient(socket, **options) as client:
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            ready.set_result(AsyncDriver(client, TrioLoop(token, nursery)))
            await trio.sleep_forever()

    with _in_thread(lambda ready: trio.run(serve, ready), stop) as driver:
        yield driver


# any other program


class ProcessDriver:
    """A program that speaks lines of JSON; see the head of this file."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._calls = 0
        self._heard: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def call(self, method: str, **arguments: Any) -> Any:
        return _ProcessCall(self, *self.begin(method, arguments)).result()

    def start(self, **arguments: Any) -> Started:
        return _ProcessCall(self, *self.begin("complete", arguments))

    def stream(self, **arguments: Any) -> Streaming:
        return _ProcessCall(self, *self.begin("complete", {**arguments, "stream": True}))

    def begin(self, method: str, arguments: Mapping[str, Any]) -> tuple[int, queue.Queue[dict[str, Any]]]:
        with self._lock:
            self._calls += 1
            number = self._calls
        heard = self._heard[number] = queue.Queue()
        self.say({"id": number, "do": "call", "method": method, "arguments": arguments})
        return number, heard

    def say(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            self._heard[message["id"]].put(message)
        for heard in self._heard.values():
            heard.put({"error": {"code": "connection_lost", "message": "the program ended"}})


class _ProcessCall:
    """A call of a program, streamed or not."""

    def __init__(self, driver: ProcessDriver, number: int, heard: queue.Queue[dict[str, Any]]) -> None:
        self._driver = driver
        self._number = number
        self._heard = heard
        self._result: Mapping[str, Any] | None = None

    def next(self) -> str | None:
        if self._result is not None:
            return None
        message = self._heard.get(timeout=PATIENCE_S)
        if "piece" in message:
            piece: str = message["piece"]
            return piece
        if "error" in message:
            raise _error(message["error"])
        self._result = message["result"]
        return None

    def result(self) -> Mapping[str, Any]:
        while self.next() is not None:
            pass
        return self.reply()

    def reply(self) -> Mapping[str, Any]:
        assert self._result is not None
        return self._result

    def cancel(self) -> None:
        self._driver.say({"id": self._number, "do": "cancel"})

    close = cancel


def _error(error: Mapping[str, Any]) -> aiorch.AiorchError:
    if error["code"] == "connection_lost":
        return aiorch.ConnectionLost(str(error.get("message")))
    if error["code"] == "unreachable":
        return aiorch.Unreachable(str(error.get("message")))
    return error_from_wire(dict(error))


@contextlib.contextmanager
def program(command: Sequence[str], socket: str) -> Iterator[Driver]:
    process = subprocess.Popen([*command, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    driver = ProcessDriver(process)
    try:
        yield driver
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(PATIENCE_S)
        driver.listener.join()
        process.stdout.close()
