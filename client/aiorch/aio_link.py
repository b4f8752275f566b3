"""One connection of an asynchronous client, and what it needs of the event loop it runs on."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from aiorch.callbacks import Callback, Serving
from aiorch.errors import CallError
from aiorch.exchange import Mover, Pending
from aiorch.line import READ_BYTES, Line
from aiorch.questions import Question

MOST_THREADS: Final = 256
"""Functions that block, run at once; as many questions as the daemon has open to one connection."""


class Runtime(Protocol):
    """What asyncio and trio do differently, and nothing else. Belongs to one client on one running loop."""

    def now(self) -> float:
        """Give the loop's time, which deadlines are on."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        ...

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """Make a lock."""
        ...

    async def park(self, pending: Mover, deadline: float) -> None:
        """Wait until `wake` is called for it. Raises TimeoutError, and whatever cancels a task."""
        ...

    async def step(self) -> None:
        """Let others run, where the loop's manners ask for it, when there is nothing to wait for."""
        ...

    def wake(self, pending: Mover) -> None:
        """Let whoever is parked on it go on; without anybody parked do nothing."""
        ...

    def next_turn(self, act: Callable[[], None]) -> None:
        """Have something done when all tasks that are ready now have run."""
        ...

    def soon(self, act: Callable[[], None]) -> None:
        """Have something done in the loop; from any thread, in the middle of anything, even after its end."""
        ...

    def watch(self, link: AsyncLink) -> None:
        """Call ``link.readable`` whenever there is something to read, until `unwatch`."""
        ...

    def watch_for_room(self, link: AsyncLink) -> None:
        """Call ``link.writable`` whenever the socket takes bytes, until that has written all."""
        ...

    def unwatch(self, link: AsyncLink) -> None:
        """Stop all watching: the socket is about to be closed."""
        ...

    def spawn(self, act: Callable[[], Awaitable[None]]) -> None:
        """Run something beside, until `close` cancels it. It must not raise."""
        ...

    async def run(self, callback: Callback, act: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
        """Run a function of the host for as long as its answer is wanted; gives its answer, or the `Exception` that it raised.
        Lets the cancellation of the calling task pass."""
        ...

    async def in_thread(self, act: Callable[[], Any]) -> Any:
        """Run something that blocks. A cancelled wait leaves it running."""
        ...

    async def open(self) -> None:
        """Begin."""
        ...

    async def close(self) -> None:
        """End all that runs on behalf of the client."""
        ...


class AsyncLink(Line):
    """A connection for tasks. Everything happens in the loop's thread, and only `wait` lets others run."""

    def __init__(
        self, connection: socket.socket, runtime: Runtime, *, careful: bool = False, held: bool = False
    ) -> None:
        super().__init__(connection, careful=careful, held=held)
        self._runtime = runtime
        self._abandoned: deque[Pending] = deque()
        self.waits_for_room = False
        """Whether somebody watches for the socket to take more; kept by the runtime."""
        self._writes_soon = False
        runtime.watch(self)

    def ask(self, question: Question[Any]) -> Pending:
        """Send a question; what the socket does not take at once leaves in the background. Raises as `Exchange.ask`.

        A question that is alone leaves now. One of many waits until all tasks that run in this turn of the loop have
        asked theirs, so that they leave together: a system call, and waking the daemon, cost more than the rest.
        """
        exchange = self.exchange
        alone = not exchange.in_flight
        pending = exchange.ask(question)
        if alone:
            self._written(self.flush())
        elif not (self._writes_soon or self.waits_for_room):
            self._writes_soon = True
            self._runtime.next_turn(self._write_together)
        return pending

    async def wait(self, pending: Mover, deadline: float) -> None:
        """Wait until the question has moved on. Raises TimeoutError; the question then still stands."""
        if pending.moved:
            await self._runtime.step()
            return
        while not pending.moved:
            await self._runtime.park(pending, deadline)

    def forget(self, pending: Pending) -> None:
        """Lose interest in an answer; the daemon is told."""
        self.exchange.forget(pending)
        self._written(self.flush())

    def serve(self) -> Serving:
        """Take questions of the daemon to registered models from now on: `wait` for them, and `answer` each."""
        return self.exchange.serve()

    def answer(self, callback: Callback, answer: Any, error: CallError | None) -> None:
        """Answer a question of the daemon; what the socket does not take at once leaves in the background. Does nothing when
        nobody waits for it any more."""
        self.exchange.answer(callback, answer, error)
        self._written(self.flush())

    def release(self) -> None:
        """Let the questions leave that were held back; what the socket does not take at once leaves in the background."""
        self.exchange.release()
        self._written(self.flush())

    def cancel(self, call_id: str | int) -> None:
        """Have a call cancelled that some task waits for, if it is on this connection."""
        if self.exchange.ended is None:
            self.exchange.cancel(call_id)
            self._written(self.flush())

    def abandon(self, pending: Pending) -> None:
        """Do as `forget` does from a destructor, which may run in any thread and in the middle of anything."""
        self._abandoned.append(pending)
        self._runtime.soon(self._forget_abandoned)

    def close(self) -> None:
        """End it; whoever waits is told."""
        self._wake(self.exchange.lost("this client was closed"))
        self._reap()

    def readable(self) -> None:
        """Read what there is; for the runtime."""
        try:
            data = self.connection.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._wake(self.exchange.lost(error.strerror or str(error)))
            self._reap()
            return
        self._written(self.take(data))

    def writable(self) -> None:
        """Write what waits; for the runtime."""
        self._written(self.flush())

    def _write_together(self) -> None:
        self._writes_soon = False
        self._written(self.flush())

    def _written(self, moved: list[Mover]) -> None:
        """Wake who moved, and see to it that what was not written will be."""
        if moved:
            self._wake(moved)
        exchange = self.exchange
        if exchange.retiring:
            self._reap()
        if not (exchange.written or self.waits_for_room or self.closed):
            self._runtime.watch_for_room(self)

    def _wake(self, moved: list[Mover]) -> None:
        for pending in moved:
            self._runtime.wake(pending)

    def _forget_abandoned(self) -> None:
        while self._abandoned:
            self.forget(self._abandoned.popleft())

    def _reap(self) -> None:
        if self.exchange.unneeded and not self.closed:
            self._runtime.unwatch(self)
            self.connection.close()
