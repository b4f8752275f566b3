"""What the daemon has asked the process at the other end of one connection, and what came back.

The connection's session moves the bytes and hands over answers; this keeps who waits for which. Every question is bounded by
whoever asks it, who cancels; the other side is told then, and its late answer is dropped. When the connection ends, so does
everything that was asked on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from aiorch.errors import CallError, HostError, LocalProtocolError, Overloaded, error_from_wire
from aiorch.protocol import Connection, Response
from aiorchd.doors.outbox import Outbox


class _Question:
    """One question under way."""

    __slots__ = ("answered", "error", "result")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.result: Any = None
        self.error: CallError | None = None


class Callbacks:
    """Questions to one peer; satisfies the port `HostPeer`. ``outbox`` is what its session writes to."""

    def __init__(self, wire: Connection, outbox: Outbox, *, at_most: int) -> None:
        self._wire = wire
        self._outbox = outbox
        self._at_most = at_most
        # This is all the mutable state.
        self._open: dict[int, _Question] = {}
        self._over = False
        self.on_quiet: Callable[[], None] | None = None
        """Called when nothing is asked any more."""

    @property
    def asked(self) -> int:
        """How many questions are not answered yet."""
        return len(self._open)

    async def ask(self, method: str, params: list[Any], *, cancels: bool = True) -> Any:
        """See `HostPeer`."""
        if self._over:
            raise _gone()
        if len(self._open) >= self._at_most:
            raise Overloaded(
                f"the process that answers for it has {self._at_most} questions open, as many as one connection may "
                "([daemon] max_host_calls_per_connection)",
                retry_after_s=0.1,
                stage="host",
            )
        try:
            msgid, data = self._wire.pack_request(method, params)
        except LocalProtocolError as error:
            raise HostError(f"the request cannot be sent to the host: {error}", stage="host") from None
        question = self._open[msgid] = _Question()
        sent = False
        try:
            if self._outbox.full:
                await self._outbox.room()
            sent = True
            self._outbox.write(data)
            await question.answered.wait()
        finally:
            if self._open.pop(msgid, None) is not None:
                if cancels and sent:
                    self._outbox.write(Connection.pack_notification("cancel", {"msgid": msgid}))
                self._quiet()
        if question.error is not None:
            try:
                raise question.error
            finally:
                del question  # no cycle through this frame
        return question.result

    def take(self, response: Response) -> None:
        """Take an answer; to a question that nobody asks any more it is ignored."""
        question = self._open.pop(response.msgid, None)
        if question is None:
            return
        if response.error is not None:
            question.error = error_from_wire(response.error)
            question.error.stage = None  # which stage failed is ours to say
        question.result = response.result
        question.answered.set()
        self._quiet()

    def close(self) -> None:
        """The connection is over: fail what is asked, refuse what will be."""
        self._over = True
        for question in self._open.values():
            question.error = _gone()
            question.answered.set()
        self._open.clear()
        self._quiet()

    def _quiet(self) -> None:
        if not self._open and self.on_quiet is not None:
            self.on_quiet()


def _gone() -> HostError:
    return HostError("the connection of the process that answers for it was lost", retryable=True, stage="host")
