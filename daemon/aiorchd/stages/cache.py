"""Answers that are known already: exact hits, from memory and from disk.

An answer is kept under the key of its question (see ``core/request_key``) when it is whole, of any use, and passed its
validation. An answer cut at ``max_tokens`` is kept: it is the true answer to that question, which says where to cut, and
it says itself that it was cut. Empty answers, answers a provider broke off or its filter withheld, answers that failed
their schema and, needless to say, errors are not kept. Simulated answers are kept in memory and never on disk.

A kept answer carries its packed form from when it is first given, so that a hit costs the door a splice. What was read from
disk goes to memory; what memory serves, the disk is told of now and then, so that it does not take it for unused. A body that no
longer makes sense is a miss.

Stale answers (RFC 5861): one that is out of date by at most ``stale_s`` is given at once, marked ``stale``, and asked for anew in
the background.

Samples: a call that asks for chance has no one answer. If it allows it (``Call.samples``, how many), so many answers to it are
kept beside each other, each under a key of its own; the provider is asked until all are there, and then each call gets one of
them by chance. They are kept as they were drawn: two may be equal, as the model likes.

A call of an operation may be kept under the key of its question without noise (``Call.exact_key`` is then the question's own):
one answer for all that differ only there. A hit on the very question is ``exact``, on another one ``normalised``. Whose an
answer is, is looked at again when it is found, whatever its key says.

Modes of a call: ``use`` looks and keeps; ``refresh`` asks anew and keeps; ``bypass`` does neither; ``only`` looks and
fails with `NotFound` rather than ask. ``cache_ttl_s`` says how old an answer to this call may be: none older is taken, from
neither tier, and its own is kept no longer; 0 takes and keeps none. A hit on a streamed call is replayed to its sink in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, Literal, NoReturn, Protocol, TypeAlias, TypeVar

import msgspec
import trio
from msgspec.structs import replace

from aiorch.errors import NotFound
from aiorchd.calls.answer import to_body
from aiorchd.calls.call import Call
from aiorchd.calls.kept import NEVER_GIVEN, Kept, kept_from_disk, kept_of
from aiorchd.calls.ports import AnswerStore, Service, StoredAnswer, WallClock
from aiorchd.calls.replay import replay
from aiorchd.calls.reply import Reply
from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S, MemoryCache, MemoryCacheStatistics

T = TypeVar("T")
Strategy: TypeAlias = Literal["memory", "disk", "hybrid", "off"]

MAX_TTL_S: Final = 3650 * 86_400.0
"""Longer lifetimes are cut to this."""
_SAMPLED: Final = 10_000
TOLD_EVERY_S: Final = 300.0
"""How often the disk hears that memory serves an answer."""

FOUND_ON_DISK: Final = "found on disk"
_WHOLE: Final = frozenset(
    (None, "stop", "length", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "max_tokens")
)
"""Finish reasons of answers that are kept; of others (content_filter, error, what tomorrow brings) nobody knows."""


class _Elsewhere(Enum):
    """What else a look in memory may find."""

    ON_DISK = "perhaps on disk"


class Refreshes(Protocol):
    """Who asks anew for what is stale."""

    def begin(self, call: Call, key: bytes, keep: Callable[[Call, bytes, Reply], None]) -> bool:
        """See to it that what ``call`` asked is asked anew, and the answer given to ``keep``; tells whether it will be."""
        ...


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Calls that look on disk or are being replayed now; since this stage was built: answers found on disk, given though stale,
    kept, and not kept; bodies that no longer made sense; and what the two tiers say of themselves (None: not used)."""

    busy: int
    strategy: Strategy
    disk_hits: int
    stale_hits: int
    kept: int
    not_kept: int
    unreadable: int
    memory: MemoryCacheStatistics | None
    disk: Mapping[str, Any] | None


class Wanted(msgspec.Struct, frozen=True):
    """A fresh exact answer that is wanted from disk: under which key, for whom (``shared``: everybody in the partition), and not
    older than ``max_age_s``. ``exact_key`` is the question's own where ``key`` is that of it without its noise; ``stale_s`` how
    long after its time memory shall keep it, when the call says so."""

    key: bytes
    uid: int
    partition: str
    shared: bool
    max_age_s: float | None
    exact_key: bytes | None
    stale_s: float | None


class Cache:
    """Answer from what is kept, else ask and keep. ``memory`` and ``store`` outlive the stage; ``strategy`` says which of
    them are used; ``ttl_s`` is how long answers are fresh when the call does not say, and ``stale_s`` how long after that they
    may still be given, when the call does not say; ``chance`` gives numbers from 0 to 1, for choosing among samples.

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
        stale_s: float = 0.0,
        refreshes: Refreshes | None = None,
        chance: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._inner = inner
        self._strategy: Strategy = strategy
        self._memory = memory if strategy in ("memory", "hybrid") else None
        self._store = store if strategy in ("disk", "hybrid") else None
        # Used or not, both keep what they hold for the day when they are used again: what is forgotten goes from both, and
        # what is kept in one takes away what is older in the other.
        self._tiers = (memory, store)
        self._on = self._memory is not None or self._store is not None
        self.may_bring: Callable[[bytes], bool] = (
            _nothing if self._memory is None or self._store is None else self._store.likely
        )
        """Tells, without looking, whether there is very probably an answer on disk that `bring` would keep in memory."""
        self._wall_clock = wall_clock
        self._ttl_s = min(ttl_s, MAX_TTL_S)
        self._stale_s = stale_s if refreshes is not None else 0.0
        self._refreshes = refreshes
        self._chance = chance
        # All that changes: samples that are being asked for, and counts.
        self._sampling: set[bytes] = set()
        self._busy = self._disk_hits = self._stale_hits = self._kept = self._not_kept = self._unreadable = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call`` from what is kept if it may be, else pass it on and keep the answer."""
        key, mode = call.key, call.cache
        if key is None or mode == "bypass" or not self._on or (call.tier is not None and not self._has_tier(call)):
            if mode == "only":
                self._refuse(call)
            return await self._inner(call)
        if call.samples:
            return await self._sample(call, key)
        if mode != "refresh":
            kept = self._find_at_once(call, key)
            if kept is _Elsewhere.ON_DISK:
                kept = await self._find_on_disk(call, key)
            if kept is not None:
                return await self._give(call, key, kept)
            if mode == "only":
                self._refuse(call)
        reply = await self._inner(call)
        # From here to the end nothing waits: whoever comes next finds the answer.
        self._keep(call, key, reply)
        return reply

    def peek_fresh(
        self, key: bytes, now: float, max_age_s: float | None = None, exact_key: bytes | None = None
    ) -> Kept | None:
        """Find an answer in memory without waiting, ``now`` being wall time; a hit is counted, a miss is not, because the
        call will look again on its way down. With an ``exact_key`` only the answer to that very question is found. For
        calls in mode ``use`` or ``only`` that are neither streamed nor samples."""
        memory = self._memory
        if memory is None:
            return None
        if exact_key is not None:
            alike = memory.peek(key, now)
            if alike is None or alike.reply.exact_key != exact_key:
                return None
        kept = memory.recall(key, now)
        if kept is None or (now < kept.look_at and max_age_s is None):
            return kept
        if now >= kept.expires_at or (max_age_s is not None and now - kept.stored_at >= max_age_s):
            memory.take_back_hit()
            return None
        self._use(key, kept, now)
        return kept

    async def bring(self, wanted: Wanted) -> Kept | None:
        """Find a fresh answer on disk, for such calls as `peek_fresh` serves, where it is known to be there, and keep it in
        memory. None is no answer yet: the call goes its way and looks again."""
        memory, store = self._memory, self._store
        if memory is None or store is None or not store.likely(wanted.key):
            return None
        return self._brought(memory, wanted, await self._read(memory, store, wanted.key))

    def bring_at_once(self, wanted: Wanted) -> Kept | None:
        """Do the same without giving anybody else a turn, where the disk lets nobody wait."""
        memory, store = self._memory, self._store
        if memory is None or store is None:
            return None
        stored = store.look(wanted.key)
        return None if stored is None else self._brought(memory, wanted, self._kept_from(store, stored))

    def _brought(self, memory: MemoryCache[Kept], wanted: Wanted, kept: Kept | None) -> Kept | None:
        now = self._wall_clock()
        if (
            kept is None
            or not kept.belongs_to(wanted.uid, wanted.partition, shared=wanted.shared)
            or not kept.stored_at - CLOCK_TOLERANCE_S <= now < kept.expires_at
            or (wanted.max_age_s is not None and now - kept.stored_at >= wanted.max_age_s)
            or kept.reply.exact_key != wanted.exact_key
        ):
            return None
        self._disk_hits += 1
        if memory.get(wanted.key, now) is None:  # which counts that it was not there
            usual_s = self._stale_s if wanted.stale_s is None or self._refreshes is None else wanted.stale_s
            self._to_memory(memory, wanted.key, kept, usual_s)
        return kept

    async def forget_keys(
        self,
        *,
        uid: int | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        operation: str | None = None,
        everything: bool = False,
    ) -> frozenset[bytes]:
        """Delete, in both tiers, the answers that match all the given marks: those of one user (``uid`` None: of all), made
        by the call ``source_id``, kept by a call tagged ``tag`` or of an ``operation`` (one of the two); with ``everything``,
        all of that user or of all users. Gives their keys. An answer that is being read from disk meanwhile does not come
        back, nor one in a tier that the strategy does not use now when it is used again.
        """
        if operation is not None:
            tag = _tag_of(operation) if tag is None else tag
        if not everything and source_id is None and tag is None:
            raise ValueError("say what to forget: source_id, tag, operation, or everything")

        def condemned(kept: Kept) -> bool:
            return (
                (uid is None or kept.uid == uid)
                and (source_id is None or kept.source_id == source_id)
                and (tag is None or tag in kept.tags)
            )

        memory, store = self._tiers
        gone = set(memory.delete_where(condemned))
        if store is not None:
            on_disk = await store.delete(uid=uid, source_id=source_id, tag=tag, everything=everything)
            gone.update(on_disk, memory.delete_where(condemned))
            for key in on_disk:
                memory.delete(key)
        return frozenset(gone)

    async def forget(
        self,
        *,
        uid: int | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        operation: str | None = None,
        everything: bool = False,
    ) -> int:
        """Do the same and give their number."""
        return len(
            await self.forget_keys(uid=uid, source_id=source_id, tag=tag, operation=operation, everything=everything)
        )

    async def clear(self, uid: int | None = None) -> int:
        """Forget everything of one user, or of all (None)."""
        return await self.forget(uid=uid, everything=True)

    async def ages(self) -> Mapping[str, Mapping[str, float | None]]:
        """Tell, for each tier in use, how old its oldest and its middle answer are; judged by a part of them when they are
        many, and None when there are none."""
        times: dict[str, list[float]] = {}
        if self._memory is not None:
            times["memory"] = self._memory.some_stored_at(_SAMPLED)
        if self._store is not None:
            times["disk"] = await self._store.some_stored_at()
        now = self._wall_clock()
        return {tier: _ages([max(0.0, now - at) for at in some]) for tier, some in times.items()}

    def statistics(self) -> CacheStatistics:
        """Tell what goes on and what the tiers hold."""
        return CacheStatistics(
            busy=self._busy,
            strategy=self._strategy,
            disk_hits=self._disk_hits,
            stale_hits=self._stale_hits,
            kept=self._kept,
            not_kept=self._not_kept,
            unreadable=self._unreadable,
            memory=self._memory.statistics() if self._memory is not None else None,
            disk=self._store.statistics() if self._store is not None else None,
        )

    # finding

    def _has_tier(self, call: Call) -> bool:
        return self._memory_of(call) is not None or self._store_of(call) is not None

    def _memory_of(self, call: Call) -> MemoryCache[Kept] | None:
        return self._memory if call.tier in (None, "hybrid", "memory") else None

    def _store_of(self, call: Call) -> AnswerStore | None:
        return self._store if call.tier in (None, "hybrid", "disk") else None

    async def _find(self, call: Call, key: bytes) -> Kept | None:
        """Look in memory, then on disk, for an answer that this call may be given."""
        kept = self._find_at_once(call, key)
        return await self._find_on_disk(call, key) if kept is _Elsewhere.ON_DISK else kept

    def _find_at_once(self, call: Call, key: bytes) -> Kept | _Elsewhere | None:
        """Look in memory for an answer that this call may be given."""
        memory, store = self._memory, self._store
        if call.tier is not None:
            memory, store = self._memory_of(call), self._store_of(call)
        if memory is not None:
            now = self._wall_clock()
            kept = memory.get(key, now)
            if kept is not None:
                if self._may_have(call, kept, now):
                    self._use(key, kept, now)
                    return kept
                memory.take_back_hit()
                return None  # nor is there a younger one on disk
        return None if store is None or store.absent(key) else _Elsewhere.ON_DISK

    async def _find_on_disk(self, call: Call, key: bytes) -> Kept | None:
        memory, store = self._memory_of(call), self._store_of(call)
        assert store is not None
        kept = await self._read(memory, store, key)
        now = self._wall_clock()
        if kept is not None and self._may_have(call, kept, now):
            self._disk_hits += 1
            if memory is not None and memory.peek(key, now) is None:
                self._to_memory(memory, key, kept, self._stale_of(call))
            call.journal.note(trio.current_time(), "cache", FOUND_ON_DISK)
            return kept
        # Somebody may have brought the answer while we looked.
        kept = memory.recall(key, now) if memory is not None else None
        if kept is None or not self._may_have(call, kept, now):
            return None
        self._use(key, kept, now)
        return kept

    async def _read(self, memory: MemoryCache[Kept] | None, store: AnswerStore, key: bytes) -> Kept | None:
        """Read an answer from disk; None also when something was forgotten meanwhile, perhaps this."""
        epoch = memory.epoch if memory is not None else 0
        self._busy += 1
        try:
            stored = await store.get(key)
        finally:
            self._busy -= 1
        if stored is None or (memory is not None and memory.epoch != epoch):
            return None
        return self._kept_from(store, stored)

    def _kept_from(self, store: AnswerStore, stored: StoredAnswer) -> Kept | None:
        kept = kept_from_disk(stored)
        if kept is None:
            self._unreadable += 1
            store.drop(stored.key)  # a call may look three times on its way
        return kept

    def _may_have(self, call: Call, kept: Kept, now: float) -> bool:
        if not kept.belongs_to(call.caller.uid, call.partition, shared=call.shared):
            return False
        if call.cache_ttl_s is not None and now - kept.stored_at >= call.cache_ttl_s:
            return False
        return kept.stored_at - CLOCK_TOLERANCE_S <= now < kept.expires_at + self._stale_of(call)

    def _stale_of(self, call: Call) -> float:
        if self._refreshes is None:
            return 0.0
        return self._stale_s if call.stale_s is None else call.stale_s

    async def _sample(self, call: Call, key: bytes) -> Reply:
        """Give one of the samples that are kept, if all are there, else ask for one more."""
        places = [_place(key, number) for number in range(call.samples)]
        found: list[tuple[bytes, Kept]] = []
        empty: list[bytes] = []
        for place in places:
            kept = await self._find(call, place)
            if kept is None:
                empty.append(place)
            else:
                found.append((place, kept))
        free = [place for place in empty if place not in self._sampling]
        if call.cache == "refresh":
            free = free or [self._one_of(places)]
        elif found and (call.cache == "only" or not free):
            place, kept = self._one_of(found)
            return await self._give(call, place, kept)
        elif call.cache == "only":
            self._refuse(call)
        if not free:  # as many as are wanted are being asked for
            return await self._inner(call)
        self._sampling.add(free[0])
        try:
            reply = await self._inner(call)
            self._keep(call, free[0], reply)
        finally:
            self._sampling.discard(free[0])
        return reply

    def _one_of(self, choices: Sequence[T]) -> T:
        return choices[min(int(self._chance() * len(choices)), len(choices) - 1)]

    async def _give(self, call: Call, key: bytes, kept: Kept) -> Reply:
        now = self._wall_clock()
        age_s = max(0.0, now - kept.stored_at)
        story = f"answered with what the call {kept.source_id} brought {age_s:.3g} s ago"
        given = replace(kept.reply, age_s=age_s)
        if kept.reply.exact_key != call.exact_key:
            story += ", whose question differs from this one only in noise"
            given = replace(given, cache="normalised")
        if now >= kept.expires_at:
            self._stale_hits += 1
            given = replace(given, cache="stale")
            asks = self._refreshes is not None and call.cache != "only" and self._refreshes.begin(call, key, self._keep)
            story += f", {now - kept.expires_at:.3g} s out of date; it is {'' if asks else 'not '}being asked for anew"
        call.journal.note(trio.current_time(), "cache", story)
        if call.sink is not None:
            self._busy += 1
            try:
                await replay(given, call.sink)
            finally:
                self._busy -= 1
        return given

    def _use(self, key: bytes, kept: Kept, now: float) -> None:
        """Make ready what is given for the first time. Count it on disk as used, now and then: there, what is not used goes
        first."""
        if now < kept.look_at:
            return
        if kept.look_at == NEVER_GIVEN:
            kept.make_ready()
            kept.look_at = min(kept.stored_at + TOLD_EVERY_S, kept.expires_at)
            if now < kept.look_at:
                return
        kept.look_at = min(now + TOLD_EVERY_S, max(now, kept.expires_at))
        if self._store is not None and not kept.reply.simulated:
            self._store.touch((key,))

    def _refuse(self, call: Call) -> NoReturn:
        if self._strategy == "off":
            why = "the cache is off"
        elif call.key is None:
            why = "answers to such a call are not kept (it asks for chance without cache_samples, or its user has no number here)"
        else:
            why = "there is no kept answer to this question"
        raise NotFound(f'cache: "only" was asked for, and {why}', stage="cache")

    # keeping

    def _keep(self, call: Call, key: bytes, reply: Reply) -> None:
        if reply.cache not in ("miss", "coalesced"):
            return  # it is kept already, for the question that it was given to first
        ttl_s = self._ttl_s
        if call.cache_ttl_s is not None:
            ttl_s = min(call.cache_ttl_s, MAX_TTL_S)
        elif call.keep_s is not None:
            ttl_s = min(call.keep_s, MAX_TTL_S)
        if not ttl_s > 0 or not _is_worth_keeping(reply):
            self._not_kept += 1
            return
        now = self._wall_clock()
        memory, store = self._memory, self._store
        if call.tier is not None:
            memory, store = self._memory_of(call), self._store_of(call)
        source_id = reply.source_id or call.id
        if reply.cache == "coalesced":
            # The passenger who pays keeps the answer. The others do only if they come first: it may not want to.
            held = memory.peek(key, now) if memory is not None else None
            if memory is None or (held is not None and held.source_id == source_id):
                return
        if call.exact_key is not None and reply.exact_key is None:
            reply = replace(reply, exact_key=call.exact_key)
        tags = call.tags if call.operation is None else (*call.tags, _tag_of(call.operation))
        kept = kept_of(reply, now, now + ttl_s, source_id, call.caller.uid, call.partition, tags)
        if kept is None:
            self._not_kept += 1
            return
        self._kept += 1
        if memory is not None:
            until = kept.expires_at + self._stale_of(call)
            memory.put(key, kept, size_bytes=kept.size_bytes, stored_at=now, expires_at=until)
        elif not reply.simulated and self._tiers[0].peek(key, now) is not None:
            self._tiers[0].delete(key)
        if reply.simulated:
            return
        if store is not None:
            store.put(
                StoredAnswer(
                    key,
                    to_body(reply),
                    now,
                    kept.expires_at,
                    source_id,
                    kept.uid,
                    kept.partition,
                    reply.model,
                    tags,
                    reply.cost_usd,
                )
            )
        elif self._tiers[1] is not None:
            self._tiers[1].drop(key)

    def _to_memory(self, memory: MemoryCache[Kept], key: bytes, kept: Kept, stale_s: float) -> None:
        """Keep what was read from disk and is given."""
        kept.look_at = min(kept.stored_at + TOLD_EVERY_S, kept.expires_at)
        memory.put(
            key,
            kept,
            size_bytes=kept.size_bytes,
            stored_at=kept.stored_at,
            expires_at=kept.expires_at + stale_s,
        )


def _nothing(_key: bytes) -> bool:
    return False


def _tag_of(operation: str) -> str:
    """Write an operation as a tag: with a character that no tag of a caller has."""
    return f"\x1foperation {operation}"


def _ages(ages: Sequence[float]) -> Mapping[str, float | None]:
    return {
        "oldest_age_s": max(ages, default=None),
        "median_age_s": sorted(ages)[len(ages) // 2] if ages else None,
    }


def _place(key: bytes, number: int) -> bytes:
    """Give the key under which one of several samples is kept."""
    digest = blake2b(b"sample %d of " % number + key, digest_size=len(key) - 1)
    return key[:1] + digest.digest()


def _is_worth_keeping(reply: Reply) -> bool:
    if reply.finish_reason not in _WHOLE:
        return False
    if reply.validation is not None and reply.validation.get("ok") is False:
        return False
    return bool(reply.text or reply.tool_calls or reply.vectors)
