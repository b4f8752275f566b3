"""A cache in memory, bounded by entries and by bytes, that forgets what was used longest ago and what is out of date.

Every step is O(1): a dict in order of use (Python's ``OrderedDict``, a doubly linked list), and expiry looked at only
where one is anyway: at the entry that is asked for, and at the two that were used longest ago whenever one is added,
so that what expired does not wait for the bounds to push it out.

Wall time is handed in, since lifetimes are in wall time and entries move to and from a disk that outlives the process.
A clock may be set back; an entry from the future by more than `CLOCK_TOLERANCE_S` counts as expired, otherwise setting
the clock back by a day would keep yesterday's answers for a day more.

This is for what is promised for a time, so that nothing but age decides. Answers are kept by uses instead: `s3_fifo`.

Values are opaque; whoever puts them says what they weigh.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, TypeVar

ValueT = TypeVar("ValueT")

CLOCK_TOLERANCE_S: Final = 60.0
"""How far the wall clock may be set back before entries made earlier count as being from the future."""

_SWEPT_PER_PUT: Final = 2


@dataclass(frozen=True, slots=True)
class MemoryCacheStatistics:
    """What a `MemoryCache` holds and did. ``evictions`` made room, ``expired`` were found out of date, ``refused`` were
    heavier than the whole cache may be."""

    entries: int
    bytes: int
    max_entries: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int
    expired: int
    refused: int


class Entry(Generic[ValueT]):
    """One value with its weight and its times."""

    __slots__ = ("expires_at", "settled", "size_bytes", "stored_at", "uses", "value")

    def __init__(self, value: ValueT, size_bytes: int, stored_at: float, expires_at: float) -> None:
        self.value = value
        self.size_bytes = size_bytes
        self.stored_at = stored_at
        self.expires_at = expires_at
        # For a policy that counts uses (see `s3_fifo`); the plain order of use needs neither.
        self.uses = 0
        self.settled = False

    def is_fresh(self, now: float) -> bool:
        """Tell whether it may be given out."""
        return self.stored_at - CLOCK_TOLERANCE_S <= now < self.expires_at


class MemoryCache(Generic[ValueT]):
    """Least recently used goes first. Bounds may be 0: then nothing is kept."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        # This is all the mutable state; the first in the order is the one used longest ago.
        self._entries: OrderedDict[bytes, Entry[ValueT]] = OrderedDict()
        self._bytes = 0
        self._epoch = 0
        self._hits = self._misses = self._evictions = self._expired = self._refused = 0
        self._max_entries = self._max_bytes = 0
        self.reconfigure(max_entries, max_bytes)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def epoch(self) -> int:
        """Moves on whenever somebody asked that something be forgotten: what was read elsewhere before that (from a disk,
        say) must not be put here afterwards."""
        return self._epoch

    def get(self, key: bytes, now: float) -> ValueT | None:
        """Find a fresh value, counting a hit or a miss and a use."""
        value = self.recall(key, now)
        if value is None:
            self._misses += 1
        return value

    def recall(self, key: bytes, now: float) -> ValueT | None:
        """Find a fresh value, counting a hit and a use; a miss is not counted: for a first look that `get` follows."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not entry.stored_at - CLOCK_TOLERANCE_S <= now < entry.expires_at:  # `is_fresh`, on the way of every hit
            self._drop(key)
            self._expired += 1
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry.value

    def take_back_hit(self) -> None:
        """The value found last was of no use: count a miss instead of a hit."""
        self._hits -= 1
        self._misses += 1

    def peek(self, key: bytes, now: float) -> ValueT | None:
        """Find a fresh value and change nothing."""
        entry = self._entries.get(key)
        return entry.value if entry is not None and entry.is_fresh(now) else None

    def put(self, key: bytes, value: ValueT, *, size_bytes: int, stored_at: float, expires_at: float) -> bool:
        """Keep a value, in place of any earlier one; tell whether it was kept.

        It is not when it weighs more than the whole cache may; an earlier value goes all the same, since it is out of
        date. Others that were used longer ago make room.
        """
        if size_bytes < 0:
            raise ValueError(f"size_bytes must not be negative, got {size_bytes}")
        if key in self._entries:
            self._drop(key)
        self._sweep(stored_at)
        if size_bytes > self._max_bytes or self._max_entries == 0:
            self._refused += 1
            return False
        self._bytes += size_bytes
        self._insert(key, Entry(value, size_bytes, stored_at, expires_at))
        self._evict()
        return key in self._entries

    def delete(self, key: bytes) -> bool:
        """Forget one entry; tell whether it was there."""
        self._epoch += 1
        if key not in self._entries:
            return False
        self._drop(key)
        return True

    def delete_where(self, condemned: Callable[[ValueT], bool]) -> list[bytes]:
        """Forget every entry whose value is ``condemned``; give their keys. Looks at all of them."""
        self._epoch += 1
        keys = [key for key, entry in self._entries.items() if condemned(entry.value)]
        for key in keys:
            self._drop(key)
        return keys

    def clear(self) -> int:
        """Forget everything; tell how many entries that were."""
        self._epoch += 1
        count = len(self._entries)
        self._entries.clear()
        self._bytes = 0
        return count

    def reconfigure(self, max_entries: int, max_bytes: int) -> None:
        """Set the bounds; what no longer fits goes at once."""
        if max_entries < 0 or max_bytes < 0:
            raise ValueError(f"bounds must not be negative, got {max_entries} entries and {max_bytes} bytes")
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._evict()

    def some_stored_at(self, limit: int) -> list[float]:
        """Give the times at which some entries were stored, at most ``limit``, chosen evenly."""
        step = max(1, -(-len(self._entries) // limit))
        return [entry.stored_at for entry in islice(self._entries.values(), 0, None, step)]

    def statistics(self) -> MemoryCacheStatistics:
        """Tell what is held and what was done."""
        return MemoryCacheStatistics(
            entries=len(self._entries),
            bytes=self._bytes,
            max_entries=self._max_entries,
            max_bytes=self._max_bytes,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            expired=self._expired,
            refused=self._refused,
        )

    # What another policy does otherwise: where a new entry goes, which ones leave.

    def _insert(self, key: bytes, entry: Entry[ValueT]) -> None:
        self._entries[key] = entry

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEPT_PER_PUT):
            oldest = next(iter(self._entries), None)
            if oldest is None or self._entries[oldest].is_fresh(now):
                return
            self._drop(oldest)
            self._expired += 1

    def _evict(self) -> None:
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            _, entry = self._entries.popitem(last=False)
            self._bytes -= entry.size_bytes
            self._evictions += 1

    def _drop(self, key: bytes) -> None:
        self._bytes -= self._entries.pop(key).size_bytes
