"""The connections of an asynchronous client: which one to ask on, making one, sending again, the end."""

from __future__ import annotations

import math
import os
import sys
from typing import Any, Protocol, TypeVar

from aiorch.address import Dial, Patience
from aiorch.aio_link import AsyncLink, Runtime
from aiorch.exchange import Pending, Resending
from aiorch.questions import Question
from aiorch.reply import Server

T = TypeVar("T")


class Moving(Protocol):
    """What a client has to do elsewhere before it asks anything on a new connection."""

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        ...

    def begin(self, link: AsyncLink) -> None:
        """Do it beside, and let the questions leave that are held back on this connection when it is done, or cannot be."""
        ...


def current_runtime() -> Runtime:
    """Find out what the calling task runs on. Raises RuntimeError when that is neither asyncio nor trio.

    A host that runs on trio has imported it; under trio's guest mode both run, and the one whose task this is counts.
    """
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            from aiorch.on_trio import TrioRuntime

            return TrioRuntime()
    try:
        from aiorch.on_asyncio import AsyncioRuntime

        return AsyncioRuntime()
    except RuntimeError:
        raise RuntimeError("AsyncClient must be entered in a task of asyncio or trio") from None


class AsyncConnections:
    """For the tasks of one loop. Questions go to the newest connection; older ones live until theirs are answered."""

    def __init__(self, paths: tuple[str, ...], runtime: Runtime, *, connect_timeout_s: float, grace_s: float) -> None:
        self._paths = paths
        self.runtime = runtime
        self._connect_timeout_s = connect_timeout_s
        self._patience = Patience(connect_timeout_s)
        self._grace_s = grace_s
        self._pid = os.getpid()
        self._dialing = runtime.lock()
        self._link: AsyncLink | None = None
        self._links: list[AsyncLink] = []
        self.moving: Moving | None = None
        """Set once a model is registered."""
        self._closed = False

    @property
    def server(self) -> Server | None:
        """Who answered last, as far as it has said so."""
        return next((link.exchange.server for link in reversed(self._links) if link.exchange.server is not None), None)

    def deadline(self, question: Question[Any]) -> float:
        """Give the loop's time until which an answer is awaited from now."""
        if question.timeout_s is None:
            return math.inf
        return self.runtime.now() + question.patience_s(self._grace_s)

    async def send(self, question: Question[Any], deadline: float) -> tuple[AsyncLink, Pending]:
        """Send a question on the connection there is, or on a new one.

        Raises `Unreachable` and what `Exchange.ask` raises.
        """
        link = self._link
        if link is None or not link.usable or link.pid != os.getpid():
            link = await self._connect(deadline)
        return link, link.ask(question)

    def like_these(self) -> AsyncConnections:
        """Make others to the same daemon, for another purpose."""
        return AsyncConnections(
            self._paths, self.runtime, connect_timeout_s=self._connect_timeout_s, grace_s=self._grace_s
        )

    async def connected(self, deadline: float) -> AsyncLink:
        """Give the connection there is, or a new one. Raises `Unreachable`."""
        link = self._link
        if link is None or not link.usable or link.pid != os.getpid():
            link = await self._connect(deadline)
        return link

    async def again(self, question: Question[T], failed: Pending, resending: Resending, deadline: float) -> Question[T]:
        """Give the question to send once more, when it is time to; or raise what failed it."""
        question, pause_s = resending.again(question, failed, deadline - self._grace_s - self.runtime.now())
        if pause_s:
            await self.runtime.sleep(pause_s)
        return question

    def cancel(self, call_id: str | int) -> None:
        """Have a call cancelled, on whichever connection it is."""
        for link in self._links:
            link.cancel(call_id)

    def close(self) -> None:
        """End all; whoever waits is told."""
        self._closed = True
        if os.getpid() == self._pid:  # a forked child shares even the loop's selector, and must not touch it
            for link in self._links:
                link.close()

    async def _connect(self, deadline: float) -> AsyncLink:
        runtime = self.runtime
        started = runtime.now()
        give_up_at = min(deadline, self._patience.until(started, self._link))
        self._refuse_if_unusable()
        async with self._dialing:
            if self._link is not None and self._link.usable:
                return self._link
            self._refuse_if_unusable()
            dial = Dial(self._paths)
            while (connected := dial.attempt()) is None:
                now = runtime.now()
                if now + dial.delay_s > give_up_at:
                    raise dial.unreachable(now - started)
                await runtime.sleep(dial.delay_s)
                self._refuse_if_unusable()
            connection, path = connected
            moving = self.moving if self.moving is not None and self.moving.wanted else None
            careful = self._link is not None
            self._link = link = AsyncLink(connection, runtime, careful=careful, held=moving is not None)
            if moving is not None:
                moving.begin(link)
            self._links = [*(old for old in self._links if not old.closed), link]
            self._paths = (path,)  # another daemon, with another configuration, is no replacement for the one it knows
            return link

    def _refuse_if_unusable(self) -> None:
        if self._closed:
            raise RuntimeError("this client was closed")
        if os.getpid() != self._pid:
            raise RuntimeError("an AsyncClient does not survive a fork; make one in the child")
