"""Answers to questions that are nearly equal, below the exact cache: given only while they are proved to be right.

A call that reaches this stage was not found under its own key. When a kept question is near and the model of likeness is
sure enough, its answer is given, marked ``semantic``, with the call that made it, how alike the questions are and how sure
it is. Of those a share asks the model anyway, and so does everything the model of likeness is not sure of; the answer
that comes is compared to the kept one, which is all that is ever learned from. What may be near is decided before: only
questions with the same scope are looked at, which is everything of the request but the text of its last message.

Not looked at: calls without a key or for samples (they ask for chance), with the modes ``bypass`` and ``only``, whose last
message is not plain text of a user, or longer than the configuration says; ``refresh`` learns and is given nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    """What is known of a call before the model is asked; see `runtime.semantic_memory.Thought`."""

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

    def think(self, scope: bytes, text: str, *, may_serve: bool) -> Any:
        """Judge the nearest kept question; None when nothing can be said."""
        ...

    def holds(self, entry: Any) -> bool:
        """Whether it has not been deleted meanwhile."""
        ...

    def served(self, call_id: str, uid: int, thought: Any) -> None:
        """An answer was given."""
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

    def likeness(self, one: str, other: str) -> float:
        """Give the cosine of two texts."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A kept answer."""

    reply: Reply
    source_id: str
    age_s: float


@dataclass(frozen=True, slots=True)
class SemanticStageStatistics:
    """Calls that read a kept answer or replay it now."""

    busy: int


class Semantic:
    """Answer from a near question when that is proved to be right, else ask and learn.

    ``scope_of`` gives what must be equal and the text that need not be, None for calls that are not looked at; ``find`` gives the
    answer that is kept under a key, if it is (still) fresh. Raises what the inner service raises.
    """

    def __init__(
        self,
        inner: Service[Call],
        memory: Memory,
        *,
        scope_of: Callable[[Call], tuple[bytes, str] | None],
        find: Callable[[bytes], Awaitable[Found | None]],
    ) -> None:
        self._inner = inner
        self._memory = memory
        self._scope_of = scope_of
        self._find = find
        self._busy = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call``."""
        if call.key is None or call.samples or call.cache not in ("use", "refresh") or not self._memory.ready:
            return await self._inner(call)
        scoped = self._scope_of(call)
        thought = None if scoped is None else self._memory.think(*scoped, may_serve=call.cache == "use")
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
        return SemanticStageStatistics(busy=self._busy)

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
        self._memory.served(call.id, call.caller.uid, thought)
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
        if not right and prose:
            found = await self._lookup(entry)
            if found is None:
                return
            kept = found.reply.text
            right = prose_alike(kept, reply.text, self._memory.likeness(kept, reply.text))
        self._memory.learn(thought, right=right)


def _is_whole(reply: Reply) -> bool:
    if reply.finish_reason not in _WHOLE or (reply.validation is not None and reply.validation.get("ok") is False):
        return False
    return bool(reply.text or reply.tool_calls)
