"""The cache that keeps what is used often: the bounds always hold, freshness is exact, a scan passes through."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S, MemoryCache
from aiorchd.core.s3_fifo import S3FifoCache


def put(cache: MemoryCache[Any], key: bytes, size_bytes: int = 1, expires_at: float = 100.0) -> bool:
    return cache.put(key, key, size_bytes=size_bytes, stored_at=0.0, expires_at=expires_at)


def full(popular: int, max_entries: int = 100) -> S3FifoCache[bytes]:
    """A cache whose first ``popular`` keys were used twice, with others put until they had settled."""
    cache: S3FifoCache[bytes] = S3FifoCache(max_entries, 10**6)
    for number in range(popular):
        put(cache, b"popular%d" % number)
        for _ in range(2):
            cache.recall(b"popular%d" % number, 1.0)
    for number in range(2 * max_entries):
        put(cache, b"filler%d" % number)
    return cache


def held(cache: S3FifoCache[bytes], popular: int) -> int:
    return sum(cache.peek(b"popular%d" % number, 1.0) is not None for number in range(popular))


def test_a_scan_ten_times_as_long_as_the_cache_leaves_what_is_popular() -> None:
    cache = full(80)
    for number in range(1000):
        put(cache, b"once%d" % number)
        if number % 5 == 0:
            cache.recall(b"popular%d" % (number // 5 % 80), 1.0)
    assert held(cache, 80) == 80


def test_what_is_not_used_any_more_goes() -> None:
    cache = full(80)
    for number in range(2000):
        for _ in range(3):
            cache.recall(b"fashion%d" % number, 1.0)
        put(cache, b"fashion%d" % number)
        for _ in range(2):
            cache.recall(b"fashion%d" % number, 1.0)
    assert held(cache, 80) == 0


def test_what_comes_again_soon_after_it_left_settles() -> None:
    cache = full(50)
    for number in range(60):
        put(cache, b"again%d" % number)
    assert cache.peek(b"again0", 1.0) is None
    put(cache, b"again0")
    for number in range(60):
        put(cache, b"once%d" % number)
    assert cache.peek(b"again0", 1.0) is not None


def test_what_had_settled_settles_again_when_it_is_put_anew() -> None:
    cache = full(80)
    assert cache.recall(b"popular0", 100.0) is None  # expired
    put(cache, b"popular0", expires_at=200.0)
    for number in range(200):
        put(cache, b"once%d" % number)
    assert cache.peek(b"popular0", 1.0) is not None


def test_a_scan_of_large_values_does_not_empty_it() -> None:
    cache: S3FifoCache[bytes] = S3FifoCache(1000, 1000)
    for number in range(90):
        put(cache, b"popular%d" % number, size_bytes=10)
        cache.recall(b"popular%d" % number, 1.0)
        cache.recall(b"popular%d" % number, 1.0)
    for number in range(100):
        assert put(cache, b"large%d" % number, size_bytes=150)
    assert held(cache, 90) >= 70
    assert cache.statistics().bytes <= 1000


def test_the_last_one_put_is_there_whatever_the_bounds() -> None:
    for entries in range(1, 12):
        cache: S3FifoCache[bytes] = S3FifoCache(entries, 10**6)
        for number in range(50):
            assert put(cache, b"%d" % number)
            assert cache.recall(b"%d" % number, 1.0) is not None


def test_remembered_keys_are_bounded() -> None:
    cache: S3FifoCache[bytes] = S3FifoCache(50, 10**6)
    for number in range(5000):
        put(cache, b"%d" % number)
        assert len(cache._remembered) <= 50
    cache.clear()
    assert not cache._remembered


def test_it_has_more_hits_than_the_order_of_use() -> None:
    rng = random.Random(7)
    weights = list(accumulate(1 / rank**0.9 for rank in range(1, 2001)))
    stream = rng.choices(range(2000), cum_weights=weights, k=20_000)
    rates = []
    for cache in (MemoryCache[bytes](200, 10**6), S3FifoCache[bytes](200, 10**6)):
        for number in stream:
            key = b"%d" % number
            if cache.get(key, 1.0) is None:
                put(cache, key)
        rates.append(cache.statistics().hits / len(stream))
    assert rates[1] > rates[0] + 0.04


KEYS = [b"a", b"b", b"c", b"d", b"e"]


class Model(RuleBasedStateMachine):
    """Whatever happens: what is found is what was put last, fresh and not forgotten, and the queues agree with the entries."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rows: dict[bytes, tuple[int, int, float, float]] = {}
        self.serial = 0

    @initialize(entries=st.integers(0, 5), size=st.integers(0, 60))
    def begin(self, entries: int, size: int) -> None:
        self.cache: S3FifoCache[int] = S3FifoCache(entries, size)
        self.max_entries, self.max_bytes = entries, size

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 40), ttl=st.floats(0, 50))
    def put(self, key: bytes, size: int, ttl: float) -> None:
        self.serial += 1
        kept = self.cache.put(key, self.serial, size_bytes=size, stored_at=self.now, expires_at=self.now + ttl)
        assert not kept or (size <= self.max_bytes and self.max_entries > 0)
        self.rows[key] = (self.serial, size, self.now, self.now + ttl)
        if not kept:
            del self.rows[key]

    @rule(key=st.sampled_from(KEYS), how=st.sampled_from(["get", "recall"]))
    def use(self, key: bytes, how: str) -> None:
        found = getattr(self.cache, how)(key, self.now)
        assert found is None or found == self.rows[key][0]

    @rule(seconds=st.floats(-100, 100))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: bytes) -> None:
        self.cache.delete(key)
        self.rows.pop(key, None)

    @rule(odd=st.booleans())
    def delete_some(self, odd: bool) -> None:
        for key in self.cache.delete_where(lambda value: value % 2 == odd):
            assert self.rows[key][0] % 2 == odd
        self.rows = {key: row for key, row in self.rows.items() if row[0] % 2 != odd}

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.rows.clear()

    @rule(entries=st.integers(0, 5), size=st.integers(0, 60))
    def reconfigure(self, entries: int, size: int) -> None:
        self.cache.reconfigure(entries, size)
        self.max_entries, self.max_bytes = entries, size

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def agrees(self) -> None:
        cache, statistics = self.cache, self.cache.statistics()
        assert statistics.entries == len(cache) <= self.max_entries
        assert statistics.bytes == sum(entry.size_bytes for entry in cache._entries.values()) <= self.max_bytes
        assert [*cache._new, *cache._settled] == sorted(cache._entries, key=[*cache._new, *cache._settled].index)
        assert set(cache._new) == {key for key, entry in cache._entries.items() if not entry.settled}
        assert cache._new_bytes == sum(cache._entries[key].size_bytes for key in cache._new)
        for key in KEYS:
            found, row = cache.peek(key, self.now), self.rows.get(key)
            if found is not None:
                assert row is not None
                assert found == row[0]
                assert row[2] - CLOCK_TOLERANCE_S <= self.now < row[3]


TestModel: Any = Model.TestCase
