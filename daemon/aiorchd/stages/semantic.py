"""Answers to questions that are nearly equal, below the exact cache: given only while they are proved to be right.

A call that reaches this stage was not found under its own key. When a kept question is near and the model of likeness is
sure enough, its answer is given, marked ``semantic``, with the call that made it, how alike the questions are and how sure
it is. Of those a share asks the model anyway, and so does everything the model of likeness is not sure of; the answer
that comes is compared to the kept one, which is all that is ever learned from. What may be near is decided before: only
questions with the same scope are looked at, which is everything of the request but the text of its last message.

The vector of a question is made here, or asked of a model (`stages.question_vectors`). That is waited for no longer than a
bound: then the call goes on as if nothing was near, and the question is kept when its vector has come by the end.

Not looked at: calls without a key or for samples (they ask for chance), with the modes ``bypass`` and ``only``, whose last
message is not plain text of a user, or longer than the configuration says; ``refresh`` learns and is given nothing, and so
is a question whose answer from here was called wrong, until it has one of its own.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio
from msgspec.structs import replace

from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.replay import replay
from aiorchd.calls.reply import Reply
from aiorchd.core.answer_likeness import answer_mark, prose_alike

_WHOLE: Final = frozenset((None, "stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use"))
"""Finish reasons of answers that say all they have to say; one that was cut is nobody else's answer."""

_COMPARED_CHARACTERS: Final = 8000


class Entry(Protocol):
    """A kept question; ``key`` is its answer's."""

    @property
    def key(self) -> bytes:
        """The key of its answer."""
        ...

    @property
    def mark(self) -> bytes:
        """What its answer says; see `core.answer_likeness`."""
        ...


class Thought(Protocol):
    """What is known of a call before the model is asked; see `runtime.semantic_records.Thought`."""

    nearest: Any
    row: Any
    likeness: float
    sureness: float | None
    threshold: float
    veto: str | None
    would_hit: bool
    serve: bool


class Memory(Protocol):
    """As much as is needed of `runtime.semantic_memory.SemanticMemory`."""

    @property
    def ready(self) -> bool:
        """Whether lookups make sense now."""
        ...

    def vector(self, text: str) -> bytes | None:
        """Give the vector of a text, made here."""
        ...

    def unit(self, vector: bytes) -> bytes | None:
        """Give a model's vector the length 1."""
        ...

    def blank(self, scope: bytes, text: str, vector: bytes) -> Any:
        """Give what `keep` needs of a question that is not looked for."""
        ...

    async def think(self, scope: bytes, text: str, vector: bytes, *, may_serve: bool) -> Any:
        """Judge the nearest kept question; None when nothing can be said."""
        ...

    def holds(self, entry: Any) -> bool:
        """Whether it has not been deleted meanwhile."""
        ...

    def served(self, call_id: str, uid: int, thought: Any, key: bytes) -> None:
        """An answer was given to the question of this key."""
        ...

    def misled(self, key: bytes) -> bool:
        """Whether this question got an answer lately that was called wrong."""
        ...

    def learn(self, thought: Any, *, right: bool) -> None:
        """The kept answer was right or wrong."""
        ...

    def keep(self, thought: Any, *, key: bytes, mark: bytes, source_id: str, uid: int) -> None:
        """Put the question in."""
        ...

    def drop(self, entry: Any) -> None:
        """Delete an entry."""
        ...

    def likeness(self, one: bytes | None, other: bytes | None) -> float:
        """Give the cosine of two vectors."""
        ...


class PendingVector(Protocol):
    """A vector that a model was asked for."""

    @property
    def vector(self) -> bytes | None:
        """What it gave, so far."""
        ...

    async def wait(self, limit_s: float) -> bytes | None:
        """Wait for it."""
        ...


class AskedVectors(Protocol):
    """As much as is needed of `stages.question_vectors.QuestionVectors`."""

    def begin(self, call: Call, text: str) -> PendingVector | None:
        """Ask for the vector of a text."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A kept answer."""

    reply: Reply
    source_id: str
    age_s: float


@dataclass(frozen=True, slots=True)
class SemanticStageStatistics:
    """Calls that read a kept answer or replay it now; and, since this stage was built, lookups that were ``skipped`` since
    no model gave a vector in time."""

    busy: int
    skipped: int


class Semantic:
    """Answer from a near question when that is proved to be right, else ask and learn.

    ``scope_of`` gives what must be equal and the text that need not be, None for calls that are not looked at; ``find`` gives the
    answer that is kept under a key, if it is (still) fresh. ``asked``, with the seconds that a lookup may wait for it and where
    to compare what nobody waits for, makes the vectors; without it ``memory`` does. Raises what the inner service raises.
    """

    def __init__(
        self,
        inner: Service[Call],
        memory: Memory,
        *,
        scope_of: Callable[[Call], tuple[bytes, str] | None],
        find: Callable[[bytes], Awaitable[Found | None]],
        asked: AskedVectors | None = None,
        wait_s: float = 0.0,
        nursery: trio.Nursery | None = None,
    ) -> None:
        self._inner = inner
        self._memory = memory
        self._scope_of = scope_of
        self._find = find
        self._asked = asked
        self._wait_s = wait_s
        self._nursery = nursery
        self._busy = self._skipped = 0

    def __call__(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Answer ``call``."""
        if not self._memory.ready or call.key is None or call.samples or call.cache not in ("use", "refresh"):
            return self._inner(call)
        return self._look(call)

    async def _look(self, call: Call) -> Reply:
        scoped = self._scope_of(call)
        if scoped is None:
            return await self._inner(call)
        vector, pending = self._memory.vector(scoped[1]) if self._asked is None else None, None
        if self._asked is not None:
            pending = self._asked.begin(call, scoped[1])
            given = await pending.wait(self._wait_s) if pending is not None else None
            vector = self._memory.unit(given) if given is not None else None
        if vector is None:
            return await self._go_without(call, pending, scoped)
        assert call.key is not None
        may_serve = call.cache == "use" and not self._memory.misled(call.key)
        thought: Thought | None = await self._memory.think(*scoped, vector, may_serve=may_serve)
        if thought is None:
            return await self._inner(call)
        if thought.serve:
            reply = await self._serve(call, thought)
            if reply is not None:
                return reply
        self._note(call, thought)
        reply = await self._inner(call)
        if reply.cache == "miss" and _is_whole(reply):
            await self._learn(call, thought, reply)
        return reply

    def statistics(self) -> SemanticStageStatistics:
        """Tell what goes on."""
        return SemanticStageStatistics(busy=self._busy, skipped=self._skipped)

    async def _go_without(self, call: Call, pending: PendingVector | None, scoped: tuple[bytes, str]) -> Reply:
        """Ask without having looked; keep the question if its vector has come meanwhile."""
        if self._asked is not None:
            self._skipped += 1
            call.journal.note(trio.current_time(), "semantic", "not looked at: its vector did not come in time")
        reply = await self._inner(call)
        given = pending.vector if pending is not None else None
        if given is not None and reply.cache == "miss" and _is_whole(reply):
            vector = self._memory.unit(given)
            thought = None if vector is None else self._memory.blank(*scoped, vector)
            if thought is not None:
                await self._learn(call, thought, reply)
        return reply

    async def _serve(self, call: Call, thought: Thought) -> Reply | None:
        found = await self._lookup(thought.nearest)
        if found is None or (call.cache_ttl_s is not None and found.age_s >= call.cache_ttl_s):
            return None
        assert thought.sureness is not None
        call.journal.note(
            trio.current_time(),
            "semantic",
            f"answered with what the call {found.source_id} brought {found.age_s:.3g} s ago: the questions are alike to "
            f"{thought.likeness:.3f}, and the answer is right with a probability of {thought.sureness:.3f} "
            f"({thought.threshold:.3f} is needed)",
        )
        # Before anything is sent: whoever says at once that it was wrong is understood.
        assert call.key is not None
        self._memory.served(call.id, call.caller.uid, thought, call.key)
        if call.sink is not None:
            self._busy += 1
            try:
                await replay(found.reply, call.sink)
            finally:
                self._busy -= 1
        return replace(
            found.reply,
            cache="semantic",
            source_id=found.source_id,
            saved_usd=found.reply.cost_usd,
            age_s=found.age_s,
            attempts=0,
            queue_s=0.0,
            provider_s=0.0,
            likeness=thought.likeness,
            confidence=thought.sureness,
        )

    async def _lookup(self, entry: Entry) -> Found | None:
        """Read the answer of an entry; one without an answer is dropped."""
        self._busy += 1
        try:
            found = await self._find(entry.key)
        finally:
            self._busy -= 1
        if found is None:
            self._memory.drop(entry)
            return None
        return found if self._memory.holds(entry) else None

    def _note(self, call: Call, thought: Thought) -> None:
        if thought.veto is not None:
            what = f"a question alike to {thought.likeness:.3f} is kept, and its answer is not given: {thought.veto}"
        elif thought.would_hit:
            what = (
                f"a kept answer would be right with a probability of {thought.sureness:.3f}; the model is asked all the same, "
                "to compare"
            )
        elif thought.sureness is not None:
            what = (
                f"a question alike to {thought.likeness:.3f} is kept; its answer would be right with a probability of "
                f"{thought.sureness:.3f}, and {thought.threshold:.3f} is needed"
            )
        else:
            return
        call.journal.note(trio.current_time(), "semantic", what)

    async def _learn(self, call: Call, thought: Thought, reply: Reply) -> None:
        assert call.key is not None
        mark, prose = answer_mark(reply.text, reply.data, reply.tool_calls)
        entry: Entry | None = thought.nearest
        # First, without a pause: whoever comes next finds the question.
        if call.cache_ttl_s != 0:
            self._memory.keep(
                thought, key=call.key, mark=mark, source_id=reply.source_id or call.id, uid=call.caller.uid
            )
        if entry is None or thought.row is None:
            return
        right = entry.mark == mark
        if right or not prose:
            self._take(call, thought, right=right)
            return
        found = await self._lookup(entry)
        if found is None:
            return
        if self._nursery is not None and self._asked is not None:
            # Nobody waits for what a model has to say of two answers.
            self._nursery.start_soon(self._compare, call, thought, found.reply.text, reply.text)
            return
        cosine = self._memory.likeness(self._memory.vector(found.reply.text), self._memory.vector(reply.text))
        self._take(call, thought, right=prose_alike(found.reply.text, reply.text, cosine))

    def _take(self, call: Call, thought: Thought, *, right: bool) -> None:
        """Learn from a comparison that ended before the call."""
        self._memory.learn(thought, right=right)
        if thought.would_hit:
            call.journal.semantic_right = right

    async def _compare(self, call: Call, thought: Thought, kept: str, said: str) -> None:
        """Compare prose by a model's vectors; without them nothing is learned."""
        assert self._asked is not None
        vectors = []
        for pending in [self._asked.begin(call, text[:_COMPARED_CHARACTERS]) for text in (kept, said)]:
            given = await pending.wait(math.inf) if pending is not None else None
            vectors.append(None if given is None else self._memory.unit(given))
        one, other = vectors
        if one is not None and other is not None:
            self._memory.learn(thought, right=prose_alike(kept, said, self._memory.likeness(one, other)))


def _is_whole(reply: Reply) -> bool:
    if reply.finish_reason not in _WHOLE or (reply.validation is not None and reply.validation.get("ok") is False):
        return False
    return bool(reply.text or reply.tool_calls)
