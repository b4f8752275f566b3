"""The caller's own key: the same question sent again gets the same answer, once paid, for ten minutes.

A client that loses its connection cannot know whether its call was carried out. With a ``key`` of its own choosing it may
simply ask again. So a keyed call is carried out by a task of this stage: it goes on when its caller's connection breaks,
and its answer is there when the caller comes back, from whatever connection, as long as it is the same user.

The same key with another question is a mistake of the caller and is refused. Errors are not kept: asking again after a
failure asks the provider again. A streamed call is carried out by its caller's own task, since its pieces have only one
place to go; its answer is kept all the same, and given whole to whoever repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import trio

from aiorch.errors import CallError, DeadlineExceeded, InternalError, InvalidRequest
from aiorchd.calls.answer import to_body
from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service, WallClock
from aiorchd.calls.reply import Reply
from aiorchd.core.memory_cache import MemoryCache

KEPT_S: Final = 600.0
"""How long an answer is kept for its key."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer kept for a caller's key: which question it answers, and which call made it."""

    question: bytes
    reply: Reply
    source_id: str


@dataclass(frozen=True, slots=True)
class RepeatsStatistics:
    """Keyed calls being carried out now, answers kept, and how often one was given again."""

    running: int
    kept: int
    repeated: int


@dataclass(slots=True)
class _Running:
    question: bytes
    call_id: str
    done: trio.Event = field(default_factory=trio.Event)
    reply: Reply | None = None
    error: CallError | None = None


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class Repeats:
    """Answer a repeated key without asking again. ``kept`` outlives a reload; ``nursery`` outlives the calls.

    Raises `InvalidRequest` when a key comes with another question than before.
    """

    def __init__(
        self,
        inner: Service[Call],
        kept: MemoryCache[Kept],
        nursery: trio.Nursery,
        wall_clock: WallClock,
        log: Log,
    ) -> None:
        self._inner = inner
        self._kept = kept
        self._nursery = nursery
        self._wall_clock = wall_clock
        self._log = log
        # This is all the mutable state.
        self._running: dict[bytes, _Running] = {}
        self._repeated = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call``, or give again what its key was answered with."""
        name = call.repeat_key
        if name is None:
            return await self._inner(call)
        question = call.repeat_question
        kept = self._kept.get(name, self._wall_clock())
        if kept is not None:
            self._check(kept.question, question)
            return await self._give_again(call, kept.reply, kept.source_id)
        running = self._running.get(name)
        if running is None:
            if call.sink is not None:
                return self._keep(name, question, call, await self._inner(call))
            running = self._running[name] = _Running(question, call.id)
            self._nursery.start_soon(self._carry_out, name, call, running)
            await running.done.wait()
            return self._result(running)
        self._check(running.question, question)
        call.journal.note(
            trio.current_time(), "repeats", f"waits for the call {running.call_id}, which has the same key"
        )
        await running.done.wait()
        reply = self._result(running)
        return await self._give_again(call, reply, running.call_id)

    def statistics(self) -> RepeatsStatistics:
        """Tell what runs and what is kept."""
        return RepeatsStatistics(running=len(self._running), kept=len(self._kept), repeated=self._repeated)

    async def _carry_out(self, name: bytes, call: Call, running: _Running) -> None:
        try:
            with trio.CancelScope(deadline=call.deadline):
                running.reply = self._keep(name, running.question, call, await self._inner(call))
            if running.reply is None:
                running.error = DeadlineExceeded("the call ran out of time", stage="repeats")
        except CallError as error:
            running.error = error
        except Exception:  # barrier: shared flight
            self._log.exception("keyed_call_failed", call=call.id)
            running.error = InternalError("a defect in the daemon; its log has the details (journalctl -u aiorchd)")
        finally:
            del self._running[name]
            running.done.set()

    def _keep(self, name: bytes, question: bytes, call: Call, reply: Reply) -> Reply:
        now = self._wall_clock()
        self._kept.put(
            name,
            Kept(question, reply, call.id),
            size_bytes=len(to_body(reply)) + 500,
            stored_at=now,
            expires_at=now + KEPT_S,
        )
        return reply

    async def _give_again(self, call: Call, reply: Reply, source_id: str) -> Reply:
        self._repeated += 1
        call.journal.note(trio.current_time(), "repeats", f"the same key was answered by the call {source_id}")
        if call.sink is not None:
            if reply.text:
                await call.sink.send(text=reply.text)
            if reply.tool_calls:
                await call.sink.send(tool_calls=[{"index": i, **tool} for i, tool in enumerate(reply.tool_calls)])
        return replace(reply, cache="exact", saved_usd=reply.cost_usd, source_id=source_id, attempts=0)

    @staticmethod
    def _check(kept: bytes, asked: bytes) -> None:
        if kept != asked:
            raise InvalidRequest(
                "key: was used for another question in the last ten minutes; use a new key for a new question"
            )

    @staticmethod
    def _result(running: _Running) -> Reply:
        if running.reply is not None:
            return running.reply
        if running.error is None:
            raise DeadlineExceeded("the call ended without an answer", stage="repeats")
        raise running.error.again() from running.error
