"""Waiting on trio: parked tasks, and one task per connection that reads, in a nursery of the client's ``async with``.

A parked task costs a fifth of an Event and a Lock. Trio is imported when the host already runs on it, never before.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiorch.aio_link import MOST_THREADS, AsyncLink
from aiorch.callbacks import Callback
from aiorch.exchange import Mover

if TYPE_CHECKING:
    import trio


class TrioRuntime:
    """See `Runtime`."""

    def __init__(self) -> None:
        import trio

        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._manager: Any = None
        self._nursery: trio.Nursery | None = None
        self._threads: trio.CapacityLimiter | None = None

    def now(self) -> float:
        """See `Runtime`."""
        return self._trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """See `Runtime`."""
        await self._trio.sleep(seconds)

    def lock(self) -> trio.Lock:
        """See `Runtime`."""
        return self._trio.Lock()

    async def park(self, pending: Mover, deadline: float) -> None:
        """See `Runtime`."""
        if deadline == math.inf:
            await self._park(pending)
            return
        with self._trio.CancelScope(deadline=deadline) as scope:
            await self._park(pending)
        if scope.cancelled_caught:
            raise TimeoutError

    async def _park(self, pending: Mover) -> None:
        lowlevel = self._trio.lowlevel
        may_go: trio.lowlevel.Abort = lowlevel.Abort.SUCCEEDED

        def abort(_: object) -> trio.lowlevel.Abort:
            pending.waiter = None
            return may_go

        pending.waiter = lowlevel.current_task()
        await lowlevel.wait_task_rescheduled(abort)

    async def step(self) -> None:
        """See `Runtime`."""
        await self._trio.lowlevel.checkpoint()

    def wake(self, pending: Mover) -> None:
        """See `Runtime`."""
        task = pending.waiter
        if task is not None:
            pending.waiter = None
            self._trio.lowlevel.reschedule(task)

    def next_turn(self, act: Callable[[], None]) -> None:
        """See `Runtime`."""
        if self._nursery is not None:
            self._nursery.start_soon(_do, act, name="aiorch client writer")

    def soon(self, act: Callable[[], None]) -> None:
        """See `Runtime`."""
        try:
            self._token.run_sync_soon(act)
        except self._trio.RunFinishedError:
            pass  # and its connections are closed

    def watch(self, link: AsyncLink) -> None:
        """See `Runtime`."""
        if self._nursery is not None:
            self._nursery.start_soon(self._read, link, name="aiorch client reader")

    def watch_for_room(self, link: AsyncLink) -> None:
        """See `Runtime`."""
        if self._nursery is not None:
            link.waits_for_room = True
            self._nursery.start_soon(self._write, link, name="aiorch client writer")

    def unwatch(self, link: AsyncLink) -> None:
        """See `Runtime`."""
        self._trio.lowlevel.notify_closing(link.connection)

    def spawn(self, act: Callable[[], Awaitable[None]]) -> None:
        """See `Runtime`."""
        if self._nursery is not None:
            self._nursery.start_soon(act, name="aiorch client host")

    async def run(self, callback: Callback, act: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
        """See `Runtime`."""
        said: Any = None
        error: BaseException | None = None
        with self._trio.CancelScope() as scope:
            callback.on_called_off = scope.cancel
            if callback.request.called_off:
                scope.cancel()
            try:
                said = await act()
            except Exception as raised:  # barrier: a function of the host
                error = raised
            finally:
                callback.on_called_off = None
        return said, error

    async def in_thread(self, act: Callable[[], Any]) -> Any:
        """See `Runtime`."""
        if self._threads is None:  # not Trio's own, which the host needs
            self._threads = self._trio.CapacityLimiter(MOST_THREADS)
        return await self._trio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._threads)

    async def open(self) -> None:
        """See `Runtime`."""
        self._manager = self._trio.open_nursery()
        self._nursery = await self._manager.__aenter__()

    async def close(self) -> None:
        """See `Runtime`."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            self._nursery = None
            # The body's own exception is not shown to the nursery, which would wrap it in a group.
            await self._manager.__aexit__(None, None, None)

    async def _read(self, link: AsyncLink) -> None:
        wait_readable = self._trio.lowlevel.wait_readable
        try:
            while not link.closed:
                await wait_readable(link.connection)
                link.readable()
        except self._trio.ClosedResourceError:
            pass  # unwatched

    async def _write(self, link: AsyncLink) -> None:
        wait_writable = self._trio.lowlevel.wait_writable
        try:
            while not (link.exchange.written or link.closed):
                await wait_writable(link.connection)
                link.writable()
        except self._trio.ClosedResourceError:
            pass  # unwatched
        finally:
            link.waits_for_room = False


async def _do(act: Callable[[], None]) -> None:
    act()
