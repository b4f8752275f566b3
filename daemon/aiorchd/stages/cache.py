"""Answers that are known already: exact hits, from memory and from disk.

An answer is kept under the key of its question (see ``core/request_key``) when it is whole, of any use, and passed its
validation. An answer cut at ``max_tokens`` is kept: it is the true answer to that question, which says where to cut, and
it says itself that it was cut. Empty answers, answers a provider broke off or its filter withheld, answers that failed
their schema and, needless to say, errors are not kept. Simulated answers are kept in memory and never on disk.

A kept answer carries its packed form, so that a hit costs the door a splice. What was read from disk goes to memory. A
body that no longer makes sense is a miss.

Modes of a call: ``use`` looks and keeps; ``refresh`` asks anew and keeps; ``bypass`` does neither; ``only`` looks and
fails with `NotFound` rather than ask. ``cache_ttl_s`` says how long this call's answer is kept, 0 not at all; it does not
bound the age of what is found. A hit on a streamed call is replayed to its sink in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn, TypeAlias

import trio

from aiorch.errors import LocalProtocolError, NotFound
from aiorch.protocol import pack
from aiorchd.calls.answer import fixed_fields, from_body, own_fields, to_body
from aiorchd.calls.call import Call
from aiorchd.calls.ports import AnswerStore, DeltaSink, Service, StoredAnswer, WallClock
from aiorchd.calls.reply import Reply
from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S, MemoryCache, MemoryCacheStatistics

Strategy: TypeAlias = Literal["memory", "disk", "hybrid", "off"]

MAX_TTL_S: Final = 3650 * 86_400.0
"""Longer lifetimes are cut to this."""

_WHOLE: Final = frozenset(
    (None, "stop", "length", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "max_tokens")
)
"""Finish reasons of answers that are kept; of others (content_filter, error, what tomorrow brings) nobody knows."""

_PIECE_CHARACTERS: Final = 80
_ENTRY_BYTES: Final = 1500
"""What a kept answer weighs besides its content, measured."""
_OBJECT_FACTOR: Final = 20
"""Bytes of Python objects per byte of packed data, at the least favourable: maps of short texts and small lists."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """An answer in memory. ``reply`` is marked as a hit already; ``packed_pairs`` are the packed names and values of the
    wire reply, ``pair_count`` of them, to which a hit adds its ``id`` and ``timing`` (none for embeddings).
    """

    reply: Reply
    packed_pairs: bytes
    pair_count: int
    stored_at: float
    expires_at: float
    source_id: str
    uid: int
    partition: str
    tags: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Calls that look on disk or are being replayed now; since this stage was built: answers found on disk, kept, and not
    kept; and what the two tiers say of themselves (None: not used)."""

    busy: int
    strategy: Strategy
    disk_hits: int
    kept: int
    not_kept: int
    memory: MemoryCacheStatistics | None
    disk: Mapping[str, Any] | None


class Cache:
    """Answer from what is kept, else ask and keep. ``memory`` and ``store`` outlive the stage; ``strategy`` says which of
    them are used; ``ttl_s`` is how long answers are kept when the call does not say.

    Raises `NotFound` for a call that wants only a kept answer, and whatever the inner service raises.
    """

    def __init__(
        self,
        inner: Service[Call],
        *,
        strategy: Strategy,
        memory: MemoryCache[Kept],
        store: AnswerStore | None,
        wall_clock: WallClock,
        ttl_s: float,
    ) -> None:
        self._inner = inner
        self._strategy: Strategy = strategy
        self._memory = memory if strategy in ("memory", "hybrid") else None
        self._store = store if strategy in ("disk", "hybrid") else None
        self._wall_clock = wall_clock
        self._ttl_s = ttl_s
        self._busy = self._disk_hits = self._kept = self._not_kept = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call`` from what is kept if it may be, else pass it on and keep the answer."""
        key, mode = call.key, call.cache
        if key is None or mode == "bypass" or (self._memory is None and self._store is None):
            if mode == "only":
                self._refuse(call)
            return await self._inner(call)
        if mode != "refresh":
            kept = await self._find(call, key)
            if kept is not None:
                return await self._give(call, kept)
            if mode == "only":
                self._refuse(call)
        reply = await self._inner(call)
        # From here to the end nothing waits: whoever comes next finds the answer.
        self._keep(call, key, reply)
        return reply

    def peek_fresh(self, key: bytes, now: float) -> Kept | None:
        """Find an answer in memory without waiting, ``now`` being wall time; a hit is counted, a miss is not, because the
        call will look again on its way down. For calls in mode ``use`` or ``only`` that are not streamed."""
        return self._memory.recall(key, now) if self._memory is not None else None

    async def forget(
        self,
        *,
        uid: int | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        everything: bool = False,
    ) -> int:
        """Delete, in both tiers, the answers that match all the given marks: those of one user (``uid`` None: of all), made
        by the call ``source_id``, kept by a call tagged ``tag``; with ``everything``, all of that user or of all users. Gives
        their number. An answer that is being read from disk meanwhile does not come back.
        """
        if not everything and source_id is None and tag is None:
            raise ValueError("say what to forget: source_id, tag, or everything")

        def condemned(kept: Kept) -> bool:
            return (
                (uid is None or kept.uid == uid)
                and (source_id is None or kept.source_id == source_id)
                and (tag is None or tag in kept.tags)
            )

        gone = set(self._memory.delete_where(condemned)) if self._memory is not None else set()
        if self._store is not None:
            on_disk = await self._store.delete(uid=uid, source_id=source_id, tag=tag, everything=everything)
            gone.update(on_disk)
            if self._memory is not None:
                gone.update(self._memory.delete_where(condemned))
                for key in on_disk:
                    self._memory.delete(key)
        return len(gone)

    async def clear(self, uid: int | None = None) -> int:
        """Forget everything of one user, or of all (None)."""
        return await self.forget(uid=uid, everything=True)

    def statistics(self) -> CacheStatistics:
        """Tell what goes on and what the tiers hold."""
        return CacheStatistics(
            busy=self._busy,
            strategy=self._strategy,
            disk_hits=self._disk_hits,
            kept=self._kept,
            not_kept=self._not_kept,
            memory=self._memory.statistics() if self._memory is not None else None,
            disk=self._store.statistics() if self._store is not None else None,
        )

    # finding

    async def _find(self, call: Call, key: bytes) -> Kept | None:
        if self._memory is not None:
            kept = self._memory.get(key, self._wall_clock())
            if kept is not None:
                return kept
        if self._store is None:
            return None
        epoch = self._memory.epoch if self._memory is not None else 0
        self._busy += 1
        try:
            stored = await self._store.get(key)
        finally:
            self._busy -= 1
        if self._memory is not None and self._memory.epoch != epoch:
            stored = None  # something was forgotten meanwhile, perhaps this
        now = self._wall_clock()
        if stored is not None and stored.stored_at - CLOCK_TOLERANCE_S <= now < stored.expires_at:
            kept = _from_disk(stored)
            if kept is not None:
                self._disk_hits += 1
                if self._memory is not None and self._memory.peek(key, now) is None:
                    self._to_memory(key, kept)
                call.journal.note(trio.current_time(), "cache", "found on disk")
                return kept
        # Somebody may have brought the answer while we looked.
        return self._memory.recall(key, now) if self._memory is not None else None

    async def _give(self, call: Call, kept: Kept) -> Reply:
        age_s = max(0.0, self._wall_clock() - kept.stored_at)
        call.journal.note(
            trio.current_time(), "cache", f"answered with what the call {kept.source_id} brought {age_s:.3g} s ago"
        )
        if call.sink is not None:
            self._busy += 1
            try:
                await _replay(kept.reply, call.sink)
            finally:
                self._busy -= 1
        return replace(kept.reply, age_s=age_s)

    def _refuse(self, call: Call) -> NoReturn:
        if self._strategy == "off":
            why = "the cache is off"
        elif call.key is None:
            why = "answers to such a call are never kept (it asks for chance, or its user has no number here)"
        else:
            why = "there is no kept answer to this question"
        raise NotFound(f'cache: "only" was asked for, and {why}', stage="cache")

    # keeping

    def _keep(self, call: Call, key: bytes, reply: Reply) -> None:
        ttl_s = min(self._ttl_s if call.cache_ttl_s is None else call.cache_ttl_s, MAX_TTL_S)
        if not ttl_s > 0 or not _is_worth_keeping(reply):
            self._not_kept += 1
            return
        now = self._wall_clock()
        source_id = reply.source_id or call.id
        if reply.cache == "coalesced":
            # The passenger who pays keeps the answer. The others do only if they come first: it may not want to.
            held = self._memory.peek(key, now) if self._memory is not None else None
            if self._memory is None or (held is not None and held.source_id == source_id):
                return
        owner = (call.caller.uid, call.partition, call.tags)
        kept = _kept(reply, now, now + ttl_s, source_id, *owner)
        if kept is None:
            self._not_kept += 1
            return
        self._kept += 1
        if self._memory is not None:
            self._to_memory(key, kept)
        if self._store is not None and not reply.simulated:
            self._store.put(
                StoredAnswer(
                    key=key,
                    body=to_body(reply),
                    stored_at=now,
                    expires_at=kept.expires_at,
                    source_id=source_id,
                    uid=kept.uid,
                    partition=kept.partition,
                    model=reply.model,
                    tags=kept.tags,
                    cost_usd=reply.cost_usd,
                )
            )

    def _to_memory(self, key: bytes, kept: Kept) -> None:
        assert self._memory is not None
        self._memory.put(key, kept, size_bytes=kept.size_bytes, stored_at=kept.stored_at, expires_at=kept.expires_at)


def _is_worth_keeping(reply: Reply) -> bool:
    if reply.finish_reason not in _WHOLE or reply.cache not in ("miss", "coalesced"):
        return False
    if reply.validation is not None and reply.validation.get("ok") is False:
        return False
    return bool(reply.text or reply.tool_calls or reply.vectors)


def _from_disk(stored: StoredAnswer) -> Kept | None:
    reply = from_body(stored.body)
    if reply is None:
        return None
    return _kept(
        reply, stored.stored_at, stored.expires_at, stored.source_id, stored.uid, stored.partition, stored.tags
    )


def _kept(
    reply: Reply,
    stored_at: float,
    expires_at: float,
    source_id: str,
    uid: int,
    partition: str,
    tags: tuple[str, ...],
) -> Kept | None:
    """Prepare an answer for hits; None when it holds what no wire carries."""
    hit = replace(
        reply,
        cache="exact",
        saved_usd=reply.cost_usd,
        source_id=source_id,
        age_s=0.0,
        attempts=0,
        queue_s=0.0,
        provider_s=0.0,
    )
    size_bytes = _ENTRY_BYTES
    try:
        objects = pack([hit.data, list(hit.tool_calls), hit.extra, hit.validation])
        if hit.vectors is None:
            fields = {**fixed_fields(hit), **own_fields(hit)}
            packed = pack(fields)[_header_bytes(len(fields)) :]
        else:
            fields, packed = {}, b""  # the door packs vectors as each caller wants them
            size_bytes += sum(len(vector) + 40 for vector in hit.vectors)
    except LocalProtocolError:
        return None
    size_bytes += len(packed) + 2 * len(hit.text) + _OBJECT_FACTOR * len(objects)
    return Kept(hit, packed, len(fields), stored_at, expires_at, source_id, uid, partition, tags, size_bytes)


def _header_bytes(pairs: int) -> int:
    return 1 if pairs < 16 else 3


async def _replay(reply: Reply, sink: DeltaSink) -> None:
    """Send a whole answer as a stream: its text in pieces, then its tool calls in OpenAI's delta shape."""
    for piece in _pieces(reply.text):
        await sink.send(text=piece)
    if reply.tool_calls:
        await sink.send(tool_calls=[{"index": index, **call} for index, call in enumerate(reply.tool_calls)])


def _pieces(text: str) -> Iterator[str]:
    """Cut text after blanks where there are some, into pieces of about `_PIECE_CHARACTERS`."""
    start = 0
    while start < len(text):
        end = start + _PIECE_CHARACTERS
        if end < len(text):
            blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = blank + 1 if blank > start else end
        yield text[start:end]
        start = end
