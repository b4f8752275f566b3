"""The caller's own key: the same question sent again gets the same answer, once paid, for ten minutes.

A client that loses its connection cannot know whether its call was carried out. With a ``key`` of its own choosing it may
simply ask again. So a keyed call is carried out by a task of this stage: it goes on when its caller's connection breaks,
and its answer is there when the caller comes back, from whatever connection, as long as it is the same user. Its deadline
is that of the latest who waits for it. Since it may end when nobody waits any more, it then tells its end itself: what it
cost was spent.

The same key with another question is a mistake of the caller and is refused. Errors are not kept: asking again after a
failure asks the provider again. A streamed call is carried out by its caller's own task, since its pieces have only one
place to go, and ends with it; its answer is kept all the same, and given whole to whoever repeats it. Who repeats it
while it runs waits, and asks in its place if it fails.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import trio
from msgspec.structs import force_setattr, replace

from aiorch.errors import CallError, DeadlineExceeded, GoingAway, InternalError, InvalidRequest
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


class Running:
    """One keyed call being carried out. Without reply and error in the end it was a stream that gave no answer."""

    __slots__ = ("call", "done", "error", "question", "reply", "scope")

    def __init__(self, question: bytes, call: Call) -> None:
        self.question = question
        self.call = call
        self.scope = trio.CancelScope(deadline=call.deadline)
        self.done = trio.Event()
        self.reply: Reply | None = None
        self.error: CallError | None = None

    def extend(self, deadline: float) -> None:
        """Let it go on for somebody with more time; a stream ends with its own caller."""
        if deadline > self.call.deadline and self.call.sink is None:
            self.scope.deadline = deadline
            # Frozen for everybody else: this one belongs to the stage, and who reads its deadline reads it now.
            force_setattr(self.call, "deadline", deadline)


@dataclass(frozen=True, slots=True)
class KeyedCalls:
    """What is known by callers' keys: answers kept, and calls that run. Outlives the stage: a key means the same before
    and after a reload."""

    kept: MemoryCache[Kept]
    running: dict[bytes, Running] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RepeatsStatistics:
    """Keyed calls being carried out now, answers kept, and how often one was given again."""

    running: int
    kept: int
    repeated: int


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class TellEnd(Protocol):
    """Records a call that ended without its caller."""

    def __call__(self, call: Call, reply: Reply | None, error: CallError | None, /, *, cancelled: bool = False) -> None:
        """Record how it ended."""
        ...


class Repeats:
    """Answer a repeated key without asking again. ``keyed`` outlives a reload; ``nursery`` outlives the calls; ``clock`` is
    monotonic: what is kept does not outlive the process.

    Raises `InvalidRequest` when a key comes with another question than before, and `GoingAway` when the nursery is torn
    down.
    """

    def __init__(
        self,
        inner: Service[Call],
        keyed: KeyedCalls,
        nursery: trio.Nursery,
        clock: WallClock,
        log: Log,
        tell_end: TellEnd,
    ) -> None:
        self._inner = inner
        self._kept = keyed.kept
        self._running = keyed.running
        self._nursery = nursery
        self._clock = clock
        self._log = log
        self._tell_end = tell_end
        self._repeated = 0

    def __call__(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Answer ``call``, or give again what its key was answered with."""
        name = call.repeat_key
        return self._inner(call) if name is None else self._answer(name, call)

    async def _answer(self, name: bytes, call: Call) -> Reply:
        while True:
            kept = self._kept.get(name, self._clock())
            if kept is not None:
                self._check(kept.question, call)
                return await self._give_again(call, kept.reply, kept.source_id)
            running = self._running.get(name)
            if running is None:
                if call.sink is not None:
                    return await self._stream(name, call)
                return await self._begin(name, call)
            self._check(running.question, call)
            running.extend(call.deadline)
            call.journal.note(
                trio.current_time(), "repeats", f"waits for the call {running.call.id}, which has the same key"
            )
            await running.done.wait()
            if running.error is not None:
                raise running.error.again() from running.error
            if running.reply is not None:
                return await self._give_again(call, running.reply, running.call.id)

    def statistics(self) -> RepeatsStatistics:
        """Tell what runs and what is kept."""
        return RepeatsStatistics(running=len(self._running), kept=len(self._kept), repeated=self._repeated)

    async def _stream(self, name: bytes, call: Call) -> Reply:
        running = self._running[name] = Running(call.repeat_question, call)
        try:
            running.reply = reply = await self._inner(call)
            self._keep(name, call, reply)
            return reply
        finally:
            del self._running[name]
            running.done.set()

    async def _begin(self, name: bytes, call: Call) -> Reply:
        """Have the call carried out, and wait for it."""
        running = self._running[name] = Running(call.repeat_question, replace(call))
        self._nursery.start_soon(self._carry_out, name, running)
        try:
            await running.done.wait()
        finally:
            call.journal.goes_on = not running.done.is_set()
        if running.reply is not None:
            return running.reply
        assert running.error is not None
        raise running.error.again() from running.error

    async def _carry_out(self, name: bytes, running: Running) -> None:
        call = running.call
        error: CallError | None = GoingAway(
            "the daemon is stopping; connect again to reach its successor", retry_after_s=1.0, stage="repeats"
        )
        cancelled = True
        try:
            with running.scope:
                running.reply = await self._inner(call)
                self._keep(name, call, running.reply)
                error = None
            if running.scope.cancelled_caught:
                error = DeadlineExceeded("the call ran out of time", stage="repeats")
            cancelled = False
        except CallError as raised:
            # Without traceback and causes: they hold the frames below, and this one.
            error, cancelled = raised.again(), False
        except Exception:  # barrier: shared flight
            self._log.exception("keyed_call_failed", call=call.id)
            error = InternalError("a defect in the daemon; its log has the details (journalctl -u aiorchd)")
            cancelled = False
        finally:
            running.error = error
            del self._running[name]
            running.done.set()
            if call.journal.goes_on:
                self._tell_end(call, running.reply, error, cancelled=cancelled)

    def _keep(self, name: bytes, call: Call, reply: Reply) -> None:
        now = self._clock()
        self._kept.put(
            name,
            Kept(call.repeat_question, reply, call.id),
            size_bytes=len(to_body(reply)) + 500,
            stored_at=now,
            expires_at=now + KEPT_S,
        )

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
    def _check(known: bytes, call: Call) -> None:
        if known != call.repeat_question:
            raise InvalidRequest(
                "key: was used for another question in the last ten minutes; use a new key for a new question"
            )
