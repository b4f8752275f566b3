"""Waiting on asyncio.

The socket is watched with ``add_reader`` instead of being given to a transport: what a transport was handed is gone from
sight, and whether a question has left in full decides whether it may be sent again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from aiorch.aio_link import MOST_THREADS, AsyncLink
from aiorch.callbacks import Callback
from aiorch.exchange import Mover

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class AsyncioRuntime:
    """See `Runtime`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: ThreadPoolExecutor | None = None

    def now(self) -> float:
        """See `Runtime`."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """See `Runtime`."""
        await asyncio.sleep(seconds)

    def lock(self) -> asyncio.Lock:
        """See `Runtime`."""
        return asyncio.Lock()

    async def park(self, pending: Mover, deadline: float) -> None:
        """See `Runtime`."""
        pending.waiter = waiter = self._loop.create_future()
        alarm = None if deadline == math.inf else self._loop.call_at(deadline, _expire, waiter)
        try:
            await waiter
        finally:
            pending.waiter = None
            if alarm is not None:
                alarm.cancel()

    async def step(self) -> None:
        """See `Runtime`. Asyncio has no manners here: what need not wait does not let others run."""

    def wake(self, pending: Mover) -> None:
        """See `Runtime`."""
        waiter = pending.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def next_turn(self, act: Callable[[], None]) -> None:
        """See `Runtime`."""
        self._loop.call_soon(act)

    def soon(self, act: Callable[[], None]) -> None:
        """See `Runtime`."""
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:
            pass  # the loop is closed, and its connections with it

    def watch(self, link: AsyncLink) -> None:
        """See `Runtime`."""
        self._loop.add_reader(link.connection.fileno(), link.readable)

    def watch_for_room(self, link: AsyncLink) -> None:
        """See `Runtime`."""
        link.waits_for_room = True
        self._loop.add_writer(link.connection.fileno(), self._write, link)

    def unwatch(self, link: AsyncLink) -> None:
        """See `Runtime`."""
        descriptor = link.connection.fileno()
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)

    def spawn(self, act: Callable[[], Awaitable[None]]) -> None:
        """See `Runtime`."""

        async def run() -> None:
            await act()

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, callback: Callback, act: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
        """See `Runtime`."""

        async def run() -> Any:
            return await act()

        task = self._loop.create_task(run())
        callback.on_called_off = task.cancel
        if callback.request.called_off:
            task.cancel()
        try:
            # Not the task itself: it may be cancelled without this one being, and the other way round.
            await asyncio.wait((task,))
        finally:
            callback.on_called_off = None
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        if task.cancelled():
            return None, None
        error = task.exception()
        if error is None:
            return task.result(), None
        if isinstance(error, Exception):
            return None, error
        raise error

    async def in_thread(self, act: Callable[[], Any]) -> Any:
        """See `Runtime`."""
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            # Not the loop's own: that has few threads, and the host needs them.
            self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="aiorch-host-function")
        return await self._loop.run_in_executor(self._threads, copy_context().run, act)

    async def open(self) -> None:
        """See `Runtime`."""

    async def close(self) -> None:
        """See `Runtime`."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _write(self, link: AsyncLink) -> None:
        link.writable()
        if link.exchange.written and not link.closed:
            link.waits_for_room = False
            self._loop.remove_writer(link.connection.fileno())


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
