"""A cache in memory that keeps what is used often: S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache
eviction, SOSP 2023), bounded by entries and by bytes.

What is new waits in a short queue, a tenth of the whole. Whoever leaves it without having been asked for twice is gone, and
only its key is remembered for a while; the others settle in the long queue, as does whoever is put again while its key is
remembered. From the long queue goes what was not used since it was last looked at. So a scan, which asks for everything once,
pushes out other newcomers and nothing that has settled, where the plain order of use would be emptied by it.

Why this one. Measured by ``benchmarks/memory_tier.py`` on Zipf streams with and without scans, it comes as near to a
clairvoyant cache as W-TinyLFU (Einziger, Friedman, Manes, ACM TOS 13(4), 2017), within three points on still streams and
ahead where the popular changes; W-TinyLFU counts each hit in a sketch, three microseconds in Python and more than half of
what a hit costs here, while this counts to three in the entry, which is less work than moving it in an order. No library
was found that is bounded by entries and by bytes, forgets by predicate, and expires each entry in wall time it is handed: theine
(W-TinyLFU) bounds entries, keeps time itself and starts a thread; cachetools and cacheout have plain policies only.

Every step is O(1), amortised: an entry that is passed over in the long queue pays for it with a use. Remembered keys are never
more than the entries, or a tenth of those that were.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S, Entry, MemoryCache

ValueT = TypeVar("ValueT")

_MOST_USES: Final = 3
_USES_TO_SETTLE: Final = 2
_NEW_SHARE: Final = 10
"""The short queue has one in so many of the entries and of the bytes."""
_SWEPT_PER_PUT: Final = 2


class S3FifoCache(MemoryCache[ValueT]):
    """A `MemoryCache` where what is used seldom goes first. A value that was put may be gone at once when it is large and
    what is there is used more."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        # Keys in the order in which they came: the first leaves first.
        self._new: OrderedDict[bytes, None] = OrderedDict()
        self._settled: OrderedDict[bytes, None] = OrderedDict()
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        self._new_bytes = 0
        super().__init__(max_entries, max_bytes)

    def recall(self, key: bytes, now: float) -> ValueT | None:
        """Find a fresh value, counting a hit and a use; a miss is not counted."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not entry.stored_at - CLOCK_TOLERANCE_S <= now < entry.expires_at:  # `is_fresh`, on the way of every hit
            self._drop(key)
            self._expired += 1
            return None
        if entry.uses < _MOST_USES:
            entry.uses += 1
        self._hits += 1
        return entry.value

    def clear(self) -> int:
        """Forget everything; tell how many entries that were."""
        self._new.clear()
        self._settled.clear()
        self._remembered.clear()
        self._new_bytes = 0
        return super().clear()

    def _insert(self, key: bytes, entry: Entry[ValueT]) -> None:
        self._entries[key] = entry
        if self._remembered and key in self._remembered:
            del self._remembered[key]
            entry.settled = True
            self._settled[key] = None
        else:
            self._new[key] = None
            self._new_bytes += entry.size_bytes

    def _sweep(self, now: float) -> None:
        for queue in (self._new, self._settled) if self._settled else (self._new,):
            left = _SWEPT_PER_PUT
            while queue and left and not self._entries[oldest := next(iter(queue))].is_fresh(now):
                self._drop(oldest)
                self._expired += 1
                left -= 1

    def _evict(self) -> None:
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            if not self._settled or (len(self._new) > 1 and self._too_many_are_new()):
                self._pass_new_on()
            else:
                self._pass_settled_on()
        if self._remembered:
            while len(self._remembered) > max(len(self._entries), self._max_entries // _NEW_SHARE):
                self._remembered.popitem(last=False)

    def _too_many_are_new(self) -> bool:
        if len(self._entries) > self._max_entries:
            return len(self._new) * _NEW_SHARE > self._max_entries
        return self._new_bytes * _NEW_SHARE > self._max_bytes

    def _pass_new_on(self) -> None:
        key, _ = self._new.popitem(last=False)
        entry = self._entries[key]
        self._new_bytes -= entry.size_bytes
        if entry.uses >= _USES_TO_SETTLE:
            entry.settled = True
            self._settled[key] = None
            return
        self._remembered[key] = None
        self._leave(key)

    def _pass_settled_on(self) -> None:
        key, _ = self._settled.popitem(last=False)
        entry = self._entries[key]
        if entry.uses:
            entry.uses -= 1
            self._settled[key] = None
            return
        self._leave(key)

    def _leave(self, key: bytes) -> None:
        self._bytes -= self._entries.pop(key).size_bytes
        self._evictions += 1

    def _drop(self, key: bytes) -> None:
        """Take out what expired, was replaced or forgotten; one that was worth keeping settles when it is put again."""
        entry = self._entries.pop(key)
        self._bytes -= entry.size_bytes
        if entry.settled:
            del self._settled[key]
        else:
            del self._new[key]
            self._new_bytes -= entry.size_bytes
        if entry.settled or entry.uses >= _USES_TO_SETTLE:
            self._remembered[key] = None
